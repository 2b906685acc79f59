// The commands of the control socket, and who may use them.
//
// One line for each, so that the server, its refusals and the tests agree. What a command takes and
// answers stands with the code that answers it.
#pragma once

#include <span>
#include <string_view>

namespace gatehouse {

enum class ControlRight : uint8_t {
  kRead,    // members of [gatehouse] control_group, too
  kChange,  // root and the user that the master runs as
};

struct ControlCommand {
  std::string_view name;
  ControlRight right;
};

inline constexpr ControlCommand kControlCommands[] = {
    {"status", ControlRight::kRead},
    {"explain", ControlRight::kRead},
    {"config_list", ControlRight::kRead},
    {"config_show", ControlRight::kRead},
    {"config_rollback", ControlRight::kChange},
    {"reload", ControlRight::kChange},
    {"certificate_reload", ControlRight::kChange},
    {"certificate_list", ControlRight::kRead},
    {"reopen", ControlRight::kChange},
    {"stop", ControlRight::kChange},
    {"upgrade", ControlRight::kChange},
    {"upgrade_cancel", ControlRight::kChange},
    {"zone_list", ControlRight::kRead},
    {"limit_list", ControlRight::kRead},
    {"limit_show", ControlRight::kRead},
    {"limit_set", ControlRight::kChange},
    {"limit_reset", ControlRight::kChange},
    {"target_register", ControlRight::kChange},
    {"target_deregister", ControlRight::kChange},
    {"target_registrations", ControlRight::kRead},
    {"breaker_list", ControlRight::kRead},
    {"breaker_open", ControlRight::kChange},
    {"breaker_close", ControlRight::kChange},
    {"canary_list", ControlRight::kRead},
    {"canary_start", ControlRight::kChange},
    {"canary_pause", ControlRight::kChange},
    {"canary_resume", ControlRight::kChange},
    {"canary_promote", ControlRight::kChange},
    {"canary_rollback", ControlRight::kChange},
    {"target_list", ControlRight::kRead},
    {"target_drain", ControlRight::kChange},
    {"target_disable", ControlRight::kChange},
    {"target_enable", ControlRight::kChange},
};

// Null where there is none of this name.
constexpr const ControlCommand* find_control_command(std::string_view name) {
  for (const ControlCommand& command : kControlCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

}  // namespace gatehouse
