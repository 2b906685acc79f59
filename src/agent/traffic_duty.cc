// See traffic_duty.h.
#include "agent/traffic_duty.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr Duration kLookForDuty{100};
constexpr Duration kTellAgain{250};

}  // namespace

TrafficDuty::TrafficDuty(EventLoop& loop, SharedMemory& shared) : loop_(loop), shared_(shared) {
  timer_.set([](void* self) { static_cast<TrafficDuty*>(self)->turn(); }, this);
}

TrafficDuty::~TrafficDuty() = default;

Result<std::unique_ptr<TrafficDuty>> TrafficDuty::create(EventLoop& loop, SharedMemory& shared) {
  std::unique_ptr<TrafficDuty> duty(new TrafficDuty(loop, shared));
  Result<std::unique_ptr<HealthProbes>> probes = HealthProbes::create(loop);
  if (!probes) return probes.error();
  duty->probes_ = std::move(*probes);
  HealthChecker::Owner owner;
  owner.tell = [self = duty.get()](const std::string& target, TargetVerdict verdict) {
    self->tell(target, verdict);
  };
  owner.before = [self = duty.get()](const std::string& target) { return self->before(target); };
  duty->checker_ = std::make_unique<HealthChecker>(loop, *duty->probes_, std::move(owner));
  return duty;
}

void TrafficDuty::serve(TrafficPlan plan) {
  plan_ = std::move(plan);
  applied_ = false;
  turn();
}

void TrafficDuty::turn() {
  // An agent that has nothing to do makes no zone, and never gets in another one's way.
  if (!on_duty_ && !plan_.upstreams.empty()) {
    if (!lists_) {
      Result<MemberLists> lists = MemberLists::open(shared_, plan_.capacity);
      if (lists) {
        lists_.emplace(std::move(*lists));
      } else {
        GH_LOG(kError, "health checks and discovery: {}", lists.error().message);
      }
    }
    on_duty_ = lists_ && lists_->claim_writing(shared_);
    if (on_duty_) GH_LOG(kInfo, "checking and discovering targets");
  }
  if (on_duty_ && !applied_) apply();
  if (on_duty_) checker_->tell_all();
  loop_.arm(timer_, on_duty_ ? kTellAgain : kLookForDuty);
}

void TrafficDuty::apply() {
  applied_ = true;
  std::vector<std::string> names;
  for (const PlannedUpstream& upstream : plan_.upstreams) names.push_back(upstream.name);
  checker_->keep_only(names);
  for (const PlannedUpstream& upstream : plan_.upstreams) watch(upstream);
}

void TrafficDuty::watch(const PlannedUpstream& upstream) {
  std::vector<CheckedTarget> targets;
  if (upstream.health.kind != HealthCheck::Kind::kNone) {
    for (const PlannedTarget& target : upstream.targets) {
      if (target.address.is_none()) continue;
      const std::string host = target.address.is_unix() ? "localhost" : target.text;
      targets.push_back({upstream.name + "/" + target.text, target.address, host});
    }
  }
  checker_->set(upstream.name, upstream.health, targets);
}

// ---- Verdicts -----------------------------------------------------------------------------------

// Made by the workers, who know how large it shall be.
TrafficTable* TrafficDuty::table() {
  if (table_) return table_.get();
  const std::vector<ZoneInfo> zones = shared_.zones();
  const bool there = std::any_of(zones.begin(), zones.end(), [](const ZoneInfo& zone) {
    return zone.name == "traffic.rows" && !zone.retired;
  });
  if (!there) return nullptr;
  Result<std::unique_ptr<TrafficTable>> opened = TrafficTable::open(shared_);
  if (!opened) {
    GH_LOG(kError, "health checks: {}", opened.error().message);
    return nullptr;
  }
  table_ = std::move(*opened);
  return table_.get();
}

void TrafficDuty::tell(const std::string& target, TargetVerdict verdict) {
  TrafficTable* rows = table();
  if (rows == nullptr) return;
  const std::optional<uint32_t> index = rows->find(TrafficKind::kTarget, target);
  if (!index) return;  // no worker names it yet; tell_all() comes again
  std::atomic<uint64_t>& word = rows->row(*index).health;
  const uint64_t packed = verdict.pack();
  if (word.load(std::memory_order_relaxed) != packed) {
    word.store(packed, std::memory_order_release);
  }
}

TargetVerdict TrafficDuty::before(const std::string& target) {
  TrafficTable* rows = table();
  if (rows == nullptr) return {};
  const std::optional<uint32_t> index = rows->find(TrafficKind::kTarget, target);
  if (!index) return {};
  return TargetVerdict::unpack(rows->row(*index).health.load(std::memory_order_relaxed));
}

// ---- What it tells ------------------------------------------------------------------------------

std::string TrafficDuty::metrics() const {
  fmt::memory_buffer text;
  const auto to = std::back_inserter(text);
  fmt::format_to(to,
                 "# HELP gatehouse_agent_health_checks_total Health checks, by their result.\n"
                 "# TYPE gatehouse_agent_health_checks_total counter\n"
                 "gatehouse_agent_health_checks_total{{result=\"good\"}} {}\n"
                 "gatehouse_agent_health_checks_total{{result=\"bad\"}} {}\n",
                 checker_->checks_good(), checker_->checks_bad());
  size_t up = 0;
  size_t down = 0;
  for (const TargetHealth& target : checker_->status()) {
    if (target.up) ++(*target.up ? up : down);
  }
  fmt::format_to(to,
                 "# HELP gatehouse_agent_checked_targets Targets that are checked, by what the "
                 "checks say.\n"
                 "# TYPE gatehouse_agent_checked_targets gauge\n"
                 "gatehouse_agent_checked_targets{{state=\"up\"}} {}\n"
                 "gatehouse_agent_checked_targets{{state=\"down\"}} {}\n",
                 up, down);
  return fmt::to_string(text);
}

nlohmann::json TrafficDuty::status() const {
  nlohmann::json targets = nlohmann::json::array();
  for (const TargetHealth& target : checker_->status()) {
    targets.push_back({{"target", target.name},
                       {"address", target.address},
                       {"state", !target.up   ? "unknown"
                                 : *target.up ? "up"
                                              : "down"},
                       {"checks", target.checks},
                       {"failures", target.failures},
                       {"since_us", target.since_us},
                       {"last_us", target.last_us},
                       {"error", target.error}});
  }
  return {{"on_duty", on_duty_}, {"health", std::move(targets)}};
}

}  // namespace gatehouse
