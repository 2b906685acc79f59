// The budget of retries: a share of the requests, a few a second, and a cap on what is saved.
#include "http/retry_budget.h"

#include <criterion/criterion.h>

namespace gatehouse {
namespace {

Moment at(int64_t ms) {
  return Moment{ms * 1000};
}

Test(retry_budget, gives_the_share_of_the_requests) {
  RetryBudget budget;
  unsigned taken = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.note_request(2000);
    if (budget.take(0, at(i))) ++taken;
  }
  cr_assert_eq(taken, 2000u, "%u", taken);
}

Test(retry_budget, a_storm_is_as_small_as_the_share) {
  RetryBudget budget;
  // Every request fails, and every retry too.
  unsigned retries = 0;
  for (int i = 0; i < 1000; ++i) {
    budget.note_request(1000);
    for (int again = 0; again < 3; ++again) {
      if (budget.take(3, at(500))) ++retries;
    }
  }
  cr_assert_eq(retries, 103u, "%u", retries);
}

Test(retry_budget, there_are_always_a_few_a_second) {
  RetryBudget budget;
  for (int second = 0; second < 5; ++second) {
    for (int i = 0; i < 3; ++i) cr_assert(budget.take(3, at(second * 1000 + i)));
    cr_assert(!budget.take(3, at(second * 1000 + 999)));
  }
  cr_assert(!budget.take(0, at(60'000)));
}

Test(retry_budget, what_is_saved_is_capped) {
  RetryBudget budget;
  for (int i = 0; i < 1'000'000; ++i) budget.note_request(10'000);
  unsigned taken = 0;
  while (budget.take(0, at(0))) ++taken;
  cr_assert_eq(taken, RetryBudget::kSavedMax);
}

}  // namespace
}  // namespace gatehouse
