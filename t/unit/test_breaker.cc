// Circuit breakers with a clock of the test's: each transition, what counts and what comes too
// late; then several processes at once, some of them killed, against the limit of probes.
#include "core/breaker.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"

namespace gatehouse {
namespace {

constexpr uint32_t kWorkers = 4;

std::optional<SharedMemory> segment;
std::unique_ptr<TrafficTable> table;
uint32_t place = 0;

void set_up() {
  log_set_level(LogLevel::kAlert);
  Result<SharedMemory> made = SharedMemory::create(4_MiB);
  cr_assert(made.ok());
  segment.emplace(std::move(*made));
  Result<std::unique_ptr<TrafficTable>> opened = TrafficTable::open(*segment, 64);
  cr_assert(opened.ok(), "%s", opened.ok() ? "" : opened.error().message.c_str());
  table = std::move(*opened);
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    cr_assert(table->open_column(worker).ok());
    const Result<uint32_t> index = table->hold(worker, TrafficKind::kTarget, "users/10.0.0.1:80");
    cr_assert(index.ok(), "%s", index.ok() ? "" : index.error().message.c_str());
    place = *index;
  }
}

void tear_down() {
  table.reset();
  segment.reset();
}

BreakerCells cells(uint32_t worker = 0) {
  return {table.get(), place, &table->row(place), &table->cell(worker, place)};
}

BreakerStand stand() {
  return breaker_report(table->row(place)).stand;
}

constexpr uint64_t kStart = 1'000'000;

// A breaker and its clock.
struct Breaker {
  BreakerRules rules;
  uint64_t now = kStart;
  BreakerChange last{};

