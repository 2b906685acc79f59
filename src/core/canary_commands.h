// The control socket's commands on canaries (core/state_commands.h).
//
//   canary_list {"name"?}                -> {"canaries": [{"name", "route", "upstream", "state",
//        "share" (hundredths of a percent), "step" (from 1), "cause", "changes", "since_ms_ago",
//        "requests", "errors", "p95_us" (each [new, stable], since the step began)}]}
//   canary_start {"name"}                -> {"state", "share"}: from the first step on, by the
//   agent canary_pause, canary_resume          -> where it runs; where it is paused canary_promote,
//   canary_rollback      -> all requests to the new side; none
//
// Those that change something work without an agent, too; what follows a start or a resume waits
// for one.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

Result<nlohmann::json> canary_list_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> canary_start_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> canary_pause_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> canary_resume_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> canary_promote_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> canary_rollback_command(SharedMemory& shared, const nlohmann::json& request);

}  // namespace gatehouse
