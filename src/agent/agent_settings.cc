// Settings of the agent, out of a bound configuration. See agent_settings.h.
#include "agent/agent_settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/log_conf.h"
#include "core/process_conf.h"

namespace gatehouse {
namespace {

void add_rule(AgentSettings& settings, const std::string& path, const LogRotation& rotation) {
  if (!rotation.rotates() || is_standard_stream(path)) return;
  const auto same = std::find_if(settings.rotations.begin(), settings.rotations.end(),
                                 [&path](const RotationRule& rule) { return rule.path == path; });
  if (same == settings.rotations.end()) {
    settings.rotations.push_back({path, rotation});
  } else if (same->rotation != rotation) {
    settings.warnings.push_back(
        fmt::format("{} has two rules for its rotation; the first counts: {}", path,
                    ValueType<LogRotation>::format(same->rotation)));
  }
}

}  // namespace

AgentSettings agent_settings(const Config& config) {
  AgentSettings settings;
  const auto& agent = config.sections("agent")[0].get<AgentConf>(kAgentTable);
  settings.state = agent.state.path;
  settings.history_keep = agent.history_keep;
  settings.history_size = agent.history_size;
  settings.listen = agent.listen.address;
  if (!agent.api_socket.path.empty()) {
    // As long as a path may be: the table has seen to that.
    settings.api = *SocketAddress::parse("unix:" + agent.api_socket.path);
  }
  settings.api_token = agent.api_token.path;
  settings.discovery = {agent.resolver, agent.resolver_stale};
  const auto& gatehouse = config.sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
  if (!is_standard_stream(gatehouse.error_log.path)) settings.error_log = gatehouse.error_log.path;
  settings.error_log_level = gatehouse.error_log.level;
  add_rule(settings, gatehouse.error_log.path, gatehouse.error_log_rotate);
  for (const ConfigSection& section : config.sections("log")) {
    const auto& log = section.get<LogConf>(kLogTable);
    add_rule(settings, log.file, log.rotate);
  }
  return settings;
}

}  // namespace gatehouse
