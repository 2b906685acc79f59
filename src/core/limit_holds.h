// LimitHolds: how many exchanges of each key are under way, over all workers.
//
// Each worker counts its own in a column of its own (core/worker_columns.h), in sets of eight words
// found by the key's hash; a word is 44 bits of tag and 20 of count. The sum over all columns is
// what is under way: never more than the limit, for who adds counts first and asks then; of two
// that ask at once for the last place both may be refused. A worker that was killed holds nothing
// any more as soon as the master has seen its end.
//
// Guarantees: no lock; one cache line for each worker there is. Where eight other keys of the same
// set are under way in one worker (of 8192 places; half of them in use: one in a hundred), the
// exchange is not counted, and not refused for it.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/result.h"
#include "core/shared_memory.h"
#include "core/worker_columns.h"

namespace gatehouse {

struct alignas(64) LimitHoldSet {
  static constexpr uint32_t kPlaces = 8;
  std::atomic<uint64_t> words[kPlaces];
};
static_assert(sizeof(LimitHoldSet) == 64 && ZoneLayout<LimitHoldSet>);

class LimitHolds {
 public:
  static constexpr uint32_t kSets = 1024;
  static constexpr uint32_t kCountMax = (1U << 20) - 1;

  static Result<LimitHolds> open(SharedMemory& shared);
  // Makes the worker's column, before it takes anything.
  Result<void> open_column(uint32_t row);

  enum class Outcome : uint8_t { kHeld, kRefused, kUncounted };
  // Holds one of the key's `limit` places. `*word`: what to give to release(), where it is held.
  // REQUIRES: open_column() was called, for the row of this process; one thread.
  Outcome hold(uint64_t hash, uint32_t limit, std::atomic<uint64_t>** word);
  static void release(void* word);

  // How many are under way.
  uint64_t count(uint64_t hash) const;

 private:
  static constexpr unsigned kCountBits = 20;
  static uint64_t tag_of(uint64_t hash) { return hash | uint64_t{kCountMax}; }
  static bool has_tag(uint64_t word, uint64_t hash) {
    return (word & kCountMax) != 0 && (word | kCountMax) == tag_of(hash);
  }
  static uint32_t set_of(uint64_t hash) {
    return static_cast<uint32_t>((hash & kCountMax) % kSets);
  }

  ColumnTable<LimitHoldSet> columns_;
  LimitHoldSet* own_ = nullptr;
};

}  // namespace gatehouse
