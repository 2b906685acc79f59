// Commands of the control socket that only look at or change the shared segment.
//
// What the workers decide by stands in shared memory, so that the master can answer for it and
// change it without asking a worker. Each command is a function in the file of its subject
// (core/limit_commands.cc, …); who may use it stands in core/control_commands.h. They run in the
// master's loop: bounded work, no waiting.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "core/control_message.h"
#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

struct StateCommand {
  std::string_view name;
  // `request` is the message's object; the result is the reply's.
  Result<nlohmann::json> (*run)(SharedMemory& shared, const nlohmann::json& request);
};

// Null where there is none of this name.
const StateCommand* find_state_command(std::string_view name);

// Runs it. Never fails: an error becomes a refusal.
ControlReply run_state_command(const StateCommand& command, SharedMemory& shared,
                               const nlohmann::json& request);

// A reply whose object may be too large for a message (kControlMessageMax): then it travels as a
// sealed memfd, and the message says {"attached": true}. take_attached_reply() undoes it.
ControlReply attach_if_large(nlohmann::json body);
Result<void> take_attached_reply(ControlReply& reply);

// Adds to the object that `status` answers with what the shared segment tells about traffic.
void add_state_status(SharedMemory& shared, nlohmann::json& status);

}  // namespace gatehouse
