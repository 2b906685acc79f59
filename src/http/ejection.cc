// See ejection.h.
#include "http/ejection.h"

#include <algorithm>

namespace gatehouse {

namespace {

constexpr uint32_t kFailuresMax = 0xffff;
constexpr uint32_t kTimesMax = 0xff;

}  // namespace

Ejection Ejection::unpack(uint64_t word) {
  Ejection ejection;
  ejection.failures = static_cast<uint32_t>(word & kFailuresMax);
  ejection.times = static_cast<uint32_t>(word >> 16 & kTimesMax);
  ejection.until_ms = word >> 24;
  return ejection;
}

uint64_t Ejection::pack() const {
  return until_ms << 24 | uint64_t{times} << 16 | failures;
}

uint64_t Ejection::duration_ms(const EjectionRules& rules, uint32_t times) {
  const uint32_t doublings = std::min(times == 0 ? 0 : times - 1, 30U);
  return std::min(rules.open_ms << doublings, std::max(rules.longest_ms, rules.open_ms));
}

bool note_failure(std::atomic<uint64_t>& word, const EjectionRules& rules, uint64_t now_ms) {
  uint64_t old = word.load(std::memory_order_relaxed);
  for (;;) {
    Ejection ejection = Ejection::unpack(old);
    if (now_ms < ejection.until_ms) return false;
    ejection.failures = std::min(ejection.failures + 1, kFailuresMax);
    const bool out = ejection.failures >= rules.failures;
    if (out) {
      ejection.failures = 0;
      ejection.times = std::min(ejection.times + 1, kTimesMax);
      ejection.until_ms = now_ms + Ejection::duration_ms(rules, ejection.times);
    }
    if (word.compare_exchange_weak(old, ejection.pack(), std::memory_order_relaxed)) return out;
  }
}

void take_back_ejection(std::atomic<uint64_t>& word, uint64_t now_ms) {
  uint64_t old = word.load(std::memory_order_relaxed);
  for (;;) {
    Ejection ejection = Ejection::unpack(old);
    if (now_ms >= ejection.until_ms) return;
    ejection.times = ejection.times == 0 ? 0 : ejection.times - 1;
    ejection.until_ms = 0;
    if (word.compare_exchange_weak(old, ejection.pack(), std::memory_order_relaxed)) return;
  }
}

void note_success(std::atomic<uint64_t>& word, const EjectionRules& rules, uint64_t now_ms) {
  uint64_t old = word.load(std::memory_order_relaxed);
  while (old != 0) {
    Ejection ejection = Ejection::unpack(old);
    if (now_ms < ejection.until_ms) return;
    ejection.failures = 0;
    // When it came back stays: its slow start is counted from there.
    if (now_ms >= ejection.until_ms + Ejection::duration_ms(rules, ejection.times)) {
      ejection.times = 0;
    }
    const uint64_t now = ejection.pack();
    if (now == old || word.compare_exchange_weak(old, now, std::memory_order_relaxed)) return;
  }
}

}  // namespace gatehouse
