// How long a dead worker's slot stays empty.
#include "core/supervisor_backoff.h"

#include <criterion/criterion.h>

namespace {

using gatehouse::Duration;
using gatehouse::RestartBackoff;

}  // namespace

Test(supervisor_backoff, at_once_then_doubling_up_to_ten_seconds) {
  RestartBackoff backoff;
  long long expected[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
  for (long long ms : expected) cr_assert(backoff.next_delay(Duration{20}).count() == ms);
}

Test(supervisor_backoff, a_good_run_begins_anew) {
  RestartBackoff backoff;
  for (int i = 0; i < 5; ++i) backoff.next_delay(Duration{4999});
  cr_assert(backoff.next_delay(Duration{5000}).count() == 0);
  cr_assert(backoff.next_delay(Duration{0}).count() == 100);
}
