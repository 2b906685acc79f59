// See canary.h.
#include "agent/canary.h"

#include <fmt/format.h>

namespace gatehouse {
namespace {

// Differences of less than that are the scheduler's.
constexpr double kLatencySlackUs = 1'000;
constexpr unsigned kServerErrors = 5;  // the class of status

std::string percent(double share) {
  return fmt::format("{:.2f}%", share * 100);
}

std::string milliseconds(double us) {
  return fmt::format("{:.1f} ms", us / 1000);
}

}  // namespace

void CanarySide::add(const SeriesCells& cells) {
  requests += cells.requests_total();
  errors += cells.requests[kServerErrors].get();
  for (unsigned i = 0; i < kLatencyBuckets; ++i) latency[i] += cells.latency[i].get();
}

bool CanarySide::follows(const CanarySide& before) const {
  if (requests < before.requests || errors < before.errors) return false;
  for (unsigned i = 0; i < kLatencyBuckets; ++i) {
    if (latency[i] < before.latency[i]) return false;
  }
  return true;
}

CanarySide CanarySide::since(const CanarySide& before) const {
  CanarySide difference;
  difference.requests = requests - before.requests;
  difference.errors = errors - before.errors;
  for (unsigned i = 0; i < kLatencyBuckets; ++i) {
    difference.latency[i] = latency[i] - before.latency[i];
  }
  return difference;
}

double CanarySide::error_rate() const {
  return requests == 0 ? 0 : static_cast<double>(errors) / static_cast<double>(requests);
}

double CanarySide::p95_us() const {
  uint64_t total = 0;
  for (const uint64_t count : latency) total += count;
  if (total == 0) return 0;
  const double wanted = 0.95 * static_cast<double>(total);
  double below = 0;
  double low = 0;
  for (unsigned i = 0; i < kLatencyBuckets - 1; ++i) {
    const auto high = static_cast<double>(kLatencyBoundsUs[i]);
    const auto here = static_cast<double>(latency[i]);
    if (below + here >= wanted && here > 0) return low + (high - low) * (wanted - below) / here;
    below += here;
    low = high;
  }
  return low;
}

CanaryVerdict judge_canary(const CanaryRules& rules, size_t stage, Duration elapsed,
                           const CanarySide& fresh, const CanarySide& stable) {
  CanaryVerdict verdict;
  const bool known = fresh.requests >= rules.min_requests;
  const bool comparable = stable.requests >= rules.min_requests;
  const double rate = fresh.error_rate();
  double limit = rules.max_error_rate.fraction();
  if (rules.over_stable && comparable) limit += stable.error_rate();
  verdict.why = fmt::format("{} requests with {} errors ({}, up to {}), stable {} with {} ({})",
                            fresh.requests, fresh.errors, percent(rate), percent(limit),
                            stable.requests, stable.errors, percent(stable.error_rate()));
  const double slow = fresh.p95_us();
  const double usual = stable.p95_us();
  verdict.why += fmt::format("; 95% within {}, stable {}", milliseconds(slow), milliseconds(usual));
  if (!known) return verdict;
  if (rate > limit) {
    verdict.move = CanaryMove::kFail;
    verdict.cause = CanaryCause::kErrors;
  } else if (rules.max_latency > 0 && comparable && slow > rules.max_latency * usual &&
             slow > usual + kLatencySlackUs) {
    verdict.move = CanaryMove::kFail;
    verdict.cause = CanaryCause::kLatency;
  } else if (elapsed >= rules.interval) {
    const bool last = stage + 1 >= rules.steps.size();
    verdict.move = last ? CanaryMove::kPromote : CanaryMove::kNextStep;
    verdict.cause = last ? CanaryCause::kAllPassed : CanaryCause::kStepPassed;
  }
  return verdict;
}

CanaryStand after_verdict(const CanaryRules& rules, CanaryStand stand,
                          const CanaryVerdict& verdict) {
  switch (verdict.move) {
    case CanaryMove::kStay:
      return stand;
    case CanaryMove::kNextStep:
      ++stand.stage;
      stand.share = static_cast<uint16_t>(rules.steps[stand.stage].hundredths);
      break;
    case CanaryMove::kPromote:
      stand.state = CanaryState::kPromoted;
      break;
    case CanaryMove::kFail:
      if (rules.on_failure == CanaryRules::OnFailure::kPause) {
        stand.state = CanaryState::kPaused;
      } else {
        stand.state = CanaryState::kRolledBack;
        stand.share = 0;
      }
      break;
  }
  stand.cause = verdict.cause;
  return stand;
}

CanaryStand fit_to_steps(const CanaryRules& rules, CanaryStand stand) {
  if (stand.stage < rules.steps.size() && rules.steps[stand.stage].hundredths == stand.share) {
    return stand;
  }
  size_t stage = 0;
  for (size_t i = 1; i < rules.steps.size(); ++i) {
    if (rules.steps[i].hundredths <= stand.share) stage = i;
  }
  stand.stage = static_cast<uint8_t>(stage);
  stand.share = static_cast<uint16_t>(rules.steps[stage].hundredths);
  stand.cause = CanaryCause::kSteps;
  return stand;
}

}  // namespace gatehouse
