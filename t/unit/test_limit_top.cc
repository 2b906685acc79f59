// The keys that come most.
#include "core/limit_top.h"

#include <criterion/criterion.h>

#include <memory>
#include <random>
#include <string>

#include "expect_text.h"

using namespace gatehouse;

namespace {

constexpr int64_t kNow = 1'000'000'000;

void add(LimitTop& top, uint64_t tag, uint32_t weight, bool is_refused, int64_t now_us = kNow) {
  uint32_t place = 0;
  if (top.add(tag, weight, is_refused, now_us, place)) {
    top.set_text(place, tag, "key " + std::to_string(tag));
  }
}

}  // namespace

// Whoever makes more than a 32nd of all is there, with at least its count.
Test(limit_top, finds_the_heavy_ones_among_many) {
  auto top = std::make_unique<LimitTop>();
  top->halved_us = kNow;
  std::minstd_rand random(3);
  uint64_t heavy[4] = {};
  for (int i = 0; i < 50'000; ++i) {
    if (random() % 3 == 0) {
      const uint64_t which = random() % 3 + 1;
      ++heavy[which];
      add(*top, which, 1, which == 2);
    } else {
      add(*top, 1000 + random() % 100'000, 1, false);
    }
  }
  const auto keys = merge_limit_tops(top.get(), 1);
  cr_assert_geq(keys.size(), 3);
  for (size_t i = 0; i < 3; ++i) {
    cr_assert_leq(keys[i].tag, 3);
    expect(keys[i].text, "key " + std::to_string(keys[i].tag));
    cr_expect_geq(keys[i].requests, heavy[keys[i].tag]);
    cr_expect_leq(keys[i].requests - keys[i].error, heavy[keys[i].tag]);
    if (keys[i].error == 0) {
      cr_expect_eq(keys[i].refused, keys[i].tag == 2 ? heavy[2] : 0);
    }
  }
}

Test(limit_top, several_are_added_up) {
  const auto tops = std::make_unique<LimitTop[]>(2);
  tops[0].halved_us = tops[1].halved_us = kNow;
  add(tops[0], 7, 10, true);
  add(tops[1], 7, 5, false);
  add(tops[1], 8, 20, false);
  const auto keys = merge_limit_tops(tops.get(), 2);
  cr_assert_eq(keys.size(), 2);
  cr_expect_eq(keys[0].tag, 8);
  cr_expect_eq(keys[1].requests, 15);
  cr_expect_eq(keys[1].refused, 10);
}

Test(limit_top, what_was_long_ago_weighs_less) {
  auto top = std::make_unique<LimitTop>();
  top->halved_us = kNow;
  add(*top, 1, 1000, false);
  add(*top, 2, 600, false, kNow + LimitTop::kHalfLifeUs);
  const auto keys = merge_limit_tops(top.get(), 1);
  cr_expect_eq(keys[0].tag, 2);
  cr_expect_eq(keys[1].requests, 500);
}

Test(limit_top, a_text_that_does_not_fit_its_key_is_not_shown) {
  auto top = std::make_unique<LimitTop>();
  add(*top, 1, 1, false);
  expect(merge_limit_tops(top.get(), 1)[0].text, "key 1");
  top->tags[0].store(99);
  expect(merge_limit_tops(top.get(), 1)[0].text, "");
  uint32_t place = 0;
  top->add(5, 1, false, kNow, place);
  top->set_text(place, 5, std::string(100, 'x'));
  const auto keys = merge_limit_tops(top.get(), 1);
  expect(keys[0].tag == 5 ? keys[0].text : keys[1].text, std::string(46, 'x') + "~");
}
