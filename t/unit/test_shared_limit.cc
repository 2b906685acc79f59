// A limit's zones: what stays when the configuration changes.
#include "core/shared_limit.h"

#include <criterion/criterion.h>

#include <string>

#include "expect_text.h"

using namespace gatehouse;

namespace {

constexpr int64_t kNow = 1'000'000'000;

LimitSettings settings_of(LimitRate rate, uint32_t keys = 1000) {
  LimitSettings settings;
  settings.name = "one";
  settings.rate = rate;
  settings.keys_max = keys;
  return settings;
}

const LimitRate kTen{1, int64_t{86'400} * 1'000'000, 10};
const LimitRate kThirty{1, int64_t{86'400} * 1'000'000, 30};

std::unique_ptr<SharedLimit> serving(SharedMemory& shared, const LimitSettings& settings,
                                     uint32_t generation) {
  Result<std::unique_ptr<SharedLimit>> limit = SharedLimit::open(shared, settings, kNow);
  cr_assert(limit);
  cr_assert((*limit)->serve(settings, generation, kNow));
  return std::move(*limit);
}

uint64_t take_all(SharedLimit& limit, uint64_t hash) {
  uint64_t taken = 0;
  LimitTable::Taken how;
  while (limit.table().take(limit.rules(), hash, kNow, 1, how)) ++taken;
  return taken;
}

}  // namespace

Test(shared_limit, a_reload_keeps_counts_and_changes_the_rate_once) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  auto first = serving(shared, settings_of(kTen), 1);
  cr_expect_eq(take_all(*first, 99), 10);
  // Prepared only: nothing changes.
  auto next = std::move(*SharedLimit::open(shared, settings_of(kThirty), kNow));
  cr_expect_eq(take_all(*next, 99), 0);
  cr_assert(next->serve(settings_of(kThirty), 2, kNow));
  cr_expect_eq(take_all(*first, 99), 20);
  // A worker of the generation before does not bring it back.
  cr_assert(first->serve(settings_of(kTen), 1, kNow));
  cr_expect(first->rules().current().rate() == kThirty);
}

Test(shared_limit, another_size_keeps_counts_there_and_back) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  auto first = serving(shared, settings_of(kTen, 1000), 1);
  LimitTable::Taken how;
  for (int i = 0; i < 4; ++i) {
    cr_assert(first->table().take(first->rules(), 99, kNow, 1, how));
  }
  auto wide = serving(shared, settings_of(kTen, 5000), 2);
  cr_expect_eq(take_all(*wide, 99), 6);
  auto back = serving(shared, settings_of(kTen, 1000), 3);
  cr_expect_eq(take_all(*back, 99), 0);
  cr_expect(back->reset(99));
  cr_expect_eq(take_all(*back, 99), 10);
}

Test(shared_limit, a_rate_by_command_lasts_to_the_next_reload_or_beyond) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  auto limit = serving(shared, settings_of(kTen), 1);
  auto found = SharedLimit::find(shared, "one");
  cr_assert_not_null(found.get());
  cr_assert(found->set_rate(kThirty, false, kNow));
  cr_expect(limit->rules().current().rate() == kThirty);
  // A worker that begins under the same generation leaves it.
  (void)serving(shared, settings_of(kTen), 1);
  cr_expect(limit->rules().current().rate() == kThirty);
  (void)serving(shared, settings_of(kTen), 2);
  cr_expect(limit->rules().current().rate() == kTen);
  cr_assert(found->set_rate(kThirty, true, kNow));
  (void)serving(shared, settings_of(kTen), 3);
  cr_expect(limit->rules().current().rate() == kThirty);
  cr_assert(found->unset_rate(kNow));
  cr_expect(limit->rules().current().rate() == kTen);
  LimitSettings costly = settings_of(kTen);
  costly.cost = 5;
  (void)serving(shared, costly, 4);
  cr_expect_not(found->set_rate({1, 1'000'000, 4}, false, kNow));
}

// More changes than a state tells apart, while nobody uses the key.
Test(shared_limit, many_reloads_with_other_rates_forget_nothing) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  auto first = serving(shared, settings_of(kTen), 1);
  cr_expect_eq(take_all(*first, 99), 10);
  for (uint32_t reload = 2; reload < 60; ++reload) {
    LimitRate rate = kTen;
    rate.burst = 10 + reload % 2;
    (void)serving(shared, settings_of(rate), reload);
  }
  auto last = serving(shared, settings_of(kThirty), 60);
  cr_expect_eq(take_all(*last, 99), 20);
}

Test(shared_limit, names_of_any_kind_have_rows_of_their_own) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  const std::string names[] = {
      "a", "a b", "a_b", std::string(100, 'x'), std::string(101, 'x'), "gr\xC3\xBC\xC3\x9F"};
  uint32_t generation = 0;
  for (const std::string& name : names) {
    LimitSettings settings = settings_of(kTen, 64);
    settings.name = name;
    cr_expect_eq(take_all(*serving(shared, settings, ++generation), 5), 10);
  }
  cr_expect_eq(SharedLimit::names(shared).size(), std::size(names));
  // One that was prepared and never served is no limit.
  LimitSettings settings = settings_of(kTen, 64);
  settings.name = "never";
  cr_assert(SharedLimit::open(shared, settings, kNow));
  cr_expect_eq(SharedLimit::list(shared).size(), std::size(names));
}

Test(shared_limit, says_what_there_is_no_room_for) {
  SharedMemory shared = std::move(*SharedMemory::create(1_MiB));
  const auto failed = SharedLimit::open(shared, settings_of(kTen, 10'000'000), kNow);
  cr_assert_not(failed);
  cr_expect(failed.error().message.starts_with("limit one: zone "));
  cr_expect(failed.error().message.ends_with("a smaller keys_max helps too"));
}
