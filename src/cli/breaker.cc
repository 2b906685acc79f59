// See breaker.h.
#include "cli/breaker.h"

#include <cstdio>
#include <utility>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/config_values.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;
using Command = CommandLine::Command;

constexpr Duration kTimeout{30'000};

std::string age_of(const json& object, const char* key) {
  if (!object.contains(key)) return "-";
  return format_age(static_cast<int64_t>(control_number(object, key)) * 1000);
}

}  // namespace

std::string breaker_text(const json& answer) {
  std::vector<std::vector<std::string>> rows = {{"UPSTREAM", "TARGET", "STATE", "SINCE",
                                                 "STILL OPEN", "OPENED", "FAILURES", "PROBES",
                                                 "CAUSE"}};
  const json none = json::array();
  const json& list = answer.contains("breakers") ? answer["breakers"] : none;
  for (const json& one : list) {
    const std::string target = control_text(one, "target");
    const std::string state = control_text(one, "state");
    const bool endless = state == "open" && !one.contains("open_ms");
    rows.push_back({control_text(one, "upstream"), target.empty() ? "(all)" : target, state,
                    age_of(one, "changed_ms_ago"),
                    endless ? "until closed" : age_of(one, "open_ms"),
                    std::to_string(control_number(one, "opened_total")),
                    std::to_string(control_number(one, "failures_in_row")),
                    std::to_string(control_number(one, "probes")), control_text(one, "cause")});
  }
  if (rows.size() == 1) return "there is no breaker\n";
  return format_table(rows);
}

int run_breaker(const CommandLine& line) {
  json body = json::object();
  if (!line.names.empty()) body["upstream"] = line.names[0];
  if (line.names.size() > 1) body["target"] = line.names[1];
  if (!line.period.empty()) {
    const Result<Duration> period = ValueType<Duration>::parse(line.period);
    if (!period || *period <= Duration::zero()) {
      return complain("\"" + line.period + "\" is no time; expected " +
                      ValueType<Duration>::expected());
    }
    body["for_ms"] = period->count();
  }
  const char* const command = line.command == Command::kBreakerList   ? "breaker_list"
                              : line.command == Command::kBreakerOpen ? "breaker_open"
                                                                      : "breaker_close";
  return run_question(line, command, std::move(body), kTimeout, [&line](const json& answer) {
    if (line.command == Command::kBreakerList) {
      std::fputs(breaker_text(answer).c_str(), stdout);
      return;
    }
    const uint64_t changed = control_number(answer, "changed");
    std::printf("%llu breaker%s %s\n", static_cast<unsigned long long>(changed),
                changed == 1 ? "" : "s",
                line.command == Command::kBreakerOpen ? "opened" : "closed");
  });
}

}  // namespace gatehouse
