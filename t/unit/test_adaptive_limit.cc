// The adaptive limit against a model of an upstream: one that works on some requests at once and
// lets the others wait.
#include "core/adaptive_limit.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>

namespace gatehouse {
namespace {

struct Model {
  std::atomic<uint64_t> words[3] = {};
  AdaptiveRules rules{4, 1000};
  uint64_t now_ms = 1'000'000;
  double alone_us = 10'000;  // the time of one request that need not wait
  double at_once = 32;       // requests that it works on
  double in_flight = 0;

  // `demand`: requests that clients would have under way, were there no limit.
  void run(double demand, int seconds) {
    for (int i = 0; i < seconds * 10; ++i) {
      now_ms += kAdaptiveStepMs;
      in_flight = std::min(demand, static_cast<double>(limit()));
      const double us = alone_us * std::max(1.0, in_flight / at_once);
      LatencySample sample;
      for (int n = 0; n < 20; ++n) sample.add(static_cast<uint64_t>(us));
      (void)adaptive_step(words, rules, sample, static_cast<uint64_t>(in_flight), now_ms);
    }
  }
  uint32_t limit() const { return adaptive_limit(words, rules); }
};

Test(adaptive_limit, begins_within_its_bounds) {
  Model model;
  cr_assert_eq(model.limit(), 20u);
  model.rules = {50, 60};
  cr_assert_eq(model.limit(), 50u);
  model.rules = {1, 2};
  cr_assert_eq(model.limit(), 2u);
}

Test(adaptive_limit, finds_what_the_upstream_can_take) {
  Model model;
  model.run(500, 60);
  // Twice the least time is allowed: between what it works on at once and about twice that.
  cr_assert(model.limit() >= 32 && model.limit() <= 90, "limit %u", model.limit());
  cr_assert_float_eq(adaptive_least_us(model.words), 10'000, 200);
}

Test(adaptive_limit, a_crowd_that_lasts_does_not_raise_it) {
  Model model;
  model.run(500, 60);
  const uint32_t early = model.limit();
  model.run(5000, 3600);
  cr_assert_leq(model.limit(), early + 5, "%u, then %u", early, model.limit());
}

Test(adaptive_limit, shrinks_when_the_upstream_gets_smaller_and_comes_back) {
  Model model;
  model.run(500, 60);
  const uint32_t before = model.limit();
  model.at_once = 6;
  model.run(500, 60);
  cr_assert_lt(model.limit(), 22u, "limit %u", model.limit());
  model.at_once = 32;
  model.run(500, 60);
  cr_assert(model.limit() + 10 >= before, "%u, then %u", before, model.limit());
}

Test(adaptive_limit, one_that_is_slower_for_good_is_not_strangled) {
  Model model;
  model.run(500, 60);
  model.alone_us = 80'000;
  model.run(500, 5);
  cr_assert_lt(model.limit(), 32u, "it cannot know at once: %u", model.limit());
  model.run(500, 120);
  cr_assert_geq(model.limit(), 30u, "limit %u", model.limit());
}

Test(adaptive_limit, does_not_grow_where_it_is_not_used) {
  Model model;
  model.run(3, 600);
  cr_assert_eq(model.limit(), 20u);
}

Test(adaptive_limit, stays_within_its_bounds) {
  Model model;
  model.rules = {8, 40};
  model.at_once = 1000;
  model.run(500, 60);
  cr_assert_eq(model.limit(), 40u);
  model.alone_us = 3'000'000;
  model.run(500, 3);
  cr_assert_geq(model.limit(), 8u);
}

Test(adaptive_limit, one_step_in_each_interval_whoever_asks) {
  Model model;
  int steps = 0;
  for (int worker = 0; worker < 4; ++worker) {
    LatencySample sample;
    for (int i = 0; i < 20; ++i) sample.add(1000);
    (void)adaptive_step(model.words, model.rules, sample, 20, 1'000'000);
    if (sample.count == 0) ++steps;
  }
  cr_assert_eq(steps, 1, "%d steps", steps);
  LatencySample few;
  few.add(1000);
  (void)adaptive_step(model.words, model.rules, few, 20, 2'000'000);
  cr_assert_eq(few.count, 1u, "too few to tell anything: kept for later");
}

// Words of any content, as a killed writer or another version could leave them.
Test(adaptive_limit, any_word_is_a_valid_one) {
  const AdaptiveRules rules{4, 100};
  for (const uint64_t word : {UINT64_MAX, uint64_t{1}, uint64_t{1} << 32, uint64_t{0xffffffff}}) {
    std::atomic<uint64_t> words[3] = {word, 0, 0};
    for (int i = 1; i < 100; ++i) {
      const uint32_t limit = adaptive_limit(words, rules);
      cr_assert(limit >= 4 && limit <= 100, "limit %u", limit);
      LatencySample sample;
      for (int n = 0; n < 20; ++n) sample.add(static_cast<uint64_t>(n) * 10'000'000'000);
      (void)adaptive_step(words, rules, sample, 50, static_cast<uint64_t>(i) * 1000);
    }
  }
}

}  // namespace
}  // namespace gatehouse
