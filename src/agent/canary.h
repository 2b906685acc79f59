// What becomes of a canary's step: pure functions of the rules and of what was counted.
//
// Counted are the upstreams' own figures, since the step began: every request that either side has
// finished, whatever route it came by. An answer of 5xx is an error, whoever made it: the target,
// or the gateway because the target failed or there was none.
//
// Nothing is decided before the new side has had min_requests. Then too many errors, or too slow
// answers, end the step at once; otherwise it is passed when its interval is over. A stable side
// that has had fewer than min_requests is no measure: its error rate counts as none, and the
// latency is not compared.
#pragma once

#include <cstdint>
#include <string>

#include "core/canary.h"
#include "core/metrics.h"

namespace gatehouse {

// What an upstream has counted.
struct CanarySide {
  uint64_t requests = 0;
  uint64_t errors = 0;
  uint64_t latency[kLatencyBuckets] = {};

  void add(const SeriesCells& cells);
  // True where every count is at least that of `before`: it is not when the metrics began anew.
  bool follows(const CanarySide& before) const;
  CanarySide since(const CanarySide& before) const;
  double error_rate() const;
  // The 95th percentile in microseconds, interpolated inside its bucket; 0 without requests.
  double p95_us() const;
};

enum class CanaryMove : uint8_t { kStay, kNextStep, kPromote, kFail };

struct CanaryVerdict {
  CanaryMove move = CanaryMove::kStay;
  CanaryCause cause = CanaryCause::kNone;
  std::string why;  // with the figures, for the log
};

// `elapsed`: since the step began.
CanaryVerdict judge_canary(const CanaryRules& rules, size_t stage, Duration elapsed,
                           const CanarySide& fresh, const CanarySide& stable);

// How it goes on after a verdict.
CanaryStand after_verdict(const CanaryRules& rules, CanaryStand stand,
                          const CanaryVerdict& verdict);

// The stand where the steps are not those that it was reached by: the largest step that is not
// above its share, or the first. The same where they fit.
CanaryStand fit_to_steps(const CanaryRules& rules, CanaryStand stand);

}  // namespace gatehouse
