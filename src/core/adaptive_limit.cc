// See adaptive_limit.h.
#include "core/adaptive_limit.h"

#include <algorithm>
#include <cmath>

namespace gatehouse {
namespace {

constexpr double kScale = 256;
// Requests that a step is made from, at least.
constexpr uint32_t kSampleMin = 5;
// Times the least that still count as ease.
constexpr double kTolerance = 2;
// How much of a step is made at once.
constexpr double kSmoothing = 0.2;
// How much of the way to a longer time the least goes in one step, where it may.
constexpr double kForgetting = 0.05;
// The first limit, where the bounds allow it.
constexpr uint32_t kFirstLimit = 20;

struct Stand {
  double limit;
  double least_us;
};

Stand unpack(uint64_t word, const AdaptiveRules& rules) {
  Stand stand{static_cast<double>(word & 0xffffffffu) / kScale, static_cast<double>(word >> 32)};
  if ((word & 0xffffffffu) == 0) stand.limit = kFirstLimit;
  stand.limit = std::clamp<double>(stand.limit, rules.min, rules.max);
  return stand;
}

uint64_t pack(const Stand& stand) {
  const auto limit = static_cast<uint64_t>(std::clamp(stand.limit * kScale, 1.0, 4294967295.0));
  const auto least = static_cast<uint64_t>(std::clamp(stand.least_us, 1.0, 4294967295.0));
  return least << 32 | limit;
}

Stand next(const Stand& before, const AdaptiveRules& rules, double seen_us, double in_flight) {
  Stand after = before;
  if (before.least_us == 0 || seen_us < before.least_us) {
    after.least_us = seen_us;
  } else if (in_flight * 4 <= before.limit || before.limit <= rules.min) {
    after.least_us += (seen_us - before.least_us) * kForgetting;
  }
  const double ease = std::clamp(kTolerance * after.least_us / seen_us, 0.5, 1.0);
  double wanted = before.limit * ease;
  if (ease == 1.0) {
    // A limit that nobody comes near says nothing about what lies beyond it.
    if (in_flight * 2 < before.limit) return after;
    wanted += std::sqrt(before.limit);
  }
  after.limit += (wanted - before.limit) * kSmoothing;
  after.limit = std::clamp<double>(after.limit, rules.min, rules.max);
  return after;
}

}  // namespace

uint32_t adaptive_limit(const std::atomic<uint64_t>* words, const AdaptiveRules& rules) {
  return static_cast<uint32_t>(unpack(words[0].load(std::memory_order_relaxed), rules).limit);
}

uint32_t adaptive_least_us(const std::atomic<uint64_t>* words) {
  return static_cast<uint32_t>(words[0].load(std::memory_order_relaxed) >> 32);
}

bool adaptive_step(std::atomic<uint64_t>* words, const AdaptiveRules& rules, LatencySample& sample,
                   uint64_t in_flight, uint64_t now_ms) {
  if (sample.count < kSampleMin) return false;
  uint64_t last = words[1].load(std::memory_order_relaxed);
  if (now_ms < last + kAdaptiveStepMs) return false;
  if (!words[1].compare_exchange_strong(last, now_ms, std::memory_order_relaxed)) return false;
  const double seen_us =
      std::max(1.0, static_cast<double>(sample.sum_us) / static_cast<double>(sample.count));
  sample = {};
  uint64_t word = words[0].load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t made =
        pack(next(unpack(word, rules), rules, seen_us, static_cast<double>(in_flight)));
    if (words[0].compare_exchange_weak(word, made, std::memory_order_relaxed)) {
      return (made & 0xffffffffu) != (word & 0xffffffffu);
    }
  }
}

}  // namespace gatehouse
