// When a target is put out, for how long, and how it is forgiven; what a peak is worth.
#include "http/ejection.h"

#include <criterion/criterion.h>

#include "http/peak_latency.h"

namespace {

using namespace gatehouse;

constexpr EjectionRules kRules{3, 1000, 8000};
using Word = std::atomic<uint64_t>;

// Fails until the target is put out; returns until when.
uint64_t fail_out(Word& word, uint64_t now) {
  while (!note_failure(word, kRules, now)) {
  }
  return Ejection::unpack(word.load()).until_ms;
}

}  // namespace

Test(ejection, failures_in_a_row_put_a_target_out) {
  Word word{0};
  cr_assert_not(note_failure(word, kRules, 50));
  cr_assert_not(note_failure(word, kRules, 51));
  note_success(word, kRules, 52);
  cr_assert_not(note_failure(word, kRules, 53));
  cr_assert_not(note_failure(word, kRules, 54));
  cr_assert_not(is_ejected(word, 55));
  cr_assert(note_failure(word, kRules, 55));
  cr_assert(is_ejected(word, 55));
  cr_assert(is_ejected(word, 1054));
  cr_assert_not(is_ejected(word, 1055));
}

Test(ejection, what_was_under_way_counts_neither_way_while_it_is_out) {
  Word word{0};
  const uint64_t until = fail_out(word, 100);
  const uint64_t stood = word.load();
  cr_assert_not(note_failure(word, kRules, until - 1));
  note_success(word, kRules, until - 1);
  cr_assert_eq(word.load(), stood);
}

Test(ejection, each_time_is_twice_as_long_up_to_a_longest) {
  Word word{0};
  uint64_t now = 100;
  for (const uint64_t length : {1000, 2000, 4000, 8000, 8000, 8000}) {
    const uint64_t until = fail_out(word, now);
    cr_assert_eq(until - now, length);
    now = until;
  }
  // It worked, but not for as long as it was out.
  note_success(word, kRules, now + 7999);
  cr_assert_eq(fail_out(word, now + 7999), now + 7999 + 8000);
  now += 7999 + 8000;
  note_success(word, kRules, now + 8000);
  cr_assert_eq(fail_out(word, now + 8000), now + 8000 + 1000);
}

Test(ejection, an_ejection_too_many_is_taken_back) {
  Word word{0};
  const uint64_t until = fail_out(word, 100);
  take_back_ejection(word, 101);
  cr_assert_not(is_ejected(word, 101));
  take_back_ejection(word, 102);
  cr_assert_eq(fail_out(word, 103), until + 3, "it lasts as long as it would have");
  take_back_ejection(word, 5000);
  cr_assert_eq(Ejection::unpack(word.load()).until_ms, until + 3, "one that is over stays");
}

Test(ejection, the_word_holds_its_limits) {
  Ejection ejection{0xffff, 0xff, (uint64_t{1} << 40) - 1};
  const Ejection same = Ejection::unpack(ejection.pack());
  cr_assert_eq(same.failures, 0xffffu);
  cr_assert_eq(same.times, 0xffu);
  cr_assert_eq(same.until_ms, (uint64_t{1} << 40) - 1);
  cr_assert_eq(Ejection::duration_ms(kRules, 255), 8000u);
  cr_assert_eq(Ejection::duration_ms(EjectionRules{1, 5000, 1000}, 9), 5000u);
}

Test(ejection, a_peak_is_believed_and_sinks) {
  Word word{0};
  cr_assert_eq(peak_latency(word, 1000), 0u);
  note_latency(word, 2000, 1000);
  cr_assert_eq(peak_latency(word, 1000), 2000u);
  note_latency(word, 80'000, 1000);
  cr_assert_eq(peak_latency(word, 1000), 80'000u);
  // Within a step nothing but a peak counts.
  note_latency(word, 1000, 1001);
  cr_assert_eq(peak_latency(word, 1001), 80'000u);
  // Half of it is forgotten after seven seconds, used or not.
  cr_assert_float_eq(static_cast<double>(peak_latency(word, 1000 + 6931)), 40'000.0, 400.0);
  for (uint64_t now = 1000; now < 1000 + 6931; now += 10) note_latency(word, 1000, now);
  cr_assert_float_eq(static_cast<double>(peak_latency(word, 1000 + 6931)), 40'500.0, 800.0);
  for (uint64_t now = 7931; now < 107'931; now += 10) note_latency(word, 1000, now);
  cr_assert_float_eq(static_cast<double>(peak_latency(word, 107'931)), 1000.0, 30.0);
}

Test(ejection, a_clock_that_is_a_turn_behind_changes_nothing) {
  Word word{0};
  note_latency(word, 5000, 100'000);
  cr_assert_eq(peak_latency(word, 99'900), 5000u);
  note_latency(word, 4000, 99'900);
  cr_assert_eq(peak_latency(word, 100'000), 5000u);
  note_latency(word, 0, 0);
  cr_assert_neq(word.load(), 0u);
}
