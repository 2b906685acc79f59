// Counting a try, and what is learnt of it; see target_lease.h.
#include "http/target_lease.h"

#include <algorithm>

#include "core/log.h"
#include "http/ejection.h"
#include "http/peak_latency.h"
#include "http/target_fitness.h"
#include "http/target_states.h"
#include "http/upstream.h"

namespace gatehouse {

namespace {

// What a try that failed counts for where the fastest gets the most: as slow, however quick it was
// about it.
constexpr uint64_t kFailureLatencyUs = 1'000'000;

}  // namespace

void TargetLease::settle(const TryOutcome& outcome) {
  if (state_ == nullptr || settled_ || outcome.kind == TryOutcome::Kind::kCancelled) return;
  settled_ = true;
  TrafficRow& row = *target_->row;
  const UpstreamConf& conf = *upstream_->conf;
  const auto now_ms = static_cast<uint64_t>(state_->loop_.now().us / 1000);
  if (conf.balance.chooser() == BalanceMethod::kLeastTime) {
    auto us = static_cast<uint64_t>(outcome.latency.count() > 0 ? outcome.latency.count() : 0);
    const bool bad = outcome.kind != TryOutcome::Kind::kAnswered || outcome.status >= 500;
    if (bad && us < kFailureLatencyUs) us = kFailureLatencyUs;
    note_latency(row.latency, us, now_ms);
  }
  if (upstream_->policy != nullptr && upstream_->policy->conf->breaker.rules.any()) {
    const BreakerConf& breaker = upstream_->policy->conf->breaker;
    const int64_t latency_ms = std::max<int64_t>(outcome.latency.count() / 1000, 0);
    log_breaker_change(target_->name, breaker_record(breaker_cells(), breaker.rules, pass_,
                                                     is_failure(breaker.on, outcome),
                                                     static_cast<uint64_t>(latency_ms), now_ms));
  }
  if (conf.eject.rules.failures != 0) {
    if (!is_failure(conf.eject.on, outcome)) {
      note_success(row.ejection, conf.eject.rules, now_ms);
    } else if (note_failure(row.ejection, conf.eject.rules, now_ms)) {
      eject(now_ms);
    }
  }
}

// The target has just been put out. Whoever finds that it is one too many takes that back; of two
// workers that put out two at once both may.
void TargetLease::eject(uint64_t now_ms) {
  const UpstreamConf& conf = *upstream_->conf;
  const FitnessView view{now_ms, upstream_->checked && state_->states_->verdicts_count()};
  size_t all = 0;
  size_t out = 0;
  size_t left = 0;  // that can still be used
  for (const UpstreamTarget& target : set_->targets) {
    if (target.backup != target_->backup) continue;
    ++all;
    if (is_ejected(*target.row, view)) {
      ++out;
    } else if (target.resolved && admin_of(*target.row) == TargetAdmin::kNormal &&
               !is_down(*target.row, view)) {
      ++left;
    }
  }
  if (left == 0 || out * 10'000 > all * conf.eject.share.hundredths) {
    take_back_ejection(target_->row->ejection, now_ms);
    GH_LOG(kWarn, "upstream {}, target {}: fails, but stays in use: {} of {} are ejected",
           upstream_->name, target_->address_text, out - 1, all);
    return;
  }
  const Ejection ejection = Ejection::unpack(target_->row->ejection.load());
  GH_LOG(kWarn, "upstream {}, target {}: ejected for {} ms after {} failures in a row",
         upstream_->name, target_->address_text, ejection.until_ms - now_ms,
         conf.eject.rules.failures);
}

BreakerCells TargetLease::breaker_cells() const {
  return {state_->states_->table(), state_->row_index_, state_->row_, state_->cell_};
}

void TargetLease::give_back() {
  if (!settled_ && pass_.verdict == BreakerVerdict::kProbe) breaker_cancel(breaker_cells(), pass_);
  TargetState* const state = std::exchange(state_, nullptr);
  if (TrafficCell* const cell = state->cell_) {
    cell->in_flight.store(cell->in_flight.load(std::memory_order_relaxed) - 1,
                          std::memory_order_release);
  }
  if (state->upstream_ != nullptr) state->upstream_->queue().wake();
  --state->leases_;
  if (state->unused() && state->states_ != nullptr) state->states_->leave(*state);
}

}  // namespace gatehouse
