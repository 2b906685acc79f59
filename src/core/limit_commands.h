// What `gatehouse limit` asks of the master; see core/state_commands.h for how.
//
//   limit_list   {}                              {"limits": [LIMIT]}
//   limit_show   {"name", "key": [WORD]?}        LIMIT with "top": [{"key", "requests", "refused",
//                                                "error"}], and where a key was given "budget":
//                                                {"used", "remaining", "retry_ms", "under_way"}
//   limit_set    {"name", "rate", "keep": BOOL}  {"before", "rate"}
//   limit_reset  {"name", "key": [WORD]?}        {"known": BOOL}
//
//   LIMIT        {"name", "key", "scope", "rate"?, "file_rate"?, "kept"?, "concurrency"?, "cost",
//                "mode", "parent"?, "keys_max"?, "keys_used"?, "admitted", "refused",
//                "concurrency_refused", "dry_run", "evicted", "uncounted"}
//
// A key is given in words, one for each part; with `scope = route` the route's name is the first.
// "file_rate" is there where another rate is in force; "kept": also beyond the next reload. The
// rate "file" brings the file's back. Counts of top keys are of about the last minutes.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

Result<nlohmann::json> limit_list_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> limit_show_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> limit_set_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> limit_reset_command(SharedMemory& shared, const nlohmann::json& request);

// What `status` says about limits: their counters, and no key of anybody.
nlohmann::json limit_status(SharedMemory& shared);

}  // namespace gatehouse
