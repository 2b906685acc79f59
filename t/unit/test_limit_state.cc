// Rate limits on one word, against exact logs of what was admitted.
#include "core/limit_state.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <vector>

using namespace gatehouse;

namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kStart = 77'123'456'789;  // no round moment

LimitRule window(uint64_t count, int64_t period_us = kSecond) {
  return make_limit_rule({count, period_us, std::nullopt}, kStart);
}
LimitRule bucket(uint64_t count, uint64_t burst, int64_t period_us = kSecond) {
  return make_limit_rule({count, period_us, burst}, kStart);
}

// Asks as `next` says how long to wait, for `length`; returns when each was admitted.
std::vector<int64_t> admitted(const LimitRule& rule, int64_t length,
                              const std::function<int64_t()>& next, uint64_t* refused = nullptr) {
  std::vector<int64_t> log;
  uint64_t count = 0;
  for (int64_t now = kStart + next(); now < kStart + length; now += next()) {
    if (limit_take(rule, count, now, 1)) {
      log.push_back(now);
    } else if (refused != nullptr) {
      ++*refused;
    }
  }
  return log;
}

// The most that any window of `period` holds, both its ends included or not as they hurt most.
uint64_t most_in_a_window(const std::vector<int64_t>& log, int64_t period) {
  size_t first = 0;
  uint64_t most = 0;
  for (size_t last = 0; last < log.size(); ++last) {
    while (log[last] - log[first] >= period) ++first;
    most = std::max<uint64_t>(most, last - first + 1);
  }
  return most;
}

// Loads that hurt: bursts, floods, an early one and then all at the end of a piece, noise.
std::vector<std::function<int64_t()>> loads(uint64_t count, int64_t period,
                                            std::minstd_rand& random) {
  const auto gap = static_cast<double>(period) / static_cast<double>(count);
  const auto evenly = [gap, sum = 0.0](double factor) {
    return [gap, factor, exact = 0.0, given = int64_t{0}]() mutable {
      exact += gap / factor;
      const auto step = static_cast<int64_t>(exact) - given;
      given += step;
      return step;
    };
  };
  const auto noise = [gap, &random](double factor) {
    return [gap, factor, &random, exact = 0.0, given = int64_t{0}]() mutable {
      std::exponential_distribution<double> wait(factor / gap);
      exact += wait(random);
      const auto step = static_cast<int64_t>(exact) - given;
      given += step;
      return step;
    };
  };
  // About N at once, then a rest of a random part of a window and a half.
  const auto bursts = [count, period, &random, left = uint64_t{0}]() mutable -> int64_t {
    if (left-- > 0) return 0;
    left = count / 2 + random() % (count + 1);
    return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(period + period / 2));
  };
  return {evenly(1.3), evenly(8), noise(0.95), noise(3), bursts};
}

}  // namespace

// ---- Sliding window -----------------------------------------------------------------------------

Test(limit_state, no_window_admits_more_than_its_bound) {
  std::minstd_rand random(4711);
  for (const uint64_t count : {1, 2, 3, 5, 7, 10, 16, 64, 100, 127, 128, 500, 1000, 4095, 5000}) {
    for (const int64_t period : {int64_t{1'000}, kSecond, 60 * kSecond, int64_t{777'777}}) {
      const LimitRule rule = window(count, period);
      for (const auto& load : loads(count, period, random)) {
        const std::vector<int64_t> log = admitted(rule, 20 * period, load);
        const uint64_t most = most_in_a_window(log, period);
        cr_assert_leq(most, rule.bound(), "%lu in %ld us: %lu, bound %lu", count, period, most,
                      rule.bound());
        cr_assert_geq(log.size(), count);
      }
    }
  }
}

