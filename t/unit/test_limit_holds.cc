// Exchanges under way, counted over workers.
#include "core/limit_holds.h"

#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <vector>

#include "core/keyed_hash.h"

using namespace gatehouse;

namespace {

using Outcome = LimitHolds::Outcome;

uint64_t hash_of(uint64_t key) {
  return siphash<1, 3>({5, 6}, &key, sizeof(key));
}

LimitHolds open_row(SharedMemory& shared, uint32_t row) {
  Result<LimitHolds> holds = LimitHolds::open(shared);
  cr_assert(holds);
  cr_assert(holds->open_column(row));
  return std::move(*holds);
}

}  // namespace

Test(limit_holds, no_more_than_the_limit_over_all_workers) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  LimitHolds first = open_row(shared, 0);
  LimitHolds second = open_row(shared, 1);
  std::vector<std::atomic<uint64_t>*> words(4, nullptr);
  cr_expect_eq(first.hold(hash_of(1), 3, &words[0]), Outcome::kHeld);
  cr_expect_eq(second.hold(hash_of(1), 3, &words[1]), Outcome::kHeld);
  cr_expect_eq(first.hold(hash_of(1), 3, &words[2]), Outcome::kHeld);
  cr_expect_eq(second.hold(hash_of(1), 3, &words[3]), Outcome::kRefused);
  cr_expect_eq(second.hold(hash_of(2), 3, &words[3]), Outcome::kHeld);
  cr_expect_eq(first.count(hash_of(1)), 3);
  LimitHolds::release(words[0]);
  cr_expect_eq(second.count(hash_of(1)), 2);
  cr_expect_eq(second.hold(hash_of(1), 3, &words[0]), Outcome::kHeld);
  // The first worker dies: what it held is free.
  cr_expect_geq(zero_columns(shared, 0), 1);
  cr_expect_eq(second.count(hash_of(1)), 2);
  for (std::atomic<uint64_t>* word : {words[0], words[1], words[3]}) LimitHolds::release(word);
  cr_expect_eq(second.count(hash_of(1)), 0);
  cr_expect_eq(second.count(hash_of(2)), 0);
}

Test(limit_holds, a_full_set_counts_no_further_and_refuses_nobody) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  LimitHolds holds = open_row(shared, 0);
  std::vector<uint64_t> same_set;
  for (uint64_t key = 0; same_set.size() < LimitHoldSet::kPlaces + 1; ++key) {
    if ((hash_of(key) & 1023) == 77) same_set.push_back(hash_of(key));
  }
  std::vector<std::atomic<uint64_t>*> words;
  for (size_t i = 0; i < LimitHoldSet::kPlaces; ++i) {
    std::atomic<uint64_t>* word = nullptr;
    cr_assert_eq(holds.hold(same_set[i], 1, &word), Outcome::kHeld);
    words.push_back(word);
  }
  std::atomic<uint64_t>* word = nullptr;
  cr_expect_eq(holds.hold(same_set.back(), 1, &word), Outcome::kUncounted);
  LimitHolds::release(words[3]);
  cr_expect_eq(holds.hold(same_set.back(), 1, &word), Outcome::kHeld);
  cr_expect_eq(holds.hold(same_set[3], 1, &word), Outcome::kUncounted);
}

// Workers that take and give as fast as they can, and are killed: never more than the limit is held
// at once, and what the dead held is gone when the master has seen their end.
Test(limit_holds, killed_workers_hold_nothing, .timeout = 60) {
  SharedMemory shared = std::move(*SharedMemory::create(8_MiB));
  constexpr uint32_t kLimit = 3;
  constexpr uint32_t kWorkers = 3;
  const uint64_t hash = hash_of(1);
  const auto work = [&](uint32_t row) {
    LimitHolds holds = open_row(shared, row);
    for (;;) {
      std::atomic<uint64_t>* words[2] = {};
      for (auto& word : words) {
        if (holds.hold(hash, kLimit, &word) != Outcome::kHeld) word = nullptr;
      }
      for (auto* word : words) {
        if (word != nullptr) LimitHolds::release(word);
      }
    }
  };
  LimitHolds watcher = open_row(shared, kWorkers);
  std::vector<pid_t> workers;
  for (uint32_t row = 0; row < kWorkers; ++row) {
    workers.push_back(fork());
    if (workers.back() == 0) work(row);
  }
  for (unsigned kills = 0; kills < 100; ++kills) {
    usleep(1000);
    // Each worker that asks for a place it will not get counts for that moment.
    cr_assert_leq(watcher.count(hash), kLimit + kWorkers);
    const uint32_t row = kills % kWorkers;
    kill(workers[row], SIGKILL);
    cr_assert_eq(waitpid(workers[row], nullptr, 0), workers[row]);
    zero_columns(shared, row);
    workers[row] = fork();
    if (workers[row] == 0) work(row);
  }
  for (uint32_t row = 0; row < kWorkers; ++row) {
    kill(workers[row], SIGKILL);
    cr_assert_eq(waitpid(workers[row], nullptr, 0), workers[row]);
    zero_columns(shared, row);
  }
  cr_expect_eq(watcher.count(hash), 0);
}
