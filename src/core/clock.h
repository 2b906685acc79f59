// The two clocks. Code that runs in an event loop takes its time from the loop instead.
#pragma once

#include <time.h>

#include <cstdint>

#include "core/units.h"

namespace gatehouse {

inline int64_t clock_us(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

inline Moment monotonic_now() {
  return Moment{clock_us(CLOCK_MONOTONIC)};
}

// Microseconds since the epoch.
inline int64_t wall_clock_us() {
  return clock_us(CLOCK_REALTIME);
}

}  // namespace gatehouse
