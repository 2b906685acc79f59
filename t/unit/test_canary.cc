// Canaries: the shared word, the rules that decide, the state machine, the store.
#include "agent/canary.h"

#include <criterion/criterion.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "agent/canary_store.h"
#include "core/canary_commands.h"
#include "core/shared_memory.h"

namespace {

using namespace gatehouse;
using std::chrono::minutes;
using std::chrono::seconds;

CanaryRules rules() {
  CanaryRules rules;
  rules.steps = {Percent{500}, Percent{2500}, Percent{10000}};
  rules.interval = minutes(5);
  rules.min_requests = 100;
  rules.max_error_rate = Percent{100};
  rules.max_latency = 1.5;
  return rules;
}

// So many requests within `us` each, of which `errors` ended with a 5xx.
CanarySide side(uint64_t requests, uint64_t errors = 0, int64_t us = 3'000) {
  SeriesCells cells;
  cells.requests[2].add(requests - errors);
  cells.requests[5].add(errors);
  for (uint64_t i = 0; i < requests; ++i) cells.count_latency(us);
  CanarySide side;
  side.add(cells);
  return side;
}

CanaryMove judged(const CanaryRules& by, size_t stage, Duration elapsed, const CanarySide& fresh,
                  const CanarySide& stable) {
  return judge_canary(by, stage, elapsed, fresh, stable).move;
}

// A segment with a canary's row that one worker holds.
struct Segment {
  SharedMemory shared = std::move(*SharedMemory::create(4_MiB));
  std::unique_ptr<TrafficTable> table = std::move(*TrafficTable::open(shared, 64));
  uint32_t index = 0;

  Segment() {
    cr_assert(table->open_column(3).ok());
    index = *table->hold(3, TrafficKind::kSplit, canary_row_name("beta", "all", "users_next"));
  }
  TrafficRow& row() { return table->row(index); }
  CanaryStand stand() { return CanaryStand::unpack(row().share.load()); }
  void set(CanaryState state, uint16_t share, uint8_t stage = 0) {
    uint64_t seen = row().share.load();
    CanaryStand next;
    next.state = state;
    next.share = share;
    next.stage = stage;
    cr_assert(change_canary(row(), seen, next, 5));
  }
};

using Command = Result<nlohmann::json> (*)(SharedMemory&, const nlohmann::json&);

bool works(Segment& segment, Command command, const std::string& name = "beta") {
  return command(segment.shared, {{"name", name}}).ok();
}

}  // namespace

Test(canary, a_word_keeps_what_is_packed) {
  for (const uint16_t share : {0, 1, 500, 9999, 10000}) {
    for (const uint8_t stage : {0, 1, 31}) {
      CanaryStand stand;
      stand.state = CanaryState::kRolledBack;
      stand.cause = CanaryCause::kSteps;
      stand.share = share;
      stand.stage = stage;
      stand.changes = 0xFFFFFFFF;
      cr_assert(CanaryStand::unpack(stand.pack()) == stand);
    }
  }
  cr_assert_eq(CanaryStand{}.pack(), 0u);
}

Test(canary, any_word_is_legal) {
  uint64_t word = 88172645463325252;
  for (int i = 0; i < 100'000; ++i) {
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    const CanaryStand stand = CanaryStand::unpack(word);
    cr_assert(stand.share <= kWholeShare);
    cr_assert(!canary_state_name(stand.state).empty());
    (void)canary_cause_text(stand.cause);
    cr_assert(canary_share(word, 42) <= kWholeShare);
  }
  cr_assert_eq(canary_share(0, 42), 42u);
}

Test(canary, two_who_change_at_once_do_not_overwrite_each_other) {
  Segment segment;
  constexpr uint32_t kChanges = 20'000;
  const auto work = [&] {
    for (uint32_t i = 0; i < kChanges; ++i) {
      uint64_t seen = segment.row().share.load();
      while (!change_canary(segment.row(), seen, CanaryStand::unpack(seen), 1)) {
      }
    }
  };
  std::thread one(work);
  std::thread other(work);
  one.join();
  other.join();
  cr_assert_eq(segment.stand().changes, 2 * kChanges);
}

Test(canary, nothing_is_decided_before_there_are_enough_requests) {
  cr_assert(judged(rules(), 0, minutes(60), side(99), side(1000)) == CanaryMove::kStay);
  cr_assert(judged(rules(), 0, minutes(60), side(99, 99), side(1000)) == CanaryMove::kStay);
  cr_assert(judged(rules(), 0, minutes(60), side(0), side(0)) == CanaryMove::kStay);
}

