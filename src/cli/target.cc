// See target.h.
#include "cli/target.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;
using Command = CommandLine::Command;

constexpr Duration kTimeout{30'000};

std::string milliseconds_of(const json& object, const char* key) {
  if (!object.contains(key)) return "-";
  return std::to_string((control_number(object, key) + 500) / 1000) + " ms";
}

const char* command_of(Command command) {
  switch (command) {
    case Command::kTargetDrain:
      return "target_drain";
    case Command::kTargetDisable:
      return "target_disable";
    case Command::kTargetEnable:
      return "target_enable";
    default:
      return "target_list";
  }
}

}  // namespace

std::string target_text(const json& answer) {
  std::vector<std::vector<std::string>> rows = {{"UPSTREAM", "TARGET", "STATE", "CHECK", "WEIGHT",
                                                 "IN FLIGHT", "MOST", "LATENCY", "EJECTED"}};
  const json none = json::array();
  const json& list = answer.contains("targets") ? answer["targets"] : none;
  for (const json& one : list) {
    const uint64_t most = control_number(one, "connections_max");
    const std::string check = control_text(one, "check");
    rows.push_back({control_text(one, "upstream"), control_text(one, "target"),
                    control_text(one, "state"), check.empty() ? "-" : check,
                    std::to_string(control_number(one, "weight")) +
                        (control_flag(one, "backup") ? " backup" : ""),
                    std::to_string(control_number(one, "in_flight")),
                    most == 0 ? "-" : std::to_string(most), milliseconds_of(one, "latency_us"),
                    one.contains("ejected_ms")
                        ? format_age(static_cast<int64_t>(control_number(one, "ejected_ms")) * 1000)
                        : "-"});
  }
  if (rows.size() == 1) return "no target has shared state\n";
  return format_table(rows);
}

int run_target(const CommandLine& line) {
  json body = json::object();
  if (!line.names.empty()) body["upstream"] = line.names[0];
  if (line.names.size() > 1) body["target"] = line.names[1];
  const char* const command = command_of(line.command);
  return run_question(line, command, std::move(body), kTimeout, [&line](const json& answer) {
    if (line.command == Command::kTargetList) std::fputs(target_text(answer).c_str(), stdout);
  });
}

}  // namespace gatehouse