Test(limit_state, the_bound_is_a_quarter_for_a_hundred_and_never_more_than_twice) {
  cr_expect_eq(window(100).bound(), 125);
  cr_expect_eq(window(1000).bound(), 1500);
  cr_expect_eq(window(10'000).bound(), 20'000);
  cr_expect_eq(window(kWindowCountMax).bound(), 2 * kWindowCountMax);
  for (uint64_t count = 1; count < 5000; ++count) {
    const LimitRule rule = window(count);
    cr_assert_leq(rule.bound(), 2 * count);
    cr_assert_leq(rule.piece_bits * (rule.pieces + 1), 38U);
    cr_assert_geq(rule.piece_us * rule.pieces, rule.period_us);
  }
}

// What the stated bound says is really reached: nobody may rely on less.
Test(limit_state, the_worst_load_comes_near_the_bound) {
  const LimitRule rule = window(1000);
  uint64_t count = 0;
  std::vector<int64_t> log;
  const int64_t burst = kStart + rule.piece_us - 1;
  for (int64_t now = burst; now < burst + kSecond; now += 100) {
    while (limit_take(rule, count, now, 1)) log.push_back(now);
  }
  cr_expect_geq(most_in_a_window(log, kSecond), 1450);
}

// An exact log over P + P/C would admit these too.
Test(limit_state, has_room_where_the_longer_window_has) {
  std::minstd_rand random(1);
  for (const uint64_t count : {1, 4, 10, 100, 300, 2000, 5000}) {
    const LimitRule rule = window(count);
    for (const auto& load : loads(count, kSecond, random)) {
      uint64_t state = 0;
      std::deque<int64_t> log;
      for (int64_t now = kStart; now < kStart + 10 * kSecond; now += load()) {
        while (!log.empty() && now - log.front() > kSecond + rule.piece_us) log.pop_front();
        const bool taken = limit_take(rule, state, now, 1);
        cr_assert(taken || log.size() >= count, "%lu: refused after %zu", count, log.size());
        if (taken) log.push_back(now);
      }
    }
  }
}

Test(limit_state, an_even_load_gets_what_it_is_allowed) {
  for (const uint64_t count : {10, 20, 100, 1000, 5000}) {
    const LimitRule rule = window(count);
    uint64_t refused = 0;
    int64_t step = kSecond * 10 / (static_cast<int64_t>(count) * 9);  // nine tenths of it
    admitted(
        rule, 50 * kSecond, [&] { return step; }, &refused);
    cr_expect_eq(refused, 0, "%lu: %lu refused", count, refused);
    // Four times as many get what is allowed, on the long run, but for two in a window.
    step = kSecond / (static_cast<int64_t>(count) * 4);
    const auto log = admitted(rule, 100 * kSecond, [&] { return step; });
    cr_expect_geq(log.size(), (count - 2) * 100, "%lu: %zu", count, log.size());
    cr_expect_leq(log.size(), count * 100 + rule.credit_max() + count);
  }
}

Test(limit_state, a_worker_whose_time_is_behind_counts_into_the_newest_piece) {
  const LimitRule rule = window(100);
  uint64_t count = 0;
  const int64_t border = kStart + rule.piece_us;
  for (int i = 0; i < 60; ++i) cr_assert(limit_take(rule, count, border + 5, 1));
  for (int i = 0; i < 40; ++i) cr_assert(limit_take(rule, count, border - 2000, 1));
  cr_expect_not(limit_take(rule, count, border - 2000, 1));
  cr_expect_not(limit_take(rule, count, border + 5, 1));
  cr_expect_eq(limit_remaining(rule, count, border + 10), 0);
}

Test(limit_state, a_window_is_forgotten_when_it_is_over) {
  const LimitRule rule = window(10);
  uint64_t count = 0;
  for (int i = 0; i < 10; ++i) cr_assert(limit_take(rule, count, kStart, 1));
  const int64_t life = limit_life_us(rule, count, kStart);
  cr_expect_eq(life, rule.piece_us * (rule.pieces + 1));
  cr_expect_neq(limit_used_units(rule, count, kStart + rule.piece_us * rule.pieces), 0);
  cr_expect_eq(limit_used_units(rule, count, kStart + life), 0);
  cr_expect_eq(limit_life_us(rule, count, kStart + life), 0);
  cr_expect_eq(limit_remaining(rule, count, kStart + 30 * kSecond), 10);
}

// ---- Token bucket -------------------------------------------------------------------------------

Test(limit_state, a_bucket_admits_exactly_burst_and_rate) {
  std::minstd_rand random(99);
  struct Case {
    uint64_t count;
    int64_t period;
    uint64_t burst;
  };
  for (const Case& each : {Case{100, kSecond, 200}, Case{3, kSecond, 2}, Case{1, 7 * kSecond, 5},
                           Case{999'983, kSecond, 100}, Case{300'000, kSecond, 5},
                           Case{1'000'000, kSecond, 1'000'000}, Case{10, 86'400 * kSecond, 3}}) {
    const LimitRule rule = bucket(each.count, each.burst, each.period);
    uint64_t count = 0;
    uint64_t taken = 0;
    const int64_t length = std::min<int64_t>(each.period * 40, 3 * 86'400 * kSecond);
    const int64_t step = std::max<int64_t>(1, each.period / static_cast<int64_t>(each.count) / 3);
    int64_t now = kStart;
    uint64_t asked = 0;
    while (now < kStart + length && asked < 3'000'000) {
      while (limit_take(rule, count, now, 1)) ++taken;
      now += 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(step));
      ++asked;
      const double due = static_cast<double>(each.burst) + static_cast<double>(now - kStart) *
                                                               static_cast<double>(each.count) /
                                                               static_cast<double>(each.period);
      cr_assert_leq(static_cast<double>(taken), due + 1e-3);
    }
    while (limit_take(rule, count, now, 1)) ++taken;
    const double due = static_cast<double>(each.burst) + static_cast<double>(now - kStart) *
                                                             static_cast<double>(each.count) /
                                                             static_cast<double>(each.period);
    cr_assert_geq(static_cast<double>(taken), due - 1.01, "%lu/%ld: %lu of %f", each.count,
                  each.period, taken, due);
  }
}

// The clock of a bucket has an error of its own, which years do not make larger than a token.
Test(limit_state, a_bucket_is_exact_after_nine_years) {
  const int64_t years = int64_t{9} * 365 * 86'400 * kSecond;
  for (const uint64_t rate : {uint64_t{1}, uint64_t{3}, uint64_t{999'983}}) {
    const LimitRule rule = bucket(rate, 1000);
    uint64_t count = 0;
    const int64_t now = kStart + years;
    uint64_t taken = 0;
    while (limit_take(rule, count, now, 1)) ++taken;
    cr_expect_eq(taken, 1000);
    // One token more when its time has come, not a microsecond's worth of tokens earlier.
    const int64_t retry = limit_retry_us(rule, count, now, 1);
    cr_expect_leq(retry, static_cast<int64_t>(kSecond / rate) + 1);
    cr_expect(limit_take(rule, count, now + retry, 1));
  }
}

Test(limit_state, a_cost_takes_that_much) {
  const LimitRule rule = bucket(10, 30);
  uint64_t count = 0;
  cr_expect(limit_take(rule, count, kStart, 25));
  cr_expect_not(limit_take(rule, count, kStart, 6));
  cr_expect_eq(limit_remaining(rule, count, kStart), 5);
  cr_expect_lt(std::abs(limit_retry_us(rule, count, kStart, 6) - kSecond / 10), 2);
  cr_expect(limit_take(rule, count, kStart, 5));
  const LimitRule other = window(30);
  count = 0;
  cr_expect(limit_take(other, count, kStart, 25));
  cr_expect_not(limit_take(other, count, kStart, 6));
  cr_expect(limit_take(other, count, kStart, 5));
}

// ---- Both ---------------------------------------------------------------------------------------

Test(limit_state, retry_is_when_it_has_room_and_not_before) {
  std::minstd_rand random(5);
  for (int round = 0; round < 3000; ++round) {
    const uint64_t size = 1 + random() % 300;
    const LimitRule rule =
        round % 2 == 0 ? window(size) : bucket(1 + random() % 1000, size, kSecond);
    uint64_t count = 0;
    int64_t now = kStart + static_cast<int64_t>(random() % kSecond);
    for (uint64_t i = 0; i < 2 * size; ++i) {
      limit_take(rule, count, now, 1);
      now += static_cast<int64_t>(random() % (kSecond / size));
    }
    const uint64_t cost = 1 + random() % size;
    const int64_t retry = limit_retry_us(rule, count, now, cost);
    uint64_t later = count;
    cr_assert(limit_take(rule, later, now + retry, cost), "round %d", round);
    if (retry > 2) {
      later = count;
      cr_assert_not(limit_take(rule, later, now + retry - 2, cost), "round %d", round);
    }
  }
}

Test(limit_state, what_is_given_back_was_never_taken) {
  for (const LimitRule& rule : {window(50), bucket(10, 50)}) {
    uint64_t count = 0;
    int64_t now = kStart + 100;
    for (int i = 0; i < 20; ++i) cr_assert(limit_take(rule, count, now, 1));
    const uint64_t used = limit_used_units(rule, count, now + 1000);
    uint32_t piece = 0;
    cr_assert(limit_take(rule, count, now, 7, &piece));
    now += rule.is_bucket() ? 1000 : rule.piece_us;  // also where the piece is no longer the newest
    const uint64_t before = limit_used_units(rule, count, now);
    count = limit_give_back(rule, count, 7, piece);
    cr_expect_eq(before - limit_used_units(rule, count, now), 7 * kTokenUnits);
    cr_expect_eq(limit_used_units(rule, count, kStart + 1100), used);
    // Long after, there is nothing to give back to.
    now += 10 * kSecond;
    cr_assert(limit_take(rule, count, now, 1));
    const uint64_t alone = limit_used_units(rule, count, now);
    if (!rule.is_bucket()) {
      cr_expect_eq(limit_used_units(rule, limit_give_back(rule, count, 7, piece), now), alone);
    }
  }
}

Test(limit_state, all_zero_is_an_unused_budget) {
  for (const LimitRule& rule : {window(50), bucket(10, 50)}) {
    for (const int64_t later : {int64_t{0}, kSecond, 400 * 86'400 * kSecond}) {
      cr_expect_eq(limit_remaining(rule, 0, kStart + later), 50);
      cr_expect_eq(limit_life_us(rule, 0, kStart + later), 0);
      cr_expect_eq(limit_retry_us(rule, 0, kStart + later, 50), 0);
    }
    // Also to a worker whose time is before the rule's beginning.
    cr_expect_eq(limit_remaining(rule, 0, kStart - 5000), 50);
  }
}

// Any bytes are a valid state: nothing is trusted beyond what it can mean.
Test(limit_state, any_word_is_a_valid_state) {
  std::mt19937_64 random(8);
  auto rules = std::make_unique<LimitRules>();
  for (int i = 0; i < 20; ++i) {
    rules->change(i % 2 == 0 ? window(1 + random() % 1000) : bucket(5, 1 + random() % 1000));
  }
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t count = limit_count_at(*rules, 20, random());
    cr_assert_leq(count, kLimitCountMask);
    const LimitRule& rule = rules->current();
    uint64_t changed = count;
    (void)limit_take(rule, changed, kStart + 5, 1);
    cr_assert_leq(limit_remaining(rule, changed, kStart + 5), rule.capacity());
    cr_assert_geq(limit_life_us(rule, changed, kStart + 5), 0);
  }
}

// ---- Changed rules ------------------------------------------------------------------------------

namespace {

struct Change {
  LimitRate before;
  LimitRate after;
};

}  // namespace

Test(limit_state, a_changed_rate_keeps_what_was_used) {
  const LimitRate window_100{100, kSecond, std::nullopt};
  const LimitRate window_50{50, 2 * kSecond, std::nullopt};
  const LimitRate bucket_200{100, kSecond, 200};
  const LimitRate bucket_90{10, kSecond, 90};
  for (const Change& change : {Change{window_100, window_50}, Change{window_100, bucket_200},
                               Change{bucket_200, window_100}, Change{bucket_200, bucket_90},
                               Change{bucket_90, bucket_200}, Change{window_50, window_100}}) {
    auto rules = std::make_unique<LimitRules>();
    rules->change(make_limit_rule(change.before, kStart));
    uint64_t count = 0;
    const int64_t now = kStart + 100;
    for (int i = 0; i < 40; ++i) cr_assert(limit_take(rules->current(), count, now, 1));
    const uint64_t state = make_limit_state(0, 1, count);
    rules->change(make_limit_rule(change.after, now));
    const uint64_t after = limit_count_at(*rules, 2, state);
    const LimitRule& rule = rules->current();
    cr_expect_eq(limit_remaining(rule, after, now), rule.capacity() - 40);
    // Nothing is used for longer than the new rule says.
    cr_expect_eq(limit_remaining(rule, after, now + 10 * kSecond), rule.capacity());
  }
}

Test(limit_state, what_was_used_long_before_a_change_stays_forgotten) {
  auto rules = std::make_unique<LimitRules>();
  rules->change(make_limit_rule({100, kSecond, std::nullopt}, kStart));
  uint64_t count = 0;
  for (int i = 0; i < 40; ++i) cr_assert(limit_take(rules->current(), count, kStart, 1));
  const uint64_t state = make_limit_state(0, 1, count);
  for (int i = 0; i < 10; ++i) {
    const uint64_t n = 50 + static_cast<uint64_t>(i);
    rules->change(make_limit_rule({n, kSecond, std::nullopt}, kStart + 60 * kSecond));
  }
  cr_expect_eq(limit_count_at(*rules, 11, state), 0);
}

Test(limit_state, a_smaller_budget_than_what_was_used_has_no_room) {
  auto rules = std::make_unique<LimitRules>();
  rules->change(make_limit_rule({100, kSecond, 5000}, kStart));
  uint64_t count = 0;
  cr_assert(limit_take(rules->current(), count, kStart, 4000));
  rules->change(make_limit_rule({10, kSecond, std::nullopt}, kStart));
  uint64_t after = limit_count_at(*rules, 2, make_limit_state(0, 1, count));
  cr_expect_eq(limit_remaining(rules->current(), after, kStart), 0);
  cr_expect_not(limit_take(rules->current(), after, kStart, 1));
}
