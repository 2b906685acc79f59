// Units in the type: durations, byte counts and moments on the monotonic clock.
//
// Config values, limits and timeouts carry their unit in the type, so that a number is never
// mistaken for another. Parsing and printing of these types lives in core/config_values.h.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace gatehouse {

// A length of time, in milliseconds. Config writes it with a unit: 500ms 10s 5m 2h 1d.
using Duration = std::chrono::milliseconds;

// A moment on CLOCK_MONOTONIC, in microseconds since an arbitrary start.
struct Moment {
  int64_t us = 0;
  friend constexpr auto operator<=>(const Moment&, const Moment&) = default;
  friend constexpr Moment operator+(Moment moment, Duration duration) {
    return Moment{moment.us + duration.count() * 1000};
  }
  friend constexpr std::chrono::microseconds operator-(Moment later, Moment earlier) {
    return std::chrono::microseconds(later.us - earlier.us);
  }
};

// A count of bytes. Config writes it plain or with a unit, powers of 1024: 512 64k 8m 1g.
struct Bytes {
  uint64_t count = 0;
  friend constexpr auto operator<=>(const Bytes&, const Bytes&) = default;
};

constexpr Bytes operator""_KiB(unsigned long long n) {
  return Bytes{n * 1024};
}
constexpr Bytes operator""_MiB(unsigned long long n) {
  return Bytes{n * 1024 * 1024};
}

}  // namespace gatehouse
