// See prometheus_targets.h.
#include "http/prometheus_targets.h"

#include <fmt/format.h>

#include <cstdint>

#include "http/prometheus_text.h"

namespace gatehouse {

namespace {

// One gauge for each target.
template <typename Value>
void write_gauge(const std::vector<TargetReport>& targets, std::string_view metric,
                 std::string_view help, TextBuffer& out, Value value) {
  write_head(out, metric, "gauge", help);
  for (const TargetReport& target : targets) {
    append_text(out, metric);
    append_text(out, "{");
    append_label(out, "upstream", target.upstream);
    append_text(out, ",");
    append_label(out, "target", target.target);
    fmt::format_to(fmt::appender(out), "}} {}\n", static_cast<uint64_t>(value(target)));
  }
}

}  // namespace

void write_targets(const std::vector<TargetReport>& targets, TextBuffer& out) {
  if (targets.empty()) return;
  write_gauge(targets, "gatehouse_target_state",
              "State of each target: 0 up, 1 down, 2 ejected, 3 drained, 4 disabled", out,
              [](const TargetReport& target) { return target.state; });
  write_gauge(targets, "gatehouse_target_in_flight",
              "Requests in flight at each target, over all workers", out,
              [](const TargetReport& target) { return target.in_flight; });
  write_gauge(targets, "gatehouse_target_weight", "Configured weight of each target", out,
              [](const TargetReport& target) { return target.settings.weight; });
}

}  // namespace gatehouse
