// See canary.h.
#include "cli/canary.h"

#include <fmt/format.h>

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

constexpr Duration kTimeout{30'000};

std::string share_of(const json& object) {
  return ValueType<Percent>::format({static_cast<uint32_t>(control_number(object, "share"))});
}

uint64_t number_in(const json& list, size_t i) {
  return list.size() > i && list[i].is_number_unsigned() ? list[i].get<uint64_t>() : 0;
}

// Of one side: "1200", "3 (0.25%)", "12.5ms".
struct Side {
  std::string requests, errors, p95;
};
Side side_of(const json& canary, size_t i) {
  const uint64_t requests = number_in(control_array(canary, "requests"), i);
  const uint64_t errors = number_in(control_array(canary, "errors"), i);
  const auto ms = static_cast<double>(number_in(control_array(canary, "p95_us"), i)) / 1000;
  if (requests == 0) return {"0", "-", "-"};
  return {std::to_string(requests),
          fmt::format("{} ({:.2f}%)", errors,
                      100.0 * static_cast<double>(errors) / static_cast<double>(requests)),
          fmt::format("{:.1f}ms", ms)};
}

}  // namespace

std::string canary_text(const json& answer) {
  std::vector<std::vector<std::string>> rows = {{"CANARY", "ROUTE", "SIDE", "SHARE", "STATE",
                                                 "STEP", "SINCE", "REQUESTS", "ERRORS", "95%",
                                                 "CAUSE"}};
  for (const json& one : control_array(answer, "canaries")) {
    const uint64_t step = control_number(one, "step");
    const std::string since =
        one.contains("since_ms_ago")
            ? format_age(static_cast<int64_t>(control_number(one, "since_ms_ago")) * 1000)
            : "-";
    const Side fresh = side_of(one, 0);
    const Side stable = side_of(one, 1);
    rows.push_back({control_text(one, "name"), control_text(one, "route"),
                    control_text(one, "upstream"), step == 0 ? "-" : share_of(one),
                    control_text(one, "state"), step == 0 ? "-" : std::to_string(step), since,
                    fresh.requests, fresh.errors, fresh.p95, control_text(one, "cause")});
    rows.push_back(
        {"", "", "(stable)", "", "", "", "", stable.requests, stable.errors, stable.p95, ""});
  }
  if (rows.size() == 1) return "there is no canary\n";
  return format_table(rows);
}

int run_canary(const CommandLine& line) {
  json body = json::object();
  if (!line.names.empty()) body["name"] = line.names[0];
  return run_question(
      line, "canary_" + line.word, std::move(body), kTimeout, [&line](const json& answer) {
        if (line.word == "list") {
          std::fputs(canary_text(answer).c_str(), stdout);
        } else if (line.word == "start") {
          std::printf("canary %s begins anew\n", line.names[0].c_str());
        } else {
          std::printf("canary %s is %s, at %s\n", line.names[0].c_str(),
                      control_text(answer, "state").c_str(), share_of(answer).c_str());
        }
      });
}

}  // namespace gatehouse
