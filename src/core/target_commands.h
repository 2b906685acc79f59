// What `gatehouse target` asks of the master; see core/state_commands.h for how.
//
//   target_list    {"upstream": NAME?}       {"targets": [{"upstream", "target", "state",
//                                            "weight", "backup", "in_flight", "connections_max",
//                                            "latency_us"?, "ejected_ms"?, "check"?}],
//                                            "upstreams": [{"upstream", "waiting"}]}
//   target_drain   {"upstream", "target"}    {"changed": 1}   no new clients; those with a sticky
//                                                             cookie for it may come
//   target_disable {"upstream", "target"}    {"changed": 1}   no new requests
//   target_enable  {"upstream", "target"}    {"changed": 1}   as any other, in slow start
//
// "state" is up, down, ejected, drained or disabled: the first of these that keeps requests away,
// from the last to the first. A state that the operator set stays over reloads and upgrades, and as
// long as the gateway knows the target. Requests under way are finished in every state.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

// Adds "targets" to what `status` answers: how many there are, and how many in each state.
void add_target_status(SharedMemory& shared, nlohmann::json& status);

Result<nlohmann::json> target_list_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> target_drain_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> target_disable_command(SharedMemory& shared, const nlohmann::json& request);
Result<nlohmann::json> target_enable_command(SharedMemory& shared, const nlohmann::json& request);

}  // namespace gatehouse
