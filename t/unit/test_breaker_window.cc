// The sliding window of a breaker, against a list of every try.
#include "core/breaker_window.h"

#include <criterion/criterion.h>

#include <array>
#include <random>
#include <vector>

namespace gatehouse {
namespace {

using Words = std::array<std::atomic<uint64_t>, kWindowWords>;

WindowCounts counts(const Words& words, uint32_t quarter_ms, uint64_t now_ms) {
  WindowCounts sum;
  window_sum(words.data(), quarter_ms, now_ms, sum);
  return sum;
}

Test(breaker_window, counts_what_was_added) {
  Words words{};
  for (int i = 0; i < 7; ++i) window_add(words.data(), 2500, 50'000, i < 3, i == 6);
  const WindowCounts sum = counts(words, 2500, 50'001);
  cr_assert_eq(sum.tries, 7 * kWindowScale);
  cr_assert_eq(sum.failed, 3 * kWindowScale);
  cr_assert_eq(sum.slow, 1 * kWindowScale);
}

Test(breaker_window, forgets_after_the_window) {
  Words words{};
  window_add(words.data(), 2500, 10'000, true, false);
  cr_assert_eq(counts(words, 2500, 19'999).tries, kWindowScale, "four whole quarters count");
  const uint64_t half = counts(words, 2500, 21'250).tries;
  cr_assert_eq(half, kWindowScale / 2, "half of its quarter lies in the window: %lu", half);
  cr_assert_eq(counts(words, 2500, 22'500).tries, 0u);
  cr_assert_eq(counts(words, 2500, 10'000 + 5 * 2500 * 1000).tries, 0u, "the ring comes round");
}

Test(breaker_window, shares_stay_where_a_count_is_full) {
  Words words{};
  for (int i = 0; i < 1'000'000; ++i)
    window_add(words.data(), 2500, 10'000, i % 5 == 0, i % 2 == 0);
  const WindowCounts sum = counts(words, 2500, 10'000);
  cr_assert_gt(sum.tries, 8000 * kWindowScale);
  const double failed = static_cast<double>(sum.failed) / static_cast<double>(sum.tries);
  const double slow = static_cast<double>(sum.slow) / static_cast<double>(sum.tries);
  cr_assert_float_eq(failed, 0.2, 0.01, "%f", failed);
  cr_assert_float_eq(slow, 0.5, 0.01, "%f", slow);
}

Test(breaker_window, a_word_full_of_ones_does_not_overflow_into_others) {
  Words words{};
  for (int i = 0; i < 100'000; ++i) window_add(words.data(), 2500, 10'000, true, true);
  const WindowCounts sum = counts(words, 2500, 10'000);
  cr_assert_eq(sum.tries, sum.failed);
  cr_assert_eq(sum.tries, sum.slow);
}

Test(breaker_window, clear_forgets) {
  Words words{};
  window_add(words.data(), 1, 10'000, true, true);
  window_clear(words.data());
  cr_assert_eq(counts(words, 1, 10'000).tries, 0u);
}

// What it says lies between what truly happened in four whole quarters and in five.
Test(breaker_window, against_a_list_of_tries) {
  std::mt19937_64 random(20261120);
  struct Try {
    uint64_t ms;
    bool failed;
  };
  for (int round = 0; round < 50; ++round) {
    Words words{};
    std::vector<Try> all;
    const auto quarter = static_cast<uint32_t>(1 + random() % 1000);
    uint64_t now = random() % 1'000'000;
    for (int i = 0; i < 2000; ++i) {
      now += random() % (quarter / 20 + 2);
      if (random() % 300 == 0) now += random() % (quarter * 8);
      const bool failed = random() % 3 == 0;
      window_add(words.data(), quarter, now, failed, false);
      all.push_back({now, failed});
      uint64_t least = 0;
      uint64_t most = 0;
      const uint64_t newest = now / quarter;
      for (const Try& one : all) {
        if (!one.failed) continue;
        const uint64_t age = newest - one.ms / quarter;
        if (age < 4) ++least;
        if (age < 5) ++most;
      }
      const WindowCounts sum = counts(words, quarter, now);
      cr_assert(sum.failed >= least * kWindowScale && sum.failed <= most * kWindowScale,
                "%lu of %lu to %lu", sum.failed, least, most);
    }
  }
}

}  // namespace
}  // namespace gatehouse
