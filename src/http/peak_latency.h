// Peak latency: how long a target takes to answer, as one word that all workers share.
//
// A moving average over the last ten seconds or so that jumps to any larger value at once and sinks
// from there: one slow answer is believed, and forgotten by time and not by how many better ones
// there are. (Finagle's "peak EWMA".) A target that gets no tries is forgotten too: what is read is
// the value as it has sunk until now, so that one that was slow is tried again.
//
// The word: microseconds in the upper half, the time of the last change in the lower, in steps of
// 16 ms of CLOCK_MONOTONIC, which go round once in two years. 0: nothing was measured. Within one
// step only peaks change the word, so that busy workers rarely write to it.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

namespace gatehouse {

inline constexpr double kLatencyMemoryMs = 10'000;

namespace peak_latency_detail {

inline constexpr uint64_t kStepMs = 16;

inline uint32_t step_of(uint64_t now_ms) {
  return static_cast<uint32_t>(now_ms / kStepMs);
}
// How much is left of a value after that many steps. Clocks of two workers may differ by a turn of
// their loops: a step back counts as none.
inline double left_after(uint32_t steps) {
  if (steps == 0 || steps > 0x7fffffff) return 1;
  return std::exp(-static_cast<double>(steps) * kStepMs / kLatencyMemoryMs);
}
inline uint64_t pack(uint64_t us, uint32_t step) {
  if (us > 0xffffffff) us = 0xffffffff;
  return (us == 0 ? 1 : us) << 32 | step;
}

}  // namespace peak_latency_detail

// The expected microseconds, from 1; 0 where nothing was measured.
inline uint64_t peak_latency(uint64_t word, uint64_t now_ms) {
  using namespace peak_latency_detail;
  if (word == 0) return 0;
  const uint32_t steps = step_of(now_ms) - static_cast<uint32_t>(word);
  const double left = static_cast<double>(word >> 32) * left_after(steps);
  return left < 1 ? 1 : static_cast<uint64_t>(left);
}

// Notes an answer that took `us` microseconds. Where two workers do at once one may be lost.
inline void note_latency(std::atomic<uint64_t>& word, uint64_t us, uint64_t now_ms) {
  using namespace peak_latency_detail;
  uint64_t old = word.load(std::memory_order_relaxed);
  const uint32_t step = step_of(now_ms);
  const uint32_t steps = old == 0 ? 0 : step - static_cast<uint32_t>(old);
  uint64_t value = us;
  if (old != 0 && us <= old >> 32) {
    if (steps == 0 || steps > 0x7fffffff) return;
    const double left = left_after(steps);
    value = static_cast<uint64_t>(static_cast<double>(old >> 32) * left +
                                  static_cast<double>(us) * (1 - left));
    if (value < us) value = us;
  }
  word.compare_exchange_strong(old, pack(value, step), std::memory_order_relaxed);
}

}  // namespace gatehouse
