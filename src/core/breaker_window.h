// The sliding window of a circuit breaker: how many tries of late, how many failed, how many were
// slow; one worker's part of it.
//
// Five words, a ring: each counts a quarter of the window, so that four whole quarters and the one
// that is under way are always there. The oldest is weighted by how much of it still lies in the
// window. A word is a quarter's number (22 bits: quarters since the clock's start, modulo 4M) and
// three counts of 14 bits. Where one is full all three are halved, so that shares stay as they are;
// volumes over some thousand tries a quarter are then too small, and no minimum volume is that
// large. Only the owner writes, with plain stores: a success costs one load and one store in the
// worker's own line. A word is valid at every instruction; all zeros is an empty one.
//
// Absent on purpose: what is known of tries older than the window.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gatehouse {

inline constexpr size_t kWindowWords = 5;

// Counts of a window; sums of several workers' may be larger than one word holds.
struct WindowCounts {
  uint64_t tries = 0;
  uint64_t failed = 0;
  uint64_t slow = 0;
};

// Counts one try. `quarter_ms`: a quarter of the window's length, at least 1. Only for the owner.
void window_add(std::atomic<uint64_t>* words, uint32_t quarter_ms, uint64_t now_ms, bool failed,
                bool slow);

// Adds what `words` counted in the four quarters that end at `now_ms`, in 1/1024 of a try.
void window_sum(const std::atomic<uint64_t>* words, uint32_t quarter_ms, uint64_t now_ms,
                WindowCounts& scaled);
inline constexpr uint64_t kWindowScale = 1024;

// Forgets everything. Only for the owner.
void window_clear(std::atomic<uint64_t>* words);

}  // namespace gatehouse
