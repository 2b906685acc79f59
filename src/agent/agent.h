// The agent: everything that can wait, in a process that may die without the traffic noticing.
//
// It is driven by the master over one socket pair (core/control_peer.h):
//   hello {}                                   -> {"pid","version"}
//   validate {"generation","by","time_us"} + fd of a sealed ConfigSource
//                                              -> fd with the CheckAnswer as JSON, {"number"}
//   store {"generation","time_us","by","outcome","error"} + fd, where there is one   -> {"number"}
//   current {"generation"} + fd + fd           -> {}; the agent takes its settings from the first,
//                                              the second is core/traffic_plan.h as JSON
//   history_list {"limit","before"}            -> {"versions":[…],"more":bool}, the newest first
//   history_get {"number"}                     -> fd of the bytes, {"version":{…}}; 0: the running
//   target_register {"upstream","address","registration"}, target_deregister and
//   target_registrations                       -> as agent/target_api.h answers
//   reopen {} + fd of the error log            -> {}
//   shutdown {}                                -> {}; then it ends
// and asks it: reopen {} after moving logs away (the answer may bring the new error log), status
// {}.
//
// One thread runs the loop, with the heartbeat, the messages and HTTP. Checking, the history and
// packing old logs have a thread each, so that none of them stops the heartbeat or another one.
//
// What fails costs its own request and a line in the log. A configuration that is good but cannot
// be kept because the disk is full is answered with an error; where there is no usable folder for
// the history at all, this is said at the start, and checks only bring a "warning".
// Ends when the channel closes, on `shutdown`, TERM or INT.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/check_answer.h"
#include "core/config.h"
#include "core/config_source.h"
#include "core/result.h"
#include "core/shared_memory.h"
#include "core/unique_fd.h"

namespace gatehouse {

// What the program lends the agent, which itself knows nothing of HTTP or modules.
struct AgentParts {
  // Both are called on other threads than the loop's.
  std::function<CheckAnswer(std::shared_ptr<const ConfigSource>)> check;
  std::function<Config(const ConfigSource&, ConfigErrors&)> bind;
  // The gateway's metrics as Prometheus' text.
  std::function<std::string()> metrics;
  std::string version;
};

class Agent {
 public:
  // Fails where the kernel refuses something that the agent cannot do without.
  static Result<std::unique_ptr<Agent>> start(AgentParts parts, UniqueFd channel,
                                              SharedMemory& shared);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  ~Agent();

  // Serves to the end. False where something still runs that does not hear: leave without
  // destroying the agent then.
  bool run();

 private:
  struct State;
  explicit Agent(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse
