// H2Noise: how much an HTTP/2 peer may say that serves no exchange.
//
// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA and unknown frames cost the one
// who reads them more than the one who sends them, and each well-meant peer sends some. So a
// connection has an allowance for each stretch of time, and earns more by frames that carry an
// answer or that let a request go on. A pure function of frames and time.
#pragma once

#include <cstdint>

#include "core/units.h"

namespace gatehouse {

class H2Noise {
 public:
  static constexpr uint32_t kAllowance = 1000;  // frames in each stretch of time
  static constexpr int64_t kStretchUs = 10'000'000;
  static constexpr uint32_t kForUseful = 4;  // more, for each frame that is of use

  void note_useful(Moment now) {
    turn_over(now);
    useful_ += useful_ < (1U << 28) ? 1 : 0;
  }
  // False where that was one too many.
  [[nodiscard]] bool note_noise(Moment now) {
    turn_over(now);
    ++noise_;
    return noise_ <= kAllowance + uint64_t{kForUseful} * useful_;
  }

 private:
  void turn_over(Moment now) {
    if (now.us - since_.us < kStretchUs) return;
    since_ = now;
    noise_ = useful_ = 0;
  }

  Moment since_;
  uint32_t noise_ = 0;
  uint32_t useful_ = 0;
};

}  // namespace gatehouse
