// See breaker_commands.h.
#include "core/breaker_commands.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/breaker.h"
#include "core/clock.h"
#include "core/control_message.h"
#include "core/log.h"
#include "core/traffic_table.h"

namespace gatehouse {
namespace {

using nlohmann::json;

// The longest time that a command may keep one open: a month.
constexpr uint64_t kOpenMax = uint64_t{31} * 24 * 3600 * 1000;

// Breakers that are told in the status.
constexpr size_t kStatusMax = 100;

uint64_t now_ms() {
  return static_cast<uint64_t>(monotonic_now().us) / 1000;
}

// "users/10.0.0.1:80": what stands before and behind the slash that parts them. The path of a unix
// socket has slashes itself.
size_t slash_of(const std::string& name) {
  const size_t socket = name.find("/unix:");
  return socket != std::string::npos ? socket : name.rfind('/');
}

json describe(const TrafficTable& table, const ListedBreaker& breaker, uint64_t now) {
  const BreakerReport& report = breaker.report;
  json about = {{"upstream", breaker.upstream},
                {"state", breaker_state_name(report.stand.state)},
                {"cause", breaker_cause_text(report.stand.cause)},
                {"openings", report.stand.openings},
                {"failures_in_row", report.failures_in_row},
                {"successes", report.stand.successes},
                {"probes", table.sum(breaker.index, &TrafficCell::probes)},
                {"opened_total", report.opened_total}};
  if (!breaker.target.empty()) about["target"] = breaker.target;
  if (report.changed_ms != 0) about["changed_ms_ago"] = now - std::min(now, report.changed_ms);
  const bool ends = report.stand.moment_ms != BreakerStand::kForever;
  if (report.stand.state == BreakerState::kOpen && ends) {
    about["open_ms"] = report.stand.moment_ms - std::min(report.stand.moment_ms, now);
  }
  return about;
}

// Applies `change` to what the request names.
template <class Change>
Result<json> change_breakers(SharedMemory& shared, const json& request, const char* what,
                             Change change) {
  const std::string upstream = control_text(request, "upstream");
  const std::string target = control_text(request, "target");
  if (upstream.empty()) return Error{"the name of an upstream is missing"};
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  size_t changed = 0;
  for (const ListedBreaker& one : list_breakers(**table)) {
    if (one.upstream != upstream || (!target.empty() && one.target != target)) continue;
    ++changed;
    change((*table)->row(one.index));
    GH_LOG(kNotice, "breaker of {}{}{}: {} by command", one.upstream, one.target.empty() ? "" : "/",
           one.target, what);
  }
  if (changed == 0) {
    return Error{target.empty()
                     ? "upstream " + upstream + " has no breaker"
                     : "upstream " + upstream + " has no target " + target + " with a breaker"};
  }
  return json{{"changed", changed}};
}

}  // namespace

std::vector<ListedBreaker> list_breakers(const TrafficTable& table) {
  std::vector<ListedBreaker> found;
  for (const TrafficKind kind : {TrafficKind::kUpstream, TrafficKind::kTarget}) {
    for (const TrafficTable::Listed& row : table.list(kind)) {
      ListedBreaker one{row.index, row.name, {}, breaker_report(table.row(row.index))};
      if (row.holds == 0 || !one.report.configured) continue;
      if (kind == TrafficKind::kTarget) {
        const size_t slash = slash_of(row.name);
        if (slash == std::string::npos) continue;
        one.upstream = row.name.substr(0, slash);
        one.target = row.name.substr(slash + 1);
      }
      found.push_back(std::move(one));
    }
  }
  return found;
}

void add_breaker_status(SharedMemory& shared, json& status) {
  const Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return;
  size_t counts[3] = {};
  json others = json::array();
  const uint64_t now = now_ms();
  for (const ListedBreaker& one : list_breakers(**table)) {
    ++counts[static_cast<size_t>(one.report.stand.state)];
    if (one.report.stand.state == BreakerState::kClosed || others.size() >= kStatusMax) continue;
    others.push_back(describe(**table, one, now));
  }
  status["breakers"] = {{"closed", counts[0]},
                        {"open", counts[1]},
                        {"half_open", counts[2]},
                        {"not_closed", std::move(others)}};
}

Result<json> breaker_list_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  json breakers = json::array();
  const uint64_t now = now_ms();
  const std::string upstream = control_text(request, "upstream");
  for (const ListedBreaker& one : list_breakers(**table)) {
    if (upstream.empty() || one.upstream == upstream) {
      breakers.push_back(describe(**table, one, now));
    }
  }
  return json{{"breakers", std::move(breakers)}};
}

Result<json> breaker_open_command(SharedMemory& shared, const json& request) {
  const uint64_t for_ms = control_number(request, "for_ms");
  if (for_ms > kOpenMax) return Error{"that is longer than a month"};
  return change_breakers(shared, request, "opened", [for_ms](TrafficRow& row) {
    breaker_force_open(row, static_cast<uint32_t>(for_ms), now_ms());
  });
}

Result<json> breaker_close_command(SharedMemory& shared, const json& request) {
  return change_breakers(shared, request, "closed",
                         [](TrafficRow& row) { breaker_force_close(row, now_ms()); });
}

}  // namespace gatehouse
