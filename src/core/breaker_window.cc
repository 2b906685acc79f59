// See breaker_window.h. A word: bits 0-13 tries, 14-27 failed, 28-41 slow, 42-63 the quarter.
#include "core/breaker_window.h"

namespace gatehouse {
namespace {

constexpr unsigned kCountBits = 14;
constexpr uint64_t kCountMax = (uint64_t{1} << kCountBits) - 1;
constexpr unsigned kFailedShift = kCountBits;
constexpr unsigned kSlowShift = 2 * kCountBits;
constexpr unsigned kQuarterShift = 3 * kCountBits;
constexpr uint64_t kQuarterMask = (uint64_t{1} << (64 - kQuarterShift)) - 1;

constexpr uint64_t field(uint64_t word, unsigned shift) {
  return word >> shift & kCountMax;
}

constexpr uint64_t halved(uint64_t word) {
  return (word >> kQuarterShift) << kQuarterShift | (field(word, kSlowShift) / 2) << kSlowShift |
         (field(word, kFailedShift) / 2) << kFailedShift | field(word, 0) / 2;
}

}  // namespace

void window_add(std::atomic<uint64_t>* words, uint32_t quarter_ms, uint64_t now_ms, bool failed,
                bool slow) {
  const uint64_t quarter = now_ms / quarter_ms;
  std::atomic<uint64_t>& place = words[quarter % kWindowWords];
  const uint64_t number = quarter & kQuarterMask;
  uint64_t word = place.load(std::memory_order_relaxed);
  if (word >> kQuarterShift != number) word = number << kQuarterShift;
  // Neither of the other counts is ever larger than that of all tries.
  if (field(word, 0) == kCountMax) [[unlikely]]
    word = halved(word);
  word += 1 | uint64_t{failed} << kFailedShift | uint64_t{slow} << kSlowShift;
  place.store(word, std::memory_order_relaxed);
}

void window_sum(const std::atomic<uint64_t>* words, uint32_t quarter_ms, uint64_t now_ms,
                WindowCounts& scaled) {
  const uint64_t newest = now_ms / quarter_ms;
  const uint64_t into = (now_ms % quarter_ms) * kWindowScale / quarter_ms;
  for (uint64_t age = 0; age < kWindowWords && age <= newest; ++age) {
    const uint64_t quarter = newest - age;
    const uint64_t word = words[quarter % kWindowWords].load(std::memory_order_relaxed);
    if (word >> kQuarterShift != (quarter & kQuarterMask)) continue;
    const uint64_t weight = age == kWindowWords - 1 ? kWindowScale - into : kWindowScale;
    scaled.tries += field(word, 0) * weight;
    scaled.failed += field(word, kFailedShift) * weight;
    scaled.slow += field(word, kSlowShift) * weight;
  }
}

void window_clear(std::atomic<uint64_t>* words) {
  for (size_t i = 0; i < kWindowWords; ++i) words[i].store(0, std::memory_order_relaxed);
}

}  // namespace gatehouse
