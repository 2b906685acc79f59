// Passive ejection: a target that fails several times in a row gets no tries for a while.
//
// One word of shared memory for each target, which all workers change: failures since the last
// success (whichever worker saw them), until when the target is out, and how often in succession it
// was put out, which decides how long the next time lasts: twice as long each time, up to a
// longest. A target that worked for as long as it was out begins anew. That no more than a share of
// the targets is out at once, and never all, is up to the caller (http/target_lease), who takes an
// ejection back where it was one too many.
//
// The word: failures in bits 0-15, how often in 16-23, until when in 24-63, in milliseconds of
// CLOCK_MONOTONIC. 0: nothing is known against the target.
#pragma once

#include <atomic>
#include <cstdint>

namespace gatehouse {

struct EjectionRules {
  uint32_t failures = 0;  // in a row that put a target out; 0: ejection is off
  uint64_t open_ms = 30'000;
  uint64_t longest_ms = 300'000;
};

struct Ejection {
  uint32_t failures = 0;
  uint32_t times = 0;
  uint64_t until_ms = 0;

  static Ejection unpack(uint64_t word);
  uint64_t pack() const;
  // How long the `times`-th in succession lasts.
  static uint64_t duration_ms(const EjectionRules& rules, uint32_t times);
};

inline bool is_ejected(uint64_t word, uint64_t now_ms) {
  return now_ms < word >> 24;
}

// Notes a failure. True where it put the target out: then `word` says until when. Failures of tries
// that were under way when it was put out say nothing new.
bool note_failure(std::atomic<uint64_t>& word, const EjectionRules& rules, uint64_t now_ms);

// Takes an ejection back that note_failure() made, but not that the target failed.
void take_back_ejection(std::atomic<uint64_t>& word, uint64_t now_ms);

// Notes a success. One relaxed load where nothing is known against the target.
void note_success(std::atomic<uint64_t>& word, const EjectionRules& rules, uint64_t now_ms);

}  // namespace gatehouse
