// How many requests an upstream can take at once, found out while they flow.
//
// Where there are few, the time that one takes is the upstream's own; with more than it can work on
// they wait, and each takes longer. So the least time seen stands for an upstream at ease, and the
// limit follows what is seen beside that: it grows by its square root while the time stays within
// twice the least, and shrinks with the quotient where it does not. It grows only where it is used.
//
// The least time is looked for anew where it can be seen: while few requests are under way, and at
// the smallest limit. So an upstream that has become slower for good is not strangled for ever, and
// a crowd that lasts does not come to look like ease.
//
// Pure functions over two words of the upstream's TrafficRow, changed by compare-and-swap; all
// zeros is the first state; valid at every instruction.
//
//   concurrency[0]  the limit, in 1/256 (32 bits), and the least time in µs (32 bits)
//   concurrency[1]  the moment (ms) of the last step: who moves it makes the next one
//
// A worker sums up its own requests (LatencySample) and offers them now and then; one step is made
// in each kAdaptiveStepMs, from what the worker that makes it has seen.
#pragma once

#include <atomic>
#include <cstdint>

namespace gatehouse {

inline constexpr uint64_t kAdaptiveStepMs = 100;

struct AdaptiveRules {
  uint32_t min = 4;  // at least 1
  uint32_t max = 1000;
};

// What one worker has seen since its last step.
struct LatencySample {
  uint64_t sum_us = 0;
  uint32_t count = 0;
  void add(uint64_t us) {
    sum_us += us;
    ++count;
  }
};

// How many requests may be under way, over all workers.
uint32_t adaptive_limit(const std::atomic<uint64_t>* words, const AdaptiveRules& rules);

// The least time, in µs; 0: not known yet. For status.
uint32_t adaptive_least_us(const std::atomic<uint64_t>* words);

// Makes the next step from `sample`, which is emptied, where it is time and the sample holds
// enough; else nothing. `in_flight`: requests under way over all workers. True where the limit has
// changed.
bool adaptive_step(std::atomic<uint64_t>* words, const AdaptiveRules& rules, LatencySample& sample,
                   uint64_t in_flight, uint64_t now_ms);

}  // namespace gatehouse
