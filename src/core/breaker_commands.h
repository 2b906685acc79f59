// What `gatehouse breaker` asks of the master; see core/state_commands.h for how.
//
//   breaker_list  {"upstream": NAME?}   {"breakers": [{"upstream", "target"?, "state", "cause",
//                                        "openings", "failures_in_row", "successes", "probes",
//                                        "opened_total", "changed_ms_ago"?, "open_ms"?}]}
//   breaker_open  {"upstream", "target"?, "for_ms"?}   {"changed": N}
//   breaker_close {"upstream", "target"?}              {"changed": N}
//
// Without a target: the upstream's own breaker and those of all its targets. "open_ms" is how long
// it will still be open; absent where an operator opened it without an end.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

Result<nlohmann::json> breaker_list_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> breaker_open_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> breaker_close_command(SharedMemory& shared, const nlohmann::json& request);

}  // namespace gatehouse
