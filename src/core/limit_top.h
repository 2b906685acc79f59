// LimitTop: which keys use a limit most, in a fixed number of places (Space-Saving, Metwally 2005).
//
// 32 keys with their counts. One that is not among them takes the place of the least, and begins
// with its count, which is noted as the error: a key that really makes more than a 32nd of all
// requests is always there, and no count is too low. What was long ago weighs less: counts are
// halved each minute.
//
// In shared memory, written by several workers without a lock, for looking at only: counts may be
// off by what two workers did at the same instant. A text belongs to its key only while its check
// fits, so that a torn one is not shown.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/shared_memory.h"

namespace gatehouse {

struct alignas(64) LimitTop {
  static constexpr uint32_t kPlaces = 32;
  static constexpr size_t kTextMax = 47;  // longer keys are cut, and end in "~"
  static constexpr int64_t kHalfLifeUs = 60'000'000;

  std::atomic<uint64_t> tags[kPlaces];  // 0: free
  std::atomic<uint32_t> requests[kPlaces];
  std::atomic<uint32_t> refused[kPlaces];
  std::atomic<uint32_t> error[kPlaces];  // how much of `requests` may be others'
  std::atomic<uint32_t> checks[kPlaces];
  std::atomic<uint64_t> texts[kPlaces][(kTextMax + 1) / 8];
  std::atomic<int64_t> halved_us;
  std::atomic<uint64_t> spare[7];

  // Counts `weight` requests of the key, refused ones or others. True where the key is new here:
  // then set_text() has to follow.
  bool add(uint64_t tag, uint32_t weight, bool is_refused, int64_t now_us, uint32_t& place);
  void set_text(uint32_t place, uint64_t tag, std::string_view text);
  void clear();
};
static_assert(ZoneLayout<LimitTop>);

struct LimitTopKey {
  uint64_t tag = 0;
  std::string text;  // empty: not known
  uint64_t requests = 0;
  uint64_t refused = 0;
  uint64_t error = 0;
};

// All keys of several, most requests first.
std::vector<LimitTopKey> merge_limit_tops(const LimitTop* tops, size_t count);

}  // namespace gatehouse
