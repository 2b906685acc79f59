// The arithmetic of rate limits: what one key's 64-bit state word means, and how it changes.
//
// Pure functions of (rules, state, now, cost): no clock, no memory of their own. The table
// (core/limit_table.h) applies them with a compare-and-swap.
//
//   state word   bits 60-63  turn: which claim of the cell the word belongs to (limit_table.h)
//                bits 56-59  epoch: the rule it was written under, modulo 16
//                bits  0-55  the count, below; 0 is a budget of which nothing is used, always
//
// Token bucket (`rate = N/P burst B`): the count is a level on the limit's own clock, which runs at
// N tokens a period, in 1/256 of a token since the rule began: GCRA's theoretical arrival time,
// counted in tokens instead of seconds, so that no division rounds. What is used of the burst is
// the count less the clock. Admitted in any stretch of time t: at most B + N*t/P, exactly; the
// clock's own error stays under 1/256 of a token in nine years.
//
// Sliding window (`rate = N/P`): time is cut into pieces of P/C, C from 1 to 8, the most that fit.
//
//                bits  0-17  number of the newest piece since the rule began, modulo 2^18
//                bits 18-55  C + 1 counts of equal width, the newest lowest
//
// A window that ends now covers the newest C pieces and a part of the oldest, whose count is
// weighted by that overlap; but no more than N/C (rounded up) are counted out, for they may all
// have come at the piece's end. So, at any time:
//   - no window of P admits more than N + N/C, rounded up: up to N = 127 a quarter more, and from
//     N = 4096, where C is 1 (plain two counts), at worst 2N;
//   - a request has room wherever those in the P + P/C before it leave room: how much an even load
//     gets is measured in t/unit/test_limit_state.cc, and is N but for rounding.
// A key that rests for 2^18 pieces (P = 1s: from 18 hours) and comes back within the nine pieces
// after a multiple of that finds its old counts for up to a window: it may be refused early, once
// in 30,000 such returns.
//
// A rule that changes (another rate, another algorithm) keeps what was used: the first to touch a
// state of an older epoch carries the used part over to the new rule's beginning.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

namespace gatehouse {

inline constexpr unsigned kLimitCountBits = 56;
inline constexpr uint64_t kLimitCountMask = (uint64_t{1} << kLimitCountBits) - 1;
inline constexpr unsigned kLimitEpochs = 16;  // that a state word tells apart
inline constexpr uint64_t kTokenUnits = 256;  // of a bucket, in a token

// What may be asked for.
inline constexpr uint64_t kWindowCountMax = (uint64_t{1} << 19) - 1;
inline constexpr uint64_t kBurstMax = 1'000'000'000;
inline constexpr uint64_t kRateMaxPerSecond = 1'000'000;
inline constexpr int64_t kLimitPeriodMinUs = 1'000;
inline constexpr int64_t kLimitPeriodMaxUs = int64_t{400} * 86'400 * 1'000'000;

// A rate as it is configured.
struct LimitRate {
  uint64_t count = 0;               // N; 0: no rate (a limit of concurrency alone)
  int64_t period_us = 1'000'000;    // P
  std::optional<uint64_t> burst{};  // set: a token bucket of that capacity
  friend bool operator==(const LimitRate&, const LimitRate&) = default;
};

// A rate made ready, as it stands in the shared segment. 64 bytes.
struct LimitRule {
  uint64_t count = 0;
  int64_t period_us = 0;
  uint64_t burst = 0;       // in tokens; 0: a sliding window
  int64_t from_us = 0;      // when the rule began, CLOCK_MONOTONIC
  uint64_t slope = 0;       // bucket: units a microsecond, times 2^48
  int64_t piece_us = 0;     // window
  uint32_t piece_bits = 0;  // width of a count
  uint32_t pieces = 0;      // C
  uint64_t spare = 0;

  bool is_bucket() const { return burst != 0; }
  // What a key may use at once: the burst, or N.
  uint64_t capacity() const { return is_bucket() ? burst : count; }
  // The most that a window of P admits; for a bucket, in any stretch of P.
  uint64_t bound() const { return count + (is_bucket() ? burst : credit_max()); }
  uint64_t credit_max() const { return (count + pieces - 1) / pieces; }
  // How long until all that may be used at once is there again: P, or what fills the bucket.
  int64_t refill_us() const;
  LimitRate rate() const;
};
static_assert(sizeof(LimitRule) == 64);

// REQUIRES: `rate` is within the limits above.
LimitRule make_limit_rule(const LimitRate& rate, int64_t from_us);

// The rules of one limit, the one in force and those before it. In shared memory: all zeros, it has
// none. A rule is written whole into its place before `epoch` says so; its place is used again
// sixteen changes later, and states as old as that are brought up to date before.
struct LimitRules {
  std::atomic<uint32_t> epoch{0};  // how many changes there were; the rule is ring[epoch % 16]
  std::atomic<uint32_t> spare{0};
  alignas(64) std::array<LimitRule, kLimitEpochs> ring{};

  const LimitRule& at(uint32_t number) const { return ring[number % kLimitEpochs]; }
  const LimitRule& current() const { return at(epoch.load(std::memory_order_acquire)); }
  // REQUIRES: one caller at a time.
  void change(const LimitRule& rule);
};

// ---- One count under one rule -------------------------------------------------------------------

// Takes `cost` from the budget, where there is room: changes `count` and returns true. Otherwise
// nothing changes. `piece`: where a window counted it, for limit_give_back().
bool limit_take(const LimitRule& rule, uint64_t& count, int64_t now_us, uint64_t cost,
                uint32_t* piece = nullptr);
// Gives back what limit_take() took.
uint64_t limit_give_back(const LimitRule& rule, uint64_t count, uint64_t cost, uint32_t piece);
// Adds `units` (1/256 of a request) to what is used, whether there is room or not.
uint64_t limit_charge(const LimitRule& rule, uint64_t count, int64_t now_us, uint64_t units);
// What is used of the capacity, in 1/256 of a request.
uint64_t limit_used_units(const LimitRule& rule, uint64_t count, int64_t now_us);
// How many requests of cost 1 would be admitted now.
uint64_t limit_remaining(const LimitRule& rule, uint64_t count, int64_t now_us);
// In how many microseconds `cost` will have room, if nobody else takes it; 0: now.
int64_t limit_retry_us(const LimitRule& rule, uint64_t count, int64_t now_us, uint64_t cost);
// In how many microseconds nothing is used any more; 0: the count means nothing now.
int64_t limit_life_us(const LimitRule& rule, uint64_t count, int64_t now_us);

// ---- Epochs -------------------------------------------------------------------------------------

// The count of a state word of any epoch, as it is under the rule number `epoch`.
uint64_t limit_count_at(const LimitRules& rules, uint32_t epoch, uint64_t state);

inline unsigned limit_state_turn(uint64_t state) {
  return static_cast<unsigned>(state >> 60);
}
inline uint64_t make_limit_state(unsigned turn, uint32_t epoch, uint64_t count) {
  return uint64_t{turn & 15} << 60 | uint64_t{epoch % kLimitEpochs} << kLimitCountBits |
         (count & kLimitCountMask);
}

}  // namespace gatehouse
