// The table of budgets: against a plain map, under races, and under writers that are killed.
#include "core/limit_table.h"

#include <criterion/criterion.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "core/keyed_hash.h"

using namespace gatehouse;

namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kStart = 5'000'000'123;

// Rules, counters and a table in memory that forked processes share.
struct Shared {
  struct Block {
    LimitRules rules;
    std::atomic<uint64_t> admitted[4096];
    std::atomic<uint64_t> evicted;
    std::atomic<uint32_t> round;
    std::atomic<uint32_t> arrived;
    std::atomic<bool> stop;
  };

  explicit Shared(uint32_t sets) : bytes(sizeof(Block) + sets * sizeof(LimitSet) + 64) {
    start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(start, MAP_FAILED);
    block = new (start) Block{};
    const uintptr_t from = (reinterpret_cast<uintptr_t>(start) + sizeof(Block) + 63) / 64 * 64;
    table = LimitTable(
        std::span<std::byte>(reinterpret_cast<std::byte*>(from), sets * sizeof(LimitSet)));
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { munmap(start, bytes); }

  size_t bytes;
  void* start;
  Block* block;
  LimitTable table;
};

uint64_t hash_of(uint64_t key) {
  return siphash<1, 3>({1, 2}, &key, sizeof(key));
}

LimitRule window(uint64_t count) {
  return make_limit_rule({count, kSecond, std::nullopt}, kStart);
}
LimitRule bucket(uint64_t count, uint64_t burst) {
  return make_limit_rule({count, kSecond, burst}, kStart);
}

}  // namespace

