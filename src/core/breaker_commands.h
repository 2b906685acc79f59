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
#include <string>
#include <vector>

#include "core/breaker.h"
#include "core/result.h"
#include "core/shared_memory.h"
#include "core/traffic_table.h"

namespace gatehouse {

// A breaker that some configuration has set up for what workers name now.
struct ListedBreaker {
  uint32_t index = 0;  // in the table
  std::string upstream;
  std::string target;  // empty: the upstream's own
  BreakerReport report;
};
// In the order of their names, those of whole upstreams first.
std::vector<ListedBreaker> list_breakers(const TrafficTable& table);

// For `gatehouse status`: how many stand how, and those that are not closed (at most 100).
void add_breaker_status(SharedMemory& shared, nlohmann::json& status);

Result<nlohmann::json> breaker_list_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> breaker_open_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> breaker_close_command(SharedMemory& shared, const nlohmann::json& request);

}  // namespace gatehouse
