// See canary_runner.h.
#include "agent/canary_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/config_values.h"
#include "core/log.h"

namespace gatehouse {
namespace {

constexpr Duration kLookMost{1'000};
constexpr Duration kLookLeast{50};
constexpr int kLooksPerStep = 8;

std::string share_text(uint32_t hundredths) {
  return ValueType<Percent>::format({hundredths});
}

// As a label's value in Prometheus' text.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

CanaryRunner::CanaryRunner(EventLoop& loop, JobThread& disk, SharedMemory& shared)
    : loop_(loop), disk_(disk), shared_(shared) {
  timer_.set([](void* self) { static_cast<CanaryRunner*>(self)->turn(); }, this);
}

void CanaryRunner::serve(const std::vector<PlannedCanary>& planned, const std::string& folder) {
  std::vector<Canary> before = std::exchange(canaries_, {});
  for (const PlannedCanary& plan : planned) {
    Canary canary;
    canary.plan = plan;
    canary.row = canary_row_name(plan.name, plan.route, plan.fresh);
    const auto same = std::find_if(before.begin(), before.end(), [&canary](const Canary& other) {
      return other.row == canary.row && other.plan == canary.plan;
    });
    if (same != before.end()) canary = std::move(*same);
    canaries_.push_back(std::move(canary));
  }
  if (!canaries_.empty()) use_store(folder);
  turn();
}

void CanaryRunner::use_store(const std::string& folder) {
  if (folder == folder_ && (store_ != nullptr || folder.empty())) return;
  folder_ = folder;
  store_.reset();
  stored_.clear();
  loaded_ = true;
  if (folder.empty()) return;
  store_ = std::make_shared<const CanaryStore>(folder);
  using Stands = std::map<std::string, CanaryStand>;
  auto found = std::make_shared<Result<Stands>>(Stands());
  const bool queued = disk_.run([store = store_, found] { *found = store->load(); },
                                [this, store = store_, found] {
                                  if (store != store_) return;
                                  loaded_ = true;
                                  if (*found) {
                                    stored_ = std::move(**found);
                                  } else {
                                    GH_LOG(kError, "{}", found->error().message);
                                  }
                                });
  loaded_ = !queued;
}

uint64_t CanaryRunner::now_ms() const {
  return static_cast<uint64_t>(loop_.now().us) / 1000;
}

bool CanaryRunner::open() {
  if (table_ != nullptr && metrics_ != nullptr) return true;
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared_);
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(shared_, 1);
  if (table && metrics) {
    table_ = std::move(*table);
    metrics_ = std::move(*metrics);
    return true;
  }
  const std::string& problem = table ? metrics.error().message : table.error().message;
  if (std::exchange(problem_, problem) != problem) GH_LOG(kError, "canaries: {}", problem);
  return false;
}

void CanaryRunner::turn() {
  if (canaries_.empty()) return timer_.cancel();
  Duration wait = kLookMost;
  for (const Canary& canary : canaries_) {
    wait = std::min(wait, std::max(canary.plan.rules.interval / kLooksPerStep, kLookLeast));
  }
  loop_.arm(timer_, wait);
  if (!loaded_ || !open()) return;
  for (Canary& canary : canaries_) look(canary);
  totals_.clear();
}

void CanaryRunner::look(Canary& canary) {
  const std::optional<uint32_t> index = table_->find(TrafficKind::kSplit, canary.row);
  if (!index) return;  // no worker names it yet
  TrafficRow& row = table_->row(*index);
  const uint64_t word = row.share.load(std::memory_order_acquire);
  const CanaryStand stand = CanaryStand::unpack(word);
  if (!canary.known || word != canary.seen) {
    // Somebody's command, another agent's step, or the first look.
    const bool remember = canary.known;
    canary.seen = word;
    canary.known = true;
    open_window(canary);
    if (remember && word != 0) save(canary);
  }
  if (stand.state == CanaryState::kNone) {
    begin(canary, row);
  } else if (stand.state == CanaryState::kRunning) {
    measure(canary, row);
  }
}

void CanaryRunner::begin(Canary& canary, TrafficRow& row) {
  CanaryStand next;
  next.state = CanaryState::kRunning;
  next.share = static_cast<uint16_t>(canary.plan.rules.steps[0].hundredths);
  next.cause = CanaryCause::kBegun;
  bool again = false;
  if (canary.seen == 0) {
    const auto found = stored_.find(canary.row);
    if (found != stored_.end() && found->second.state != CanaryState::kNone) {
      next = found->second;
      again = true;
    }
  }
  if (!change(canary, row, next)) return;
  GH_LOG(kNotice, "canary {}: {}{}; {} of route {} go to {}", canary.plan.name,
         again ? "goes on, " : "begins", again ? canary_state_name(next.state) : "",
         share_text(next.share), canary.plan.route, canary.plan.fresh);
}

void CanaryRunner::measure(Canary& canary, TrafficRow& row) {
  const CanaryRules& rules = canary.plan.rules;
  const CanaryStand stand = CanaryStand::unpack(canary.seen);
  const CanaryStand fitting = fit_to_steps(rules, stand);
  if (fitting != stand) {
    if (!change(canary, row, fitting)) return;
    GH_LOG(kNotice, "canary {}: other steps now; {} of route {} go to {}", canary.plan.name,
           share_text(fitting.share), canary.plan.route, canary.plan.fresh);
    return;
  }
  const CanarySide fresh_now = side(canary.plan.fresh);
  const CanarySide stable_now = side(canary.plan.stable);
  if (!fresh_now.follows(canary.fresh) || !stable_now.follows(canary.stable)) {
    open_window(canary);
    return;
  }
  const CanarySide fresh = fresh_now.since(canary.fresh);
  const CanarySide stable = stable_now.since(canary.stable);
  store_canary_figures(
      row, {{fresh.requests, stable.requests},
            {fresh.errors, stable.errors},
            {static_cast<uint64_t>(fresh.p95_us()), static_cast<uint64_t>(stable.p95_us())}});
  const auto elapsed = std::chrono::duration_cast<Duration>(loop_.now() - canary.since);
  const CanaryVerdict verdict = judge_canary(rules, stand.stage, elapsed, fresh, stable);
  canary.figures = verdict.why;
  if (verdict.move == CanaryMove::kStay) return;
  const CanaryStand next = after_verdict(rules, stand, verdict);
  if (!change(canary, row, next)) return;
  const bool failed = verdict.move == CanaryMove::kFail;
  const std::string text = fmt::format(
      "canary {}: {} at step {} ({}); {} of route {} go to {} now", canary.plan.name,
      failed
          ? fmt::format("{}, {}", canary_cause_text(verdict.cause), canary_state_name(next.state))
          : std::string(canary_cause_text(verdict.cause)),
      stand.stage + 1, verdict.why, share_text(next.share), canary.plan.route, canary.plan.fresh);
  if (failed) {
    GH_LOG(kWarn, "{}", text);
  } else {
    GH_LOG(kNotice, "{}", text);
  }
}

bool CanaryRunner::change(Canary& canary, TrafficRow& row, const CanaryStand& next) {
  if (!change_canary(row, canary.seen, next, now_ms())) {
    canary.known = false;
    return false;
  }
  ++canary.decisions;
  open_window(canary);
  save(canary);
  return true;
}

void CanaryRunner::open_window(Canary& canary) {
  canary.since = loop_.now();
  canary.fresh = side(canary.plan.fresh);
  canary.stable = side(canary.plan.stable);
}

void CanaryRunner::save(const Canary& canary) {
  if (store_ == nullptr) return;
  auto failure = std::make_shared<std::string>();
  const bool queued = disk_.run(
      [store = store_, row = canary.row, stand = CanaryStand::unpack(canary.seen), failure] {
        const Result<void> saved = store->save(row, stand);
        if (!saved) *failure = saved.error().message;
      },
      [this, failure] {
        if (std::exchange(problem_, *failure) != *failure && !failure->empty()) {
          GH_LOG(kError, "{}", *failure);
        }
      });
  if (!queued) GH_LOG(kError, "canary {} is not remembered: too much waits", canary.plan.name);
}

// Its own cells, for what no target was found for, and its targets'.
CanarySide CanaryRunner::side(const std::string& upstream) {
  if (totals_.empty()) totals_ = metrics_->totals();
  CanarySide side;
  for (const SeriesTotal& series : totals_) {
    const bool own = series.kind == SeriesKind::kUpstream && series.name == upstream;
    const bool target = series.kind == SeriesKind::kTarget &&
                        series.name.size() > upstream.size() && series.name.starts_with(upstream) &&
                        series.name[upstream.size()] == '/';
    if (own || target) side.add(series.cells);
  }
  return side;
}

std::string CanaryRunner::metrics() const {
  if (canaries_.empty()) return {};
  fmt::memory_buffer text;
  const auto to = std::back_inserter(text);
  fmt::format_to(to,
                 "# HELP gatehouse_agent_canary_share Share of the requests that go to the new "
                 "side, 0 to 1.\n# TYPE gatehouse_agent_canary_share gauge\n");
  for (const Canary& canary : canaries_) {
    fmt::format_to(to, "gatehouse_agent_canary_share{{canary=\"{}\",state=\"{}\"}} {:g}\n",
                   escaped(canary.plan.name),
                   canary_state_name(CanaryStand::unpack(canary.seen).state),
                   CanaryStand::unpack(canary.seen).share / double{kWholeShare});
  }
  fmt::format_to(to,
                 "# HELP gatehouse_agent_canary_decisions_total Changes of its share or state by "
                 "this agent.\n# TYPE gatehouse_agent_canary_decisions_total counter\n");
  for (const Canary& canary : canaries_) {
    fmt::format_to(to, "gatehouse_agent_canary_decisions_total{{canary=\"{}\"}} {}\n",
                   escaped(canary.plan.name), canary.decisions);
  }
  return fmt::to_string(text);
}

nlohmann::json CanaryRunner::status() const {
  nlohmann::json list = nlohmann::json::array();
  for (const Canary& canary : canaries_) {
    const CanaryStand stand = CanaryStand::unpack(canary.seen);
    list.push_back({{"name", canary.plan.name},
                    {"route", canary.plan.route},
                    {"upstream", canary.plan.fresh},
                    {"stable", canary.plan.stable},
                    {"state", canary_state_name(stand.state)},
                    {"share", stand.share},
                    {"step", stand.stage + 1},
                    {"steps", canary.plan.rules.steps.size()},
                    {"cause", canary_cause_text(stand.cause)},
                    {"figures", canary.figures}});
  }
  return list;
}

}  // namespace gatehouse
