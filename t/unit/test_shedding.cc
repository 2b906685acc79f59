// Shedding: how the part that is turned away follows the pressure, and what the process's memory
// is.
#include "http/shedding.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <memory>

#include "core/log.h"

namespace gatehouse {
namespace {

Test(shedding, below_its_limit_nothing_is_turned_away) {
  CpuPressure pressure;
  for (int i = 0; i < 1000; ++i) pressure.note(0.89, 0.9, 20);
  cr_assert_eq(pressure.part(), 0.0);
  for (int i = 0; i < 1000; ++i) cr_assert(!pressure.turn_away());
}

Test(shedding, above_it_a_growing_part_is_and_never_all) {
  CpuPressure pressure;
  double before = 0;
  for (int i = 0; i < 20; ++i) {
    pressure.note(1.0, 0.5, 0);
    cr_assert_geq(pressure.part(), before);
    before = pressure.part();
  }
  cr_assert_gt(before, 0.3, "%f", before);
  for (int i = 0; i < 1000; ++i) pressure.note(1.0, 0.5, 0);
  cr_assert_eq(pressure.part(), CpuPressure::kMost);
}

Test(shedding, a_moment_of_work_is_no_pressure) {
  CpuPressure pressure;
  pressure.note(1.0, 0.9, 0);
  cr_assert_eq(pressure.part(), 0.0, "one interval of ten");
}

Test(shedding, a_loop_that_comes_late_is_pressure_too) {
  CpuPressure pressure;
  for (int i = 0; i < 5; ++i) pressure.note(0.3, 0.9, 500);
  cr_assert_gt(pressure.part(), 0.2, "%f", pressure.part());
  for (int i = 0; i < 50; ++i) pressure.note(0.3, 0.9, 10);
  cr_assert_eq(pressure.part(), 0.0);
}

Test(shedding, the_part_is_spread_evenly) {
  CpuPressure pressure;
  while (pressure.part() < 0.25) pressure.note(1.0, 0.5, 0);
  const double part = pressure.part();
  int away = 0;
  int together = 0;
  for (int i = 0; i < 10'000; ++i) {
    const bool now = pressure.turn_away();
    away += now ? 1 : 0;
    together = now ? together + 1 : 0;
    cr_assert_leq(together, 1, "two in a row, of a quarter to a half");
    if (part >= 0.5) break;
  }
  cr_assert_float_eq(away, part * 10'000, 2, "%d of %f", away, part);
}

// A worker whose demand is what it is: what is turned away costs a tenth of what is served.
Test(shedding, settles_near_its_limit) {
  CpuPressure pressure;
  double used = 0;
  for (int i = 0; i < 600; ++i) {
    const double part = pressure.part();
    used = std::min(1.0, 1.6 * (1 - part) + 0.16 * part);
    pressure.note(used, 0.8, 0);
  }
  cr_assert_float_eq(used, 0.8, 0.08, "%f", used);
}

Test(shedding, knows_the_memory_of_the_process) {
  log_set_level(LogLevel::kAlert);
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  cr_assert(loop.ok());
  LoadShedder shedder(**loop);
  const uint64_t before = shedder.memory_used();
  cr_assert_gt(before, 100'000u);
  constexpr size_t kMore = size_t{64} << 20;
  char* const more = static_cast<char*>(malloc(kMore));
  memset(more, 1, kMore);
  const uint64_t after = shedder.memory_used();
  cr_assert(after >= before + kMore - (4u << 20), "%lu, then %lu", before, after);
  ShedLimits limits;
  limits.memory_max = Bytes{before + kMore / 2};
  cr_assert(shedder.judge(limits) == Reason::kOverloadMemory);
  free(more);
  limits.memory_max = Bytes{before + kMore};
  cr_assert(shedder.judge(limits) == Reason::kNone, "another limit is looked at anew");
}

}  // namespace
}  // namespace gatehouse
