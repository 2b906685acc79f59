// See upstream_policy.h.
#include "http/upstream_policy.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

uint64_t ms_of(Moment moment) {
  return static_cast<uint64_t>(moment.us) / 1000;
}

AdaptiveRules adaptive_rules(const ConcurrencyConf& conf) {
  return {conf.min, conf.max};
}

}  // namespace

std::unique_ptr<UpstreamPolicy> make_policy(const UpstreamPolicyConf& conf, std::string upstream) {
  if (!conf.any()) return nullptr;
  auto policy = std::make_unique<UpstreamPolicy>();
  policy->conf = &conf;
  policy->upstream = std::move(upstream);
  return policy;
}

bool is_failure(const FailureSet& failures, const TryOutcome& outcome) {
  switch (outcome.kind) {
    case TryOutcome::Kind::kAnswered:
      return failures.has_status(outcome.status);
    case TryOutcome::Kind::kConnectFailed:
      return failures.has(FailureWay::kConnect);
    case TryOutcome::Kind::kTimeout:
      return failures.has(FailureWay::kTimeout);
    case TryOutcome::Kind::kReset:
      return failures.has(FailureWay::kReset);
    case TryOutcome::Kind::kBadResponse:
      return failures.has(FailureWay::kBadResponse);
    case TryOutcome::Kind::kCancelled:
      return false;
  }
  return false;
}

void write_breaker_change(std::string_view name, const BreakerChange& change) {
  const char* cause = breaker_cause_text(change.cause);
  switch (change.to) {
    case BreakerState::kOpen:
      GH_LOG(kWarn, "breaker of {}: open for {} ms ({})", name, change.open_ms, cause);
      break;
    case BreakerState::kHalfOpen:
      GH_LOG(kNotice, "breaker of {}: half-open ({})", name, cause);
      break;
    case BreakerState::kClosed:
      GH_LOG(kNotice, "breaker of {}: closed ({})", name, cause);
      break;
  }
}

Reason UpstreamPass::enter(const UpstreamPolicy& policy, Moment now) {
  if (policy.cells.table == nullptr) return Reason::kNone;
  policy_ = &policy;
  cells_ = policy.cells;
  const UpstreamPolicyConf& conf = *policy.conf;
  if (conf.upstream_breaker.rules.any()) {
    BreakerChange change;
    breaker_ = breaker_admit(cells_, conf.upstream_breaker.rules, ms_of(now), change);
    log_breaker_change(policy.upstream, change);
    if (breaker_.verdict == BreakerVerdict::kRefuse) return Reason::kCircuitOpen;
    admitted_ = true;
  }
  if (conf.concurrency.on()) {
    cells_.own->in_flight.fetch_add(1, std::memory_order_seq_cst);
    counted_ = true;
    const uint32_t limit =
        adaptive_limit(cells_.row->concurrency, adaptive_rules(conf.concurrency));
    if (cells_.table->sum(cells_.index, &TrafficCell::in_flight) > limit) {
      end();
      return Reason::kOverloadUpstream;
    }
  }
  return Reason::kNone;
}

void UpstreamPass::leave(const TryOutcome& outcome, Moment now) {
  if (cells_.table == nullptr || outcome.kind == TryOutcome::Kind::kCancelled) return;
  const UpstreamPolicyConf& conf = *policy_->conf;
  const auto latency_us = static_cast<uint64_t>(std::max<int64_t>(outcome.latency.count(), 0));
  if (admitted_) {
    admitted_ = false;
    const BreakerChange change = breaker_record(cells_, conf.upstream_breaker.rules, breaker_,
                                                is_failure(conf.upstream_breaker.on, outcome),
                                                latency_us / 1000, ms_of(now));
    log_breaker_change(policy_->upstream, change);
  }
  if (!conf.concurrency.on()) return;
  // A refused or broken connection comes quickly, and says nothing about how long work takes.
  if (outcome.kind != TryOutcome::Kind::kAnswered && outcome.kind != TryOutcome::Kind::kTimeout) {
    return;
  }
  policy_->latencies.add(latency_us);
  (void)adaptive_step(cells_.row->concurrency, adaptive_rules(conf.concurrency), policy_->latencies,
                      cells_.table->sum(cells_.index, &TrafficCell::in_flight), ms_of(now));
}

void UpstreamPass::end() {
  if (admitted_) {
    admitted_ = false;
    breaker_cancel(cells_, breaker_);
  }
  if (counted_) {
    counted_ = false;
    cells_.own->in_flight.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace gatehouse
