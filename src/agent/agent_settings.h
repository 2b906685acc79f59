// What the agent takes from a configuration: its own section, and the logs that it rotates.
#pragma once

#include <string>
#include <vector>

#include "agent/log_rotator.h"
#include "agent/target_discovery.h"
#include "core/agent_conf.h"
#include "core/config.h"
#include "core/log.h"
#include "core/units.h"

namespace gatehouse {

struct AgentSettings {
  std::string state;  // empty: nothing is kept
  uint32_t history_keep = 0;
  Bytes history_size;
  SocketAddress listen;   // none: no HTTP
  SocketAddress api;      // none: no such socket
  std::string api_token;  // its file; empty: none
  TargetDiscovery::Settings discovery;
  std::vector<RotationRule> rotations;
  std::string error_log;  // empty where it is no file
  LogLevel error_log_level = LogLevel::kNotice;
  // What is odd about it, for the log.
  std::vector<std::string> warnings;
};

// Where several sections name one file, the first that has a rule counts.
AgentSettings agent_settings(const Config& config);

}  // namespace gatehouse