  BreakerPass admit(uint32_t worker = 0) {
    BreakerChange change;
    const BreakerPass pass = breaker_admit(cells(worker), rules, now, change);
    if (change.changed) last = change;
    return pass;
  }
  void record(BreakerPass pass, bool failed, uint64_t latency_ms = 1, uint32_t worker = 0) {
    const BreakerChange change =
        breaker_record(cells(worker), rules, pass, failed, latency_ms, now);
    if (change.changed) last = change;
  }
  // One try from beginning to end; false where it was refused.
  bool one(bool failed, uint64_t latency_ms = 1, uint32_t worker = 0) {
    const BreakerPass pass = admit(worker);
    if (pass.verdict == BreakerVerdict::kRefuse) return false;
    record(pass, failed, latency_ms, worker);
    return true;
  }
  void wait_until_probes() { now = stand().moment_ms; }
};

BreakerRules failures(uint32_t count) {
  BreakerRules rules;
  rules.failures = count;
  return rules;
}

Test(breaker, a_stand_survives_its_word) {
  BreakerStand stand;
  stand.state = BreakerState::kHalfOpen;
  stand.cause = BreakerCause::kOperator;
  stand.openings = 31;
  stand.successes = 100;
  stand.epoch = 127;
  stand.moment_ms = BreakerStand::kForever;
  const BreakerStand again = BreakerStand::unpack(stand.pack());
  cr_assert(again.state == stand.state && again.cause == stand.cause);
  cr_assert_eq(again.openings, 31);
  cr_assert_eq(again.successes, 100);
  cr_assert_eq(again.epoch, 127);
  cr_assert_eq(again.moment_ms, BreakerStand::kForever);
  cr_assert(BreakerStand::unpack(0).state == BreakerState::kClosed);
}

Test(breaker, opens_after_failures_in_a_row, .init = set_up, .fini = tear_down) {
  Breaker breaker{failures(3)};
  // Over two workers, for what is in a row is shared.
  breaker.one(true, 1, 0);
  breaker.one(true, 1, 1);
  breaker.one(false, 1, 0);
  breaker.one(true, 1, 0);
  breaker.one(true, 1, 1);
  cr_assert(stand().state == BreakerState::kClosed);
  cr_assert(!breaker.last.changed);
  breaker.one(true, 1, 2);
  cr_assert(stand().state == BreakerState::kOpen);
  cr_assert(breaker.last.to == BreakerState::kOpen);
  cr_assert(breaker.last.cause == BreakerCause::kFailures);
  for (uint32_t worker = 0; worker < kWorkers; ++worker) cr_assert(!breaker.one(false, 1, worker));
  cr_assert_eq(breaker_report(table->row(place)).opened_total, 1u);
}

Test(breaker, opens_after_a_share_of_failures_over_all_workers, .init = set_up, .fini = tear_down) {
  BreakerRules rules;
  rules.failed_share = 5000;
  rules.volume = 20;
  rules.window_ms = 10'000;
  Breaker breaker{rules};
  for (uint32_t i = 0; i < 19; ++i) {
    breaker.one(i % 2 == 0, 1, i % kWorkers);
    breaker.now += 10;
  }
  cr_assert(stand().state == BreakerState::kClosed, "too few to tell");
  breaker.one(true);
  cr_assert(stand().state == BreakerState::kOpen);
  cr_assert(breaker.last.cause == BreakerCause::kFailedShare);
}

Test(breaker, a_share_below_the_limit_keeps_it_closed, .init = set_up, .fini = tear_down) {
  BreakerRules rules;
  rules.failed_share = 5000;
  Breaker breaker{rules};
  for (uint32_t i = 0; i < 10'000; ++i) {
    cr_assert(breaker.one(i % 5 < 2, 1, i % kWorkers), "at %u", i);
    breaker.now += 7;
  }
}

Test(breaker, failures_leave_the_window, .init = set_up, .fini = tear_down) {
  BreakerRules rules;
  rules.failed_share = 5000;
  rules.window_ms = 10'000;
  Breaker breaker{rules};
  for (int i = 0; i < 15; ++i) breaker.one(true);
  breaker.now += 20'000;
  for (int i = 0; i < 19; ++i) breaker.one(i == 0);
  breaker.one(true);
  cr_assert(stand().state == BreakerState::kClosed, "2 of 20 in the window");
}

Test(breaker, opens_after_a_share_of_slow_calls, .init = set_up, .fini = tear_down) {
  BreakerRules rules;
  rules.slow_share = 8000;
  rules.slow_ms = 2000;
  rules.volume = 10;
  Breaker breaker{rules};
  for (int i = 0; i < 100; ++i) breaker.one(true, 1999);
  cr_assert(stand().state == BreakerState::kClosed, "failures are not looked at");
  breaker.now += 60'000;
  for (int i = 0; i < 2; ++i) breaker.one(false, 1);
  for (int i = 0; i < 7; ++i) breaker.one(false, 2000);
  cr_assert(stand().state == BreakerState::kClosed);
  breaker.one(false, 2500);
  cr_assert(stand().state == BreakerState::kOpen);
  cr_assert(breaker.last.cause == BreakerCause::kSlowShare);
}

Test(breaker, probes_after_its_time_and_closes_after_successes, .init = set_up, .fini = tear_down) {
  BreakerRules rules = failures(1);
  rules.close_after = 3;
  Breaker breaker{rules};
  breaker.one(true);
  const uint64_t until = stand().moment_ms;
  cr_assert(until >= kStart + 60'000 && until <= kStart + 66'000, "%lu ms", until - kStart);
  breaker.now = until - 1;
  cr_assert(!breaker.one(false));
  breaker.now = until;
  for (int i = 0; i < 3; ++i) {
    const BreakerPass probe = breaker.admit(static_cast<uint32_t>(i));
    cr_assert(probe.verdict == BreakerVerdict::kProbe);
    cr_assert(breaker.admit(3).verdict == BreakerVerdict::kRefuse, "one at a time");
    breaker.record(probe, false, 1, static_cast<uint32_t>(i));
  }
  cr_assert(stand().state == BreakerState::kClosed);
  cr_assert(breaker.last.cause == BreakerCause::kProbesGood);
  cr_assert(breaker.one(false));
}

Test(breaker, a_failed_probe_opens_it_for_longer, .init = set_up, .fini = tear_down) {
  BreakerRules rules = failures(1);
  rules.open_ms = 1000;
  rules.open_max_ms = 5000;
  Breaker breaker{rules};
  breaker.one(true);
  for (const uint64_t wanted : {1000, 2000, 4000, 5000, 5000}) {
    const uint64_t open = stand().moment_ms - breaker.now;
    cr_assert(open >= wanted && open <= wanted + wanted / 10, "%lu, wanted %lu", open, wanted);
    breaker.wait_until_probes();
    cr_assert(breaker.one(true));
    cr_assert(stand().state == BreakerState::kOpen);
    cr_assert(breaker.last.cause == BreakerCause::kProbeFailed);
  }
}

Test(breaker, a_good_time_makes_up_for_openings, .init = set_up, .fini = tear_down) {
  BreakerRules rules = failures(1);
  rules.open_ms = 1000;
  Breaker breaker{rules};
  breaker.one(true);
  breaker.wait_until_probes();
  breaker.one(true);
  breaker.wait_until_probes();
  breaker.one(false);
  cr_assert(stand().state == BreakerState::kClosed);
  breaker.now += 500;
  breaker.one(true);
  cr_assert_eq(stand().openings, 3, "it came too soon");
  breaker.wait_until_probes();
  breaker.one(false);
  breaker.now += 60'000;
  breaker.one(true);
  cr_assert_eq(stand().openings, 1);
}

Test(breaker, what_comes_late_changes_nothing, .init = set_up, .fini = tear_down) {
  BreakerRules rules = failures(2);
  rules.close_after = 2;
  Breaker breaker{rules};
  const BreakerPass early = breaker.admit();
  const BreakerPass other = breaker.admit();
  breaker.one(true);
  breaker.one(true);
  cr_assert(stand().state == BreakerState::kOpen);
  breaker.wait_until_probes();
  const BreakerPass probe = breaker.admit(1);
  cr_assert(probe.verdict == BreakerVerdict::kProbe);
  breaker.record(early, false);
  breaker.record(other, true);
  cr_assert(stand().state == BreakerState::kHalfOpen);
  cr_assert_eq(stand().successes, 0);
  breaker.record(probe, false, 1, 1);
  cr_assert_eq(stand().successes, 1);
}

Test(breaker, old_failures_do_not_open_it_again, .init = set_up, .fini = tear_down) {
  BreakerRules rules;
  rules.failed_share = 5000;
  rules.window_ms = 600'000;
  rules.open_ms = 100;
  Breaker breaker{rules};
  for (uint32_t i = 0; i < 20; ++i) breaker.one(true, 1, i % kWorkers);
  cr_assert(stand().state == BreakerState::kOpen);
  breaker.wait_until_probes();
  breaker.one(false);
  cr_assert(stand().state == BreakerState::kClosed);
  for (uint32_t i = 0; i < 19; ++i) breaker.one(i < 9, 1, i % kWorkers);
  cr_assert(stand().state == BreakerState::kClosed, "the windows began anew");
  breaker.one(true);
  cr_assert(stand().state == BreakerState::kOpen);
}

Test(breaker, a_cancelled_probe_gives_its_place_back, .init = set_up, .fini = tear_down) {
  Breaker breaker{failures(1)};
  breaker.one(true);
  breaker.wait_until_probes();
  const BreakerPass probe = breaker.admit();
  cr_assert(breaker_look(cells(), breaker.rules, breaker.now) == BreakerVerdict::kRefuse);
  breaker_cancel(cells(), probe);
  cr_assert(breaker_look(cells(), breaker.rules, breaker.now) == BreakerVerdict::kProbe);
  cr_assert(breaker.admit(1).verdict == BreakerVerdict::kProbe);
}

Test(breaker, an_operator_opens_and_closes, .init = set_up, .fini = tear_down) {
  Breaker breaker{failures(1)};
  breaker_set_configured(table->row(place), true);
  breaker_force_open(table->row(place), 0, breaker.now);
  breaker.now += 10'000'000'000;
  cr_assert(!breaker.one(false), "until somebody closes it");
  breaker_force_close(table->row(place), breaker.now);
  cr_assert(breaker.one(false));
  breaker_force_open(table->row(place), 5000, breaker.now);
  cr_assert(!breaker.one(false));
  breaker.now += 5000;
  cr_assert(breaker.one(false));
  cr_assert(stand().state == BreakerState::kClosed);
  const BreakerReport report = breaker_report(table->row(place));
  cr_assert(report.configured);
  cr_assert_eq(report.opened_total, 2u);
  cr_assert_eq(report.changed_ms, breaker.now);
}

// Another try, while another worker opens it.
Test(breaker, only_one_of_many_changes_the_state, .init = set_up, .fini = tear_down) {
  Breaker breaker{failures(1)};
  std::vector<BreakerPass> passes;
  for (int i = 0; i < 50; ++i) passes.push_back(breaker.admit());
  int changes = 0;
  for (const BreakerPass pass : passes) {
    breaker.last = {};
    breaker.record(pass, true);
    if (breaker.last.changed) ++changes;
  }
  cr_assert_eq(changes, 1);
  cr_assert_eq(stand().openings, 1);
}

// ---- Several processes --------------------------------------------------------------------------

struct Seen {
  std::atomic<uint32_t> under_way{0};
  std::atomic<uint32_t> most{0};
  std::atomic<uint64_t> probes{0};
};

Seen* shared_seen() {
  void* memory =
      mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  cr_assert(memory != MAP_FAILED);
  return new (memory) Seen;
}

// What one worker does for ever: asks, and counts its probes where the "upstream" sees them.
[[noreturn]] void hammer(uint32_t worker, const BreakerRules& rules, Seen* seen) {
  std::mt19937 random(worker + 1);
  for (uint64_t now = kStart;; now += random() % 3) {
    BreakerChange change;
    const BreakerPass pass = breaker_admit(cells(worker), rules, now, change);
    if (pass.verdict == BreakerVerdict::kRefuse) continue;
    if (pass.verdict == BreakerVerdict::kProbe) {
      const uint32_t count = seen->under_way.fetch_add(1) + 1;
      uint32_t most = seen->most.load();
      while (count > most && !seen->most.compare_exchange_weak(most, count)) {
      }
      seen->probes.fetch_add(1);
      for (unsigned i = random() % 200; i > 0; --i) asm volatile("");
      seen->under_way.fetch_sub(1);
    }
    (void)breaker_record(cells(worker), rules, pass, random() % 2 == 0, 1, now);
  }
}

pid_t start_worker(uint32_t worker, const BreakerRules& rules, Seen* seen) {
  const pid_t child = fork();
  if (child == 0) hammer(worker, rules, seen);
  cr_assert_gt(child, 0);
  return child;
}

void end_worker(pid_t child) {
  kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
}

BreakerRules restless(uint32_t probes) {
  BreakerRules rules = failures(3);
  rules.open_ms = 1;
  rules.open_max_ms = 2;
  rules.probes = probes;
  rules.close_after = 4;
  rules.failed_share = 9000;
  rules.volume = 5;
  return rules;
}

Test(breaker, never_more_probes_than_allowed_over_all_workers, .init = set_up, .fini = tear_down) {
  for (const uint32_t probes : {1u, 2u, 3u}) {
    Seen* seen = shared_seen();
    const BreakerRules rules = restless(probes);
    std::vector<pid_t> children;
    for (uint32_t worker = 0; worker < kWorkers; ++worker) {
      children.push_back(start_worker(worker, rules, seen));
    }
    const int64_t end = wall_clock_us() + 10'000'000;
    while (seen->probes.load() < 5000 && wall_clock_us() < end) usleep(1000);
    for (const pid_t child : children) end_worker(child);
    cr_assert_geq(seen->probes.load(), 1000u, "%lu probes", seen->probes.load());
    cr_assert_leq(seen->most.load(), probes, "%u at once", seen->most.load());
    for (uint32_t worker = 0; worker < kWorkers; ++worker) {
      table->cell(worker, place).probes.store(0);
    }
    munmap(seen, sizeof(Seen));
  }
}

// Workers are killed anywhere; the master zeroes what they held, as it does in a gateway.
Test(breaker, killed_workers_leave_it_usable, .init = set_up, .fini = tear_down) {
  Seen* seen = shared_seen();
  const BreakerRules rules = restless(2);
  std::mt19937 random(20261120);
  std::vector<pid_t> children;
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    children.push_back(start_worker(worker, rules, seen));
  }
  for (int i = 0; i < 150; ++i) {
    usleep(random() % 1500);
    const uint32_t victim = random() % kWorkers;
    end_worker(children[victim]);
    table->cell(victim, place).probes.store(0);
    const BreakerStand now = stand();
    cr_assert_leq(now.successes, kBreakerCloseAfterMax);
    cr_assert(now.state <= BreakerState::kHalfOpen);
    children[victim] = start_worker(victim, rules, seen);
  }
  for (const pid_t child : children) end_worker(child);
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    table->cell(worker, place).probes.store(0);
  }
  // Whatever the stand is: it can be brought to close.
  Breaker breaker{rules};
  breaker.now = stand().moment_ms + 1'000'000;
  for (int i = 0; i < 10; ++i) (void)breaker.one(false);
  cr_assert(stand().state == BreakerState::kClosed);
  munmap(seen, sizeof(Seen));
}

}  // namespace
}  // namespace gatehouse