Test(limit_table, takes_at_most_32_bytes_a_key) {
  for (const uint32_t keys : {64U, 100U, 1000U, 65'536U, 1'000'000U, 10'000'000U}) {
    cr_expect_leq(LimitTable::bytes_for(keys), size_t{32} * keys, "%u", keys);
    cr_expect_geq(LimitTable::sets_for(keys) * LimitSet::kWays, keys, "%u", keys);
  }
}

// As long as no set is full, every decision is the one that a map of counts gives.
Test(limit_table, decides_as_a_plain_map_does) {
  for (const bool is_bucket : {true, false}) {
    Shared shared(64);
    LimitRules& rules = shared.block->rules;
    rules.change(is_bucket ? bucket(20, 7) : window(12));
    std::map<uint64_t, uint64_t> model;
    std::minstd_rand random(31);
    int64_t now = kStart;
    for (int i = 0; i < 300'000; ++i) {
      const uint64_t key = random() % 200;
      const uint64_t cost = 1 + random() % 3;
      now += random() % 2000;
      LimitTable::Taken seen;
      const bool room = shared.table.has_room(rules, hash_of(key), now, cost, seen);
      LimitTable::Taken taken;
      const bool admitted = shared.table.take(rules, hash_of(key), now, cost, taken);
      const bool expected = limit_take(rules.current(), model[key], now, cost, nullptr);
      cr_assert_eq(admitted, expected, "step %d", i);
      cr_assert_eq(room, expected, "step %d", i);
      cr_assert_not(taken.evicted);
      if (admitted && random() % 4 == 0) {
        shared.table.give_back(rules, taken, cost);
        model[key] = limit_give_back(rules.current(), model[key], cost, taken.piece);
      }
      if (random() % 5000 == 0) {
        rules.change(is_bucket ? bucket(10 + random() % 20, 7) : window(8 + random() % 9));
        const uint32_t epoch = rules.epoch.load();
        for (auto& each : model) {
          each.second = limit_count_at(rules, epoch, make_limit_state(0, epoch - 1, each.second));
        }
        shared.table.refresh(rules);
      }
      if (random() % 5000 == 1) {
        shared.table.reset(hash_of(key));
        model.erase(key);
      }
    }
    std::set<uint64_t> tags;
    shared.table.each(rules, [&](uint64_t tag, uint64_t) { cr_assert(tags.insert(tag).second); });
  }
}

Test(limit_table, the_cell_nearest_to_being_unused_gives_way) {
  Shared shared(1);
  LimitRules& rules = shared.block->rules;
  rules.change(bucket(1, 100));
  LimitTable::Taken taken;
  for (uint64_t key = 0; key < LimitSet::kWays; ++key) {
    // Key 5 uses least, and so is full again first.
    const uint64_t cost = key == 5 ? 2 : 10 + key;
    cr_assert(shared.table.take(rules, hash_of(key), kStart, cost, taken));
    cr_assert_not(taken.evicted);
  }
  cr_assert(shared.table.take(rules, hash_of(99), kStart, 50, taken));
  cr_expect(taken.evicted);
  for (uint64_t key = 0; key < LimitSet::kWays; ++key) {
    LimitTable::Taken seen;
    cr_expect_eq(shared.table.has_room(rules, hash_of(key), kStart, 100, seen), key == 5);
  }
  // A minute later most budgets are unused: that is nobody's loss.
  taken = {};
  cr_assert(shared.table.take(rules, hash_of(100), kStart + 60 * kSecond, 1, taken));
  cr_expect_not(taken.evicted);
  cr_expect_eq(shared.table.used_keys(rules, kStart + 60 * kSecond), 1);
}

Test(limit_table, with_as_many_keys_as_it_is_made_for_one_in_a_thousand_gives_way) {
  constexpr uint32_t kKeys = 200'000;
  Shared shared(LimitTable::sets_for(kKeys));
  LimitRules& rules = shared.block->rules;
  rules.change(bucket(1, 3));
  uint64_t evicted = 0;
  for (uint64_t key = 0; key < kKeys; ++key) {
    LimitTable::Taken taken;
    cr_assert(shared.table.take(rules, hash_of(key), kStart, 3, taken));
    evicted += taken.evicted;
  }
  cr_expect_lt(evicted, kKeys / 500, "%lu", evicted);
  uint64_t forgotten = 0;
  for (uint64_t key = 0; key < kKeys; ++key) {
    LimitTable::Taken seen;
    forgotten += shared.table.has_room(rules, hash_of(key), kStart, 1, seen);
  }
  cr_expect_eq(forgotten, evicted, "%lu forgotten, %lu counted", forgotten, evicted);
}

Test(limit_table, another_size_carries_the_counts_over) {
  Shared old(4);
  Shared wide(16);
  LimitRules& rules = old.block->rules;
  rules.change(bucket(1, 10));
  LimitTable::Taken taken;
  for (uint64_t key = 0; key < 20; ++key) {
    cr_assert(old.table.take(rules, hash_of(key), kStart, 4, taken));
  }
  wide.table.set_before(&old.table);
  for (uint64_t key = 0; key < 30; ++key) {
    LimitTable::Taken seen;
    cr_expect_eq(wide.table.has_room(rules, hash_of(key), kStart, 7, seen), key >= 20);
    cr_assert(wide.table.take(rules, hash_of(key), kStart, 6, taken));
    cr_expect_eq(wide.table.take(rules, hash_of(key), kStart, 1, taken), key >= 20);
  }
}

// ---- Races --------------------------------------------------------------------------------------

namespace {

pid_t start_writer(Shared& shared, void (*work)(Shared&, unsigned), unsigned number) {
  const pid_t pid = fork();
  cr_assert_geq(pid, 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails leaves nothing running
    work(shared, number);
    _exit(0);
  }
  return pid;
}

constexpr unsigned kRacers = 4;
constexpr uint32_t kRounds = 3000;
constexpr uint64_t kBudget = 5;

// All bring in the same new key at the same time, round after round, while cells of the set become
// free and taken by keys of their own, so that they choose different ones.
void race(Shared& shared, unsigned number) {
  const uint64_t noise = 1'000'000 + number;
  LimitRules& rules = shared.block->rules;
  for (uint32_t round = 0; round < kRounds; ++round) {
    shared.block->arrived.fetch_add(1);
    while (shared.block->arrived.load() < (round + 1) * kRacers) {
      if (shared.block->stop.load()) return;
      std::this_thread::yield();
    }
    if (number == 0 && round >= 2) shared.table.reset(hash_of(round - 2));
    for (uint64_t i = 0; i < kBudget + 2; ++i) {
      LimitTable::Taken taken;
      (void)shared.table.take(rules, hash_of(noise + 10 * i), kStart, 1, taken);
      if (shared.table.take(rules, hash_of(round), kStart, 1, taken)) {
        shared.block->admitted[round].fetch_add(1);
      }
      shared.table.reset(hash_of(noise + 10 * i));
      if (taken.evicted) shared.block->evicted.fetch_add(1);
    }
  }
}

}  // namespace

Test(limit_table, workers_that_bring_in_the_same_key_share_one_budget) {
  Shared shared(1);
  shared.block->rules.change(bucket(1, kBudget));
  std::vector<pid_t> racers;
  for (unsigned i = 0; i < kRacers; ++i) racers.push_back(start_writer(shared, &race, i));
  for (const pid_t pid : racers) {
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
  }
  cr_assert_eq(shared.block->evicted.load(), 0);
  for (uint32_t round = 0; round < kRounds; ++round) {
    cr_assert_eq(shared.block->admitted[round].load(), kBudget, "round %u: %lu", round,
                 shared.block->admitted[round].load());
  }
}

// Two cells for one key, as a worker leaves them that is killed just after it has claimed one: the
// next to look the key up makes them one.
Test(limit_table, two_cells_of_one_key_become_one) {
  Shared shared(1);
  Shared other(1);
  LimitRules& rules = shared.block->rules;
  rules.change(bucket(1, 10));
  LimitTable::Taken taken;
  cr_assert(shared.table.take(rules, hash_of(1), kStart, 4, taken));
  // The same key's cell as another table has it, behind the first.
  cr_assert(other.table.take(rules, hash_of(2), kStart, 1, taken));
  cr_assert(other.table.take(rules, hash_of(1), kStart, 3, taken));
  auto* set = reinterpret_cast<LimitSet*>(
      (reinterpret_cast<uintptr_t>(shared.start) + sizeof(Shared::Block) + 63) / 64 * 64);
  const auto* from = reinterpret_cast<LimitSet*>(
      (reinterpret_cast<uintptr_t>(other.start) + sizeof(Shared::Block) + 63) / 64 * 64);
  set->tags[1].store(from->tags[1].load());
  set->states[1].store(from->states[1].load());

  cr_expect_not(shared.table.take(rules, hash_of(1), kStart, 4, taken));
  cr_expect(shared.table.take(rules, hash_of(1), kStart, 3, taken));
  uint64_t cells = 0;
  shared.table.each(rules, [&](uint64_t, uint64_t count) {
    ++cells;
    cr_expect_eq(limit_remaining(rules.current(), count, kStart), 0);
  });
  cr_expect_eq(cells, 1);
}

namespace {

constexpr uint64_t kHammered = 96;  // keys, in a table of 64 cells: cells change hands all the time

void hammer(Shared& shared, unsigned number) {
  std::minstd_rand random(number + 1);
  int64_t now = kStart;
  while (!shared.block->stop.load(std::memory_order_relaxed)) {
    LimitTable::Taken taken;
    const uint64_t key = random() % kHammered;
    const bool admitted = shared.table.take(shared.block->rules, hash_of(key), now, 1, taken);
    if (admitted && random() % 3 == 0) shared.table.give_back(shared.block->rules, taken, 1);
    // Whoever looks does so at ten seconds: a fast machine must not be ahead of that.
    now = std::min<int64_t>(now + random() % 50, kStart + 9 * kSecond);
  }
}

}  // namespace

// Writers are killed wherever they just are; whoever goes on, and whoever looks, finds every cell
// in a valid state, and no key has two.
Test(limit_table, killed_writers_leave_every_cell_valid, .timeout = 60) {
  Shared shared(4);
  LimitRules& rules = shared.block->rules;
  rules.change(bucket(50, 20));
  std::vector<pid_t> writers;
  for (unsigned i = 0; i < 3; ++i) writers.push_back(start_writer(shared, &hammer, i));
  std::minstd_rand random(12);
  for (unsigned kills = 0; kills < 150; ++kills) {
    usleep(500 + random() % 4000);
    pid_t& victim = writers[random() % writers.size()];
    cr_assert_eq(kill(victim, SIGKILL), 0);
    int status = 0;
    cr_assert_eq(waitpid(victim, &status, 0), victim);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a writer ended by itself");
    if (kills % 10 == 5) {
      rules.change(kills % 20 == 5 ? window(15) : bucket(50, 20));
      shared.table.refresh(rules);
    }
    shared.table.each(rules, [&](uint64_t, uint64_t count) {
      const uint64_t used = limit_used_units(rules.current(), count, kStart + 10 * kSecond);
      cr_assert_leq(used, 64 * kTokenUnits, "%lu tokens used", used / kTokenUnits);
    });
    victim = start_writer(shared, &hammer, kills + 10);
  }
  shared.block->stop = true;
  for (const pid_t pid : writers) {
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
  }
  // Long after, every key has its whole budget, exactly once.
  const int64_t later = kStart + 1000 * kSecond;
  rules.change(bucket(1, 3));
  for (uint64_t key = 0; key < kHammered; ++key) {
    LimitTable::Taken taken;
    cr_assert(shared.table.take(rules, hash_of(key), later, 3, taken));
    cr_assert_not(shared.table.take(rules, hash_of(key), later, 1, taken));
  }
  std::multiset<uint64_t> tags;
  shared.table.each(rules, [&](uint64_t tag, uint64_t) { tags.insert(tag); });
  for (const uint64_t tag : tags) cr_assert_eq(tags.count(tag), 1);
}
