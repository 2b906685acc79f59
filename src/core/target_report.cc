// See target_report.h.
#include "core/target_report.h"

#include "core/target_verdict.h"

namespace gatehouse {

const char* target_state_name(TargetStand state) {
  switch (state) {
    case TargetStand::kUp:
      return "up";
    case TargetStand::kDown:
      return "down";
    case TargetStand::kEjected:
      return "ejected";
    case TargetStand::kDrained:
      return "drained";
    case TargetStand::kDisabled:
      return "disabled";
  }
  return "?";
}

std::vector<TargetReport> report_targets(const TrafficTable& table, uint64_t now_ms) {
  std::vector<TargetReport> all;
  for (const TrafficTable::Listed& listed : table.list(TrafficKind::kTarget)) {
    if (listed.holds == 0) continue;
    // An upstream's name has no slash but where a route's URL made it, and such have no rows.
    const size_t slash = listed.name.find('/');
    if (slash == std::string::npos) continue;
    const TrafficRow& row = table.row(listed.index);
    TargetReport one;
    one.upstream = listed.name.substr(0, slash);
    one.target = listed.name.substr(slash + 1);
    one.settings = TargetSettings::unpack(row.settings.load(std::memory_order_relaxed));
    one.in_flight = table.sum(listed.index, &TrafficCell::in_flight);
    one.latency_us = row.latency.load(std::memory_order_relaxed) >> 32;
    const TargetVerdict verdict = TargetVerdict::unpack(row.health.load(std::memory_order_relaxed));
    one.checked = one.settings.checked && verdict.state != TargetVerdict::State::kUnknown;
    one.check_up = verdict.state == TargetVerdict::State::kUp;
    const uint64_t until = row.ejection.load(std::memory_order_relaxed) >> 24;
    if (until > now_ms) one.ejected_ms = until - now_ms;
    const uint64_t admin = row.admin.load(std::memory_order_relaxed) & 0xff;
    if (admin == static_cast<uint64_t>(TargetAdmin::kDisabled)) {
      one.state = TargetStand::kDisabled;
    } else if (admin == static_cast<uint64_t>(TargetAdmin::kDrain)) {
      one.state = TargetStand::kDrained;
    } else if (one.ejected_ms != 0) {
      one.state = TargetStand::kEjected;
    } else if (one.checked && !one.check_up) {
      one.state = TargetStand::kDown;
    }
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace gatehouse
