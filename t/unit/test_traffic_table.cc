// Shared rows and columns: found, held, reused; limits over several processes; a killed worker.
#include "core/traffic_table.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/process_end.h"
#include "core/target_verdict.h"

namespace {

using gatehouse::Moment;
using gatehouse::Result;
using gatehouse::SharedMemory;
using gatehouse::TargetVerdict;
using gatehouse::TrafficCell;
using gatehouse::TrafficKind;
using gatehouse::TrafficTable;
using gatehouse::operator""_MiB;

constexpr uint32_t kWorkers = 4;

std::optional<SharedMemory> shared;
std::unique_ptr<TrafficTable> table;

std::unique_ptr<TrafficTable> open(uint32_t capacity) {
  Result<std::unique_ptr<TrafficTable>> opened = TrafficTable::open(*shared, capacity);
  cr_assert(opened.ok(), "%s", opened.ok() ? "" : opened.error().message.c_str());
  return std::move(*opened);
}

void set_up() {
  Result<SharedMemory> made = SharedMemory::create(8_MiB);
  cr_assert(made.ok());
  shared.emplace(std::move(*made));
  table = open(16);
  for (uint32_t row = 0; row < kWorkers; ++row) cr_assert(table->open_column(row).ok());
}

void tear_down() {
  table.reset();
  shared.reset();
}

uint32_t hold(uint32_t worker, std::string_view name) {
  const Result<uint32_t> index = table->hold(worker, TrafficKind::kTarget, name);
  cr_assert(index.ok(), "%s", index.ok() ? "" : index.error().message.c_str());
  return *index;
}

}  // namespace

TestSuite(traffic_table, .init = set_up, .fini = tear_down);

Test(traffic_table, finds_the_same_row_by_kind_and_name) {
  const uint32_t first = hold(0, "users/10.0.0.1:80");
  cr_assert_eq(hold(1, "users/10.0.0.1:80"), first);
  cr_assert_neq(hold(0, "users/10.0.0.2:80"), first);
  const Result<uint32_t> upstream = table->hold(0, TrafficKind::kUpstream, "users/10.0.0.1:80");
  cr_assert(upstream.ok());
  cr_assert_neq(*upstream, first);
  cr_assert_eq(table->find(TrafficKind::kTarget, "users/10.0.0.1:80").value(), first);
  cr_assert_not(table->find(TrafficKind::kTarget, "users/10.0.0.3:80").has_value());
  cr_assert_eq(table->list(TrafficKind::kTarget).size(), 2);
  cr_assert_eq(table->list(TrafficKind::kTarget)[0].holds, 2);
}

Test(traffic_table, another_opener_sees_the_table_whatever_size_it_asks_for) {
  const uint32_t index = hold(0, "a/x");
  table->row(index).admin.store(2);
  const std::unique_ptr<TrafficTable> other = open(64);
  cr_assert_eq(other->capacity(), 16);
  cr_assert_eq(other->find(TrafficKind::kTarget, "a/x").value(), index);
  cr_assert_eq(other->row(index).admin.load(), 2);
  cr_assert_eq(other->columns().rows(), kWorkers);
}

Test(traffic_table, long_names_are_told_apart) {
  const std::string stem(200, 'x');
  const uint32_t first = hold(0, stem + "1");
  const uint32_t second = hold(0, stem + "2");
  cr_assert_neq(first, second);
  cr_assert_eq(table->find(TrafficKind::kTarget, stem + "1").value(), first);
  cr_assert_leq(table->row(first).text().size(), gatehouse::TrafficRow::kNameMax);
}

Test(traffic_table, a_row_that_nobody_holds_keeps_its_words_until_the_table_is_full) {
  const uint32_t index = hold(0, "a/0");
  table->row(index).breaker[0].store(77);
  table->cell(0, index).window[1].store(5);
  table->release(0, index);
  cr_assert_eq(hold(0, "a/0"), index);
  cr_assert_eq(table->row(index).breaker[0].load(), 77);
  table->release(0, index);

  for (int i = 1; i <= 15; ++i) hold(1, "a/" + std::to_string(i));
  cr_assert_eq(table->row(index).text(), "a/0", "given away while there was room");
  const uint32_t taken = hold(1, "b/0");
  cr_assert_eq(taken, index);
  cr_assert_eq(table->row(taken).breaker[0].load(), 0);
  cr_assert_eq(table->cell(0, taken).window[1].load(), 0);
  cr_assert_not(table->find(TrafficKind::kTarget, "a/0").has_value());
  // What was probed past the row that changed hands is still found.
  for (int i = 1; i <= 15; ++i) {
    cr_assert(table->find(TrafficKind::kTarget, "a/" + std::to_string(i)).has_value());
  }
  const Result<uint32_t> none = table->hold(0, TrafficKind::kTarget, "c/0");
  cr_assert_not(none.ok());
  cr_assert(none.error().message.find("targets_max") != std::string::npos);
}