Test(canary, a_good_step_lasts_its_interval) {
  cr_assert(judged(rules(), 0, seconds(299), side(1000, 10), side(1000)) == CanaryMove::kStay);
  cr_assert(judged(rules(), 0, minutes(5), side(1000, 10), side(1000)) == CanaryMove::kNextStep);
  cr_assert(judged(rules(), 2, minutes(5), side(1000), side(0)) == CanaryMove::kPromote);
}

Test(canary, errors_end_a_step_at_once) {
  const CanaryVerdict verdict = judge_canary(rules(), 0, seconds(1), side(1000, 50), side(9000, 9));
  cr_assert(verdict.move == CanaryMove::kFail);
  cr_assert(verdict.cause == CanaryCause::kErrors);
  cr_assert(verdict.why.find("1000 requests with 50 errors (5.00%, up to 1.00%)") !=
            std::string::npos);
  cr_assert(judged(rules(), 0, minutes(5), side(1000, 11), side(1000)) == CanaryMove::kFail);
}

Test(canary, errors_may_be_measured_over_the_stable_side) {
  CanaryRules relative = rules();
  relative.over_stable = true;
  // Both sides fail in 3 %: whatever they ask is broken, and not by the new side.
  cr_assert(judged(relative, 0, minutes(5), side(1000, 30), side(1000, 30)) ==
            CanaryMove::kNextStep);
  cr_assert(judged(relative, 0, minutes(5), side(1000, 41), side(1000, 30)) == CanaryMove::kFail);
  cr_assert(judged(rules(), 0, minutes(5), side(1000, 30), side(1000, 30)) == CanaryMove::kFail);
  // A stable side without enough requests is no measure.
  cr_assert(judged(relative, 2, minutes(5), side(1000, 30), side(99, 99)) == CanaryMove::kFail);
}

Test(canary, slow_answers_end_a_step) {
  const CanaryVerdict verdict =
      judge_canary(rules(), 0, seconds(1), side(1000, 0, 40'000), side(1000, 0, 20'000));
  cr_assert(verdict.move == CanaryMove::kFail);
  cr_assert(verdict.cause == CanaryCause::kLatency);
  CanaryRules blind = rules();
  blind.max_latency = 0;
  cr_assert(judged(blind, 0, minutes(5), side(1000, 0, 40'000), side(1000, 0, 20'000)) ==
            CanaryMove::kNextStep);
  // Less than a millisecond more is no difference, and few requests are no measure.
  cr_assert(judged(rules(), 0, minutes(5), side(1000, 0, 900), side(1000, 0, 400)) ==
            CanaryMove::kNextStep);
  cr_assert(judged(rules(), 0, minutes(5), side(1000, 0, 40'000), side(99, 0, 3'000)) ==
            CanaryMove::kNextStep);
}

