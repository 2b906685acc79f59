// The budget for second tries of one upstream in one worker: retries and hedges are a share of the
// requests, so that an upstream that fails under its load does not get a multiple of it.
//
// A request pays its share in, a retry takes a whole one out. Beside that there is a small number a
// second that may always be, without which an upstream with little traffic could never retry. What
// is saved is capped: a quiet hour does not pay for a storm.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/units.h"

namespace gatehouse {

class RetryBudget {
 public:
  // Retries that can be saved up from requests.
  static constexpr uint32_t kSavedMax = 50;

  // A request has come. `share`: retries for each request, in 1/10000.
  void note_request(uint32_t share) { saved_ = std::min(saved_ + share, kSavedMax * kWhole); }

  // Takes one retry out, where one is left. `least`: retries a second that may always be.
  bool take(uint32_t least, Moment now) {
    const int64_t second = now.us / 1'000'000;
    if (second != second_) {
      second_ = second;
      used_ = 0;
    }
    if (used_ < least) {
      ++used_;
      return true;
    }
    if (saved_ < kWhole) return false;
    saved_ -= kWhole;
    return true;
  }

 private:
  static constexpr uint32_t kWhole = 10'000;
  uint32_t saved_ = 0;
  uint32_t used_ = 0;  // of `least`, in second_
  int64_t second_ = -1;
};

}  // namespace gatehouse