Test(traffic_table, what_an_ended_worker_held_is_held_no_more) {
  const uint32_t index = hold(0, "a/x");
  cr_assert_eq(hold(1, "a/x"), index);
  for (int i = 0; i < 3; ++i) cr_assert(table->add_below(0, index, &TrafficCell::in_flight, 5));
  for (int i = 0; i < 2; ++i) cr_assert(table->add_below(1, index, &TrafficCell::in_flight, 5));
  cr_assert_not(table->add_below(1, index, &TrafficCell::in_flight, 5));
  cr_assert_eq(table->sum(index, &TrafficCell::in_flight), 5);
  cr_assert_eq(gatehouse::zero_columns(*shared, 0), 1);
  cr_assert_eq(table->sum(index, &TrafficCell::in_flight), 2);
  cr_assert_eq(table->sum(index, &TrafficCell::holds), 1);
  cr_assert_eq(gatehouse::zero_columns(*shared, 200), 0);
}

namespace {

constexpr uint64_t kLimit = 3;

// What the workers tell the test, in shared memory.
struct Told {
  std::atomic<int32_t> inside;
  std::atomic<int32_t> exceeded;
  std::atomic<uint64_t> rounds;
};

Told* tell() {
  const Result<std::span<std::byte>> zone =
      shared->adopt_or_create_zone("test.told", "test", 1, sizeof(Told));
  cr_assert(zone.ok());
  return gatehouse::zone_as<Told>(*zone);
}

// Takes and gives back places until it is killed.
pid_t start_worker(uint32_t row, uint32_t index, Told* told) {
  const pid_t pid = fork();
  cr_assert_geq(pid, 0);
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails leaves nothing running
  for (;;) {
    if (!table->add_below(row, index, &TrafficCell::in_flight, kLimit)) continue;
    if (told->inside.fetch_add(1) >= static_cast<int32_t>(kLimit)) told->exceeded.fetch_add(1);
    told->rounds.fetch_add(1);
    told->inside.fetch_sub(1);
    table->cell(row, index).in_flight.fetch_sub(1);
  }
}

}  // namespace

Test(traffic_table, a_limit_is_never_exceeded_by_four_processes, .timeout = 60) {
  const uint32_t index = hold(0, "a/x");
  Told* told = tell();
  std::vector<pid_t> pids;
  for (uint32_t row = 0; row < kWorkers; ++row) pids.push_back(start_worker(row, index, told));
  while (told->rounds.load() < 200'000) usleep(1000);
  for (const pid_t pid : pids) gatehouse::kill_process(pid);
  cr_assert_eq(told->exceeded.load(), 0);
}

Test(traffic_table, a_killed_worker_leaves_no_count_behind, .timeout = 60) {
  const uint32_t index = hold(0, "a/x");
  Told* told = tell();
  std::vector<pid_t> pids;
  for (uint32_t row = 0; row < kWorkers; ++row) pids.push_back(start_worker(row, index, told));
  for (uint32_t round = 0; round < 300; ++round) {
    const uint32_t row = round % kWorkers;
    const uint64_t before = told->rounds.load();
    while (told->rounds.load() < before + 10) usleep(100);
    gatehouse::kill_process(pids[row]);
    gatehouse::zero_columns(*shared, row);
    pids[row] = start_worker(row, index, told);
  }
  for (uint32_t row = 0; row < kWorkers; ++row) {
    gatehouse::kill_process(pids[row]);
    gatehouse::zero_columns(*shared, row);
  }
  cr_assert_eq(table->sum(index, &TrafficCell::in_flight), 0);
}

Test(target_verdict, packs_and_unpacks) {
  TargetVerdict verdict;
  cr_assert_eq(verdict.pack(), 0);
  verdict = {TargetVerdict::State::kDown, 200, 503, Moment{123'456'789'000}};
  const TargetVerdict read = TargetVerdict::unpack(verdict.pack());
  cr_assert_eq(read.state, TargetVerdict::State::kDown);
  cr_assert_eq(read.streak, 200);
  cr_assert_eq(read.status, 503);
  cr_assert_eq(read.since.us, 123'456'789'000);
  cr_assert_eq(TargetVerdict::unpack(~uint64_t{0}).state, TargetVerdict::State::kUnknown);
}