Test(canary, the_percentile_is_found_inside_its_bucket) {
  cr_assert_eq(side(1).p95_us(), 2500 + 2500 * 0.95);
  cr_assert_eq(CanarySide{}.p95_us(), 0);
  CanarySide mixed = side(95, 0, 900);
  const CanarySide slow = side(5, 0, 9'000);
  for (unsigned i = 0; i < kLatencyBuckets; ++i) mixed.latency[i] += slow.latency[i];
  cr_assert_eq(mixed.p95_us(), 1'000);
  cr_assert_eq(side(10, 0, 60'000'000).p95_us(), 10'000'000);
}

Test(canary, counts_that_began_anew_are_noticed) {
  cr_assert(side(10, 1).follows(side(9, 1)));
  cr_assert(!side(9, 1).follows(side(10, 1)));
  cr_assert(!side(20, 0).follows(side(10, 1)));
  const CanarySide since = side(10, 3).since(side(4, 1));
  cr_assert_eq(since.requests, 6u);
  cr_assert_eq(since.errors, 2u);
}

// From the first step to the end, with good and with bad figures.
Test(canary, goes_through_its_steps) {
  const CanaryRules by = rules();
  CanaryStand stand;
  stand.state = CanaryState::kRunning;
  stand.share = 500;
  for (const uint16_t share : {2500, 10000}) {
    stand =
        after_verdict(by, stand, judge_canary(by, stand.stage, minutes(5), side(100), side(100)));
    cr_assert(stand.state == CanaryState::kRunning && stand.share == share);
    cr_assert(stand.cause == CanaryCause::kStepPassed);
    const CanaryStand same =
        after_verdict(by, stand, judge_canary(by, stand.stage, minutes(1), side(100), side(100)));
    cr_assert(same == stand);
  }
  const CanaryStand promoted =
      after_verdict(by, stand, judge_canary(by, stand.stage, minutes(5), side(100), side(0)));
  cr_assert(promoted.state == CanaryState::kPromoted && promoted.share == kWholeShare);
  const CanaryVerdict bad = judge_canary(by, stand.stage, seconds(9), side(100, 2), side(0));
  const CanaryStand back = after_verdict(by, stand, bad);
  cr_assert(back.state == CanaryState::kRolledBack && back.share == 0);
  CanaryRules pausing = by;
  pausing.on_failure = CanaryRules::OnFailure::kPause;
  const CanaryStand paused = after_verdict(pausing, stand, bad);
  cr_assert(paused.state == CanaryState::kPaused && paused.share == stand.share);
}

Test(canary, other_steps_keep_the_share_as_far_as_they_can) {
  CanaryRules by = rules();
  CanaryStand stand;
  stand.state = CanaryState::kRunning;
  stand.stage = 1;
  stand.share = 2500;
  cr_assert(fit_to_steps(by, stand) == stand);
  by.steps = {Percent{100}, Percent{1000}, Percent{5000}};
  cr_assert_eq(fit_to_steps(by, stand).share, 1000);
  cr_assert_eq(fit_to_steps(by, stand).stage, 1);
  by.steps = {Percent{5000}};
  cr_assert_eq(fit_to_steps(by, stand).share, 5000);
  cr_assert_eq(fit_to_steps(by, stand).stage, 0);
}

Test(canary, commands_change_the_word) {
  Segment segment;
  cr_assert(!works(segment, &canary_pause_command));
  cr_assert(!works(segment, &canary_resume_command));
  cr_assert(!works(segment, &canary_promote_command, "alpha"));
  cr_assert(!works(segment, &canary_promote_command, ""));
  segment.set(CanaryState::kRunning, 2500, 1);
  cr_assert(!works(segment, &canary_start_command));
  cr_assert(works(segment, &canary_pause_command));
  cr_assert(segment.stand().state == CanaryState::kPaused && segment.stand().share == 2500);
  cr_assert(segment.stand().cause == CanaryCause::kOperator);
  cr_assert(works(segment, &canary_resume_command));
  cr_assert(segment.stand().state == CanaryState::kRunning && segment.stand().stage == 1);
  cr_assert(works(segment, &canary_rollback_command));
  cr_assert(segment.stand().state == CanaryState::kRolledBack && segment.stand().share == 0);
  cr_assert(works(segment, &canary_promote_command));
  cr_assert(segment.stand().state == CanaryState::kPromoted);
  cr_assert_eq(segment.stand().share, kWholeShare);
  cr_assert(works(segment, &canary_start_command));
  cr_assert(segment.stand().state == CanaryState::kNone && segment.stand().changes == 6);
  const auto listed = canary_list_command(segment.shared, nlohmann::json::object());
  cr_assert_eq((*listed)["canaries"].size(), 1u);
  cr_assert_eq((*listed)["canaries"][0]["route"], "all");
  cr_assert_eq((*listed)["canaries"][0]["upstream"], "users_next");
  segment.table->release(3, segment.index);
  cr_assert(!works(segment, &canary_rollback_command));
}

Test(canary, the_store_remembers) {
  char folder[] = "/tmp/gatehouse-canary-XXXXXX";
  cr_assert_not_null(mkdtemp(folder));
  {
    const CanaryStore store(folder);
    cr_assert((*store.load()).empty());
    CanaryStand stand;
    stand.state = CanaryState::kRunning;
    stand.cause = CanaryCause::kStepPassed;
    stand.stage = 2;
    stand.share = 5000;
    cr_assert(store.save("beta all users_next", stand).ok());
    stand.state = CanaryState::kRolledBack;
    stand.share = 0;
    cr_assert(store.save("gamma all users_next", stand).ok());
    stand.stage = 3;
    cr_assert(store.save("gamma all users_next", stand).ok());
    const auto found = *CanaryStore(folder).load();
    cr_assert_eq(found.size(), 2u);
    cr_assert(found.at("beta all users_next").state == CanaryState::kRunning);
    cr_assert_eq(found.at("beta all users_next").share, 5000);
    cr_assert(found.at("gamma all users_next") == stand);
    cr_assert(!CanaryStore(std::string(folder) + "/missing").load().ok());
    cr_assert(!CanaryStore(std::string(folder) + "/missing").save("x", stand).ok());
  }
  std::filesystem::remove_all(folder);
}
