// See target_commands.h.
#include "core/target_commands.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "core/clock.h"
#include "core/control_message.h"
#include "core/log.h"
#include "core/target_report.h"
#include "core/traffic_table.h"

namespace gatehouse {
namespace {

using nlohmann::json;

// Sets the operator's word on one target.
Result<json> set_admin(SharedMemory& shared, const json& request, TargetAdmin admin,
                       const char* what) {
  const std::string upstream = control_text(request, "upstream");
  const std::string target = control_text(request, "target");
  if (upstream.empty() || target.empty()) {
    return Error{"the name of an upstream and a target of it are needed"};
  }
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  const std::string name = upstream + "/" + target;
  const std::optional<uint32_t> index = (*table)->find(TrafficKind::kTarget, name);
  if (!index || (*table)->sum(*index, &TrafficCell::holds) == 0) {
    return Error{"there is no target " + target + " in an upstream " + upstream +
                 "; `gatehouse target list` has them (an upstream with one target and no policy "
                 "has no state)"};
  }
  TrafficRow& row = (*table)->row(*index);
  const uint64_t before = row.admin.exchange(static_cast<uint64_t>(admin));
  if (admin == TargetAdmin::kNormal && before != 0) {
    row.up_since_ms.store(static_cast<uint64_t>(monotonic_now().us / 1000));
  }
  GH_LOG(kNotice, "upstream {}, target {}: {} by command", upstream, target, what);
  return json{{"changed", 1}};
}

}  // namespace

void add_target_status(SharedMemory& shared, json& status) {
  const Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return;
  json targets = {{"up", 0}, {"down", 0}, {"ejected", 0}, {"drained", 0}, {"disabled", 0}};
  uint64_t in_flight = 0;
  const auto now_ms = static_cast<uint64_t>(monotonic_now().us / 1000);
  for (const TargetReport& one : report_targets(**table, now_ms)) {
    json& count = targets[target_state_name(one.state)];
    count = count.get<uint64_t>() + 1;
    in_flight += one.in_flight;
  }
  targets["in_flight"] = in_flight;
  uint64_t waiting = 0;
  for (const TrafficTable::Listed& row : (*table)->list(TrafficKind::kUpstream)) {
    waiting += (*table)->sum(row.index, &TrafficCell::waiting);
  }
  targets["waiting"] = waiting;
  status["targets"] = std::move(targets);
}

Result<json> target_list_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  const std::string upstream = control_text(request, "upstream");
  const auto now_ms = static_cast<uint64_t>(monotonic_now().us / 1000);
  json targets = json::array();
  for (const TargetReport& one : report_targets(**table, now_ms)) {
    if (!upstream.empty() && one.upstream != upstream) continue;
    json about = {{"upstream", one.upstream},
                  {"target", one.target},
                  {"state", target_state_name(one.state)},
                  {"weight", one.settings.weight},
                  {"backup", one.settings.backup},
                  {"in_flight", one.in_flight},
                  {"connections_max", one.settings.max_connections}};
    if (one.latency_us != 0) about["latency_us"] = one.latency_us;
    if (one.ejected_ms != 0) about["ejected_ms"] = one.ejected_ms;
    if (one.checked) about["check"] = one.check_up ? "up" : "down";
    targets.push_back(std::move(about));
  }
  json upstreams = json::array();
  for (const TrafficTable::Listed& row : (*table)->list(TrafficKind::kUpstream)) {
    if (row.holds == 0 || (!upstream.empty() && row.name != upstream)) continue;
    upstreams.push_back(
        {{"upstream", row.name}, {"waiting", (*table)->sum(row.index, &TrafficCell::waiting)}});
  }
  return json{{"targets", std::move(targets)}, {"upstreams", std::move(upstreams)}};
}

Result<json> target_drain_command(SharedMemory& shared, const json& request) {
  return set_admin(shared, request, TargetAdmin::kDrain, "drained");
}
Result<json> target_disable_command(SharedMemory& shared, const json& request) {
  return set_admin(shared, request, TargetAdmin::kDisabled, "disabled");
}
Result<json> target_enable_command(SharedMemory& shared, const json& request) {
  return set_admin(shared, request, TargetAdmin::kNormal, "enabled");
}

}  // namespace gatehouse
