// When a dead worker's replacement may start: at once, unless deaths follow each other.
//
// A pure function of how long the dead worker lived and of what went before.
#pragma once

#include <algorithm>
#include <chrono>

#include "core/units.h"

namespace gatehouse {

class RestartBackoff {
 public:
  static constexpr Duration kGoodRun{5'000};
  static constexpr Duration kFirstDelay{100};
  static constexpr Duration kLongestDelay{10'000};

  // The worker died after `lived` (zero: it could not even be forked). How long to wait before the
  // next start: nothing after a good run or for the first time; then 100 ms, doubled up to 10 s.
  Duration next_delay(std::chrono::microseconds lived) {
    if (lived >= kGoodRun) delay_ = Duration{0};
    Duration wait = delay_;
    delay_ = std::clamp(delay_ * 2, kFirstDelay, kLongestDelay);
    return wait;
  }

 private:
  Duration delay_{0};
};

}  // namespace gatehouse
