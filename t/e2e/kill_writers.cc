// Kills processes that write shared state, at any instruction, and looks at what they leave.
//
// Writers share a segment as workers do: each takes requests in flight on the same few targets up
// to a limit, asks their breakers, takes probes, tells results, holds and lets go of rows. The
// parent kills them at random with SIGKILL, gives back what the dead one held as the master does
// (zero_columns), and starts another one in its place.
//
// They also use up the budgets of many keys of a rate limit, which never come back: in the end each
// was given out once. What a writer was given and did not come to note before it died is missing in
// that count, at most one of each kill; and so much may be given out twice (core/limit_table.h).
//
// After each kill every word must be one that the rules can have made. All the time, the requests
// that writers believe to be in flight, and the probes, are never more than allowed. In the end,
// when all are dead, nothing is in flight; and while it runs every writer goes on: none hangs on
// what a dead one has left.
//
// Usage: kill_writers [--kills=1000] [--writers=6] [--seed=1]
// Prints one line of JSON; ends with 1 and a line for each thing that is wrong.

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/breaker.h"
#include "core/limit_table.h"
#include "core/shared_memory.h"
#include "core/traffic_table.h"
#include "core/units.h"
#include "core/worker_columns.h"

namespace {

using namespace gatehouse;

constexpr uint32_t kTargets = 4;
constexpr uint32_t kInFlightMax = 5;
constexpr uint32_t kWritersMax = 32;
constexpr uint32_t kKeys = 4000;
constexpr std::chrono::milliseconds kPause{3};
constexpr std::chrono::seconds kHang{5};

const BreakerRules kRules{.failures = 3,
                          .failed_share = 5000,
                          .slow_share = 8000,
                          .slow_ms = 50,
                          .volume = 10,
                          .window_ms = 20,
                          .open_ms = 1,
                          .open_max_ms = 4,
                          .probes = 2,
                          .close_after = 3};

// What the writers believe: beside the segment, so that it can be compared with it. A writer adds
// after it was admitted and takes back before it gives back, so that the sum is never too large.
struct alignas(64) Belief {
  std::array<std::atomic<uint32_t>, kTargets> in_flight;
  std::array<std::atomic<uint32_t>, kTargets> probes;
  std::atomic<uint64_t> turns;
};

// A rate limit as the segment has it, and what the writers were given of each key.
struct Budgets {
  LimitRules* rules = nullptr;
  LimitTable table;
  std::atomic<uint32_t>* given = nullptr;
};

struct Options {
  uint64_t kills = 1000;
  uint32_t writers = 6;
  uint64_t seed = 1;
  // Of each key: so much that it lasts for most of the run.
  uint64_t budget() const { return 100 + 8 * kills; }
};

uint64_t now_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

int64_t now_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

// Spreads the keys as a keyed hash does (splitmix64).
uint64_t hash_of(uint64_t key) {
  uint64_t x = (key + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

std::string target_name(uint32_t number) {
  return "app/10.0.0." + std::to_string(number) + ":80";
}

[[noreturn]] void fail(const std::string& text) {
  std::fprintf(stderr, "kill_writers: %s\n", text.c_str());
  std::exit(1);
}

// ---- A writer -----------------------------------------------------------------------------------

class Writer {
 public:
  Writer(TrafficTable& table, uint32_t row, Belief& belief, Budgets& budgets, uint64_t seed)
      : table_(table), row_(row), belief_(belief), budgets_(budgets), random_(seed) {}
  [[noreturn]] void run();

 private:
  void turn();
  void ask(uint32_t target);
  void take();
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  TrafficTable& table_;
  uint32_t row_;
  Belief& belief_;
  Budgets& budgets_;
  std::mt19937_64 random_;
  std::array<uint32_t, kTargets> indices_{};
};

void Writer::ask(uint32_t target) {
  const uint32_t index = indices_[target];
  const BreakerCells cells{&table_, index, &table_.row(index), &table_.cell(row_, index)};
  if (!table_.add_below(row_, index, &TrafficCell::in_flight, kInFlightMax)) return;
  belief_.in_flight[target].fetch_add(1);
  BreakerChange change;
  const BreakerPass pass = breaker_admit(cells, kRules, now_ms(), change);
  if (pass.verdict != BreakerVerdict::kRefuse) {
    const bool is_probe = pass.verdict == BreakerVerdict::kProbe;
    if (is_probe) belief_.probes[target].fetch_add(1);
    table_.row(index).latency.store(random_(), std::memory_order_relaxed);
    const bool is_cancelled = chance(5);
    const bool is_failed = chance(target == 0 ? 60 : 10);
    if (is_probe) belief_.probes[target].fetch_sub(1);
    if (is_cancelled) {
      breaker_cancel(cells, pass);
    } else {
      breaker_record(cells, kRules, pass, is_failed, chance(5) ? 60 : 1, now_ms());
    }
  }
  belief_.in_flight[target].fetch_sub(1);
  table_.cell(row_, index).in_flight.fetch_sub(1);
}

void Writer::take() {
  const uint64_t key = random_() % kKeys;
  LimitTable::Taken taken;
  if (!budgets_.table.take(*budgets_.rules, hash_of(key), now_us(), 1, taken)) return;
  if (taken.evicted) fail("a key gave way although there is room");
  if (chance(10)) {
    budgets_.table.give_back(*budgets_.rules, taken, 1);
  } else {
    budgets_.given[key].fetch_add(1);
  }
}

void Writer::turn() {
  take();
  ask(static_cast<uint32_t>(random_() % kTargets));
  if (chance(1)) {
    // As a reload does: the new generation holds before the old one lets go.
    const auto target = static_cast<uint32_t>(random_() % kTargets);
    Result<uint32_t> held = table_.hold(row_, TrafficKind::kTarget, target_name(target));
    if (!held) fail(held.error().message);
    if (*held != indices_[target]) fail("a row that is held has moved");
    table_.release(row_, indices_[target]);
  }
  belief_.turns.fetch_add(1);
}

void Writer::run() {
  for (uint32_t target = 0; target < kTargets; ++target) {
    Result<uint32_t> held = table_.hold(row_, TrafficKind::kTarget, target_name(target));
    if (!held) fail(held.error().message);
    indices_[target] = *held;
  }
  for (;;) turn();
}

// ---- The parent ---------------------------------------------------------------------------------

class Parent {
 public:
  explicit Parent(const Options& options)
      : options_(options), random_(options.seed), shared_(make_segment()) {}
  int run();

 private:
  static SharedMemory make_segment();
  void make_budgets();
  void start(uint32_t writer);
  void kill_one(uint32_t writer);
  void check_words();
  void check_beliefs();
  void check_progress();
  void check_rest();
  void check_budgets(uint64_t kills);
  void wrong(const std::string& text);

  Options options_;
  std::mt19937_64 random_;
  SharedMemory shared_;
  std::unique_ptr<TrafficTable> table_;
  Budgets budgets_;
  std::vector<Belief*> beliefs_;
  std::vector<pid_t> pids_;
  std::vector<uint64_t> turns_;
  std::vector<std::chrono::steady_clock::time_point> moved_;
  uint64_t all_turns_ = 0;
  uint64_t opened_ = 0;
  uint64_t lacking_ = 0;
  uint64_t twice_ = 0;
  uint64_t faults_ = 0;
};

void Parent::wrong(const std::string& text) {
  std::fprintf(stderr, "kill_writers: wrong: %s\n", text.c_str());
  if (++faults_ > 20) fail("and so on");
}

SharedMemory Parent::make_segment() {
  Result<SharedMemory> made = SharedMemory::create(16_MiB);
  if (!made) fail(made.error().message);
  return std::move(*made);
}

void* shared_bytes(size_t size) {
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) fail("mmap");
  return page;
}

void Parent::make_budgets() {
  auto zone = shared_.adopt_or_create_zone("budgets", "test", 1, LimitTable::bytes_for(4 * kKeys));
  auto rules = shared_.adopt_or_create_zone("rules", "test", 1, sizeof(LimitRules));
  if (!zone || !rules) fail("no room for the budgets");
  budgets_.table = LimitTable(*zone);
  budgets_.rules = zone_as<LimitRules>(*rules);
  const LimitRate rate{.count = 1, .period_us = kLimitPeriodMaxUs, .burst = options_.budget()};
  budgets_.rules->change(make_limit_rule(rate, now_us()));
  budgets_.given = static_cast<std::atomic<uint32_t>*>(shared_bytes(4 * kKeys));
}

void Parent::start(uint32_t writer) {
  const uint64_t seed = random_();
  const pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Writer(*table_, writer, *beliefs_[writer], budgets_, seed).run();
  }
  pids_[writer] = pid;
  moved_[writer] = std::chrono::steady_clock::now();
}

void Parent::kill_one(uint32_t writer) {
  kill(pids_[writer], SIGKILL);
  int status = 0;
  if (waitpid(pids_[writer], &status, 0) < 0) fail("waitpid");
  if (!WIFSIGNALED(status)) wrong("a writer has ended by itself");
  zero_columns(shared_, writer);
  Belief& belief = *beliefs_[writer];
  for (auto& count : belief.in_flight) count.store(0);
  for (auto& count : belief.probes) count.store(0);
}

// Every word is one that the rules can have made.
void Parent::check_words() {
  for (uint32_t target = 0; target < kTargets; ++target) {
    const auto index = table_->find(TrafficKind::kTarget, target_name(target));
    if (!index) {
      wrong("a target's row is not found");
      continue;
    }
    const TrafficRow& row = table_->row(*index);
    if (row.text() != target_name(target)) wrong("a row has another name");
    const BreakerStand stand = BreakerStand::unpack(row.breaker[0].load());
    if (stand.state > BreakerState::kHalfOpen) wrong("a breaker has no state");
    if (stand.cause > BreakerCause::kOperator) wrong("a breaker has no cause");
    if (stand.successes > kRules.close_after) wrong("a breaker has too many successes");
    const uint64_t now = now_ms();
    const uint64_t latest = now + 2 * kRules.open_max_ms + 100;
    if (stand.moment_ms > latest) wrong("a breaker stays open for ever");
    if (breaker_report(row).failures_in_row > 1'000'000) wrong("failures in a row are garbage");
  }
}

void Parent::check_beliefs() {
  for (uint32_t target = 0; target < kTargets; ++target) {
    uint64_t in_flight = 0;
    uint64_t probes = 0;
    for (uint32_t writer = 0; writer < options_.writers; ++writer) {
      in_flight += beliefs_[writer]->in_flight[target].load();
      probes += beliefs_[writer]->probes[target].load();
    }
    if (in_flight > kInFlightMax) wrong(std::to_string(in_flight) + " requests are in flight");
    if (probes > kRules.probes) wrong(std::to_string(probes) + " probes are under way");
  }
}

void Parent::check_progress() {
  const auto now = std::chrono::steady_clock::now();
  for (uint32_t writer = 0; writer < options_.writers; ++writer) {
    const uint64_t turns = beliefs_[writer]->turns.load();
    if (turns != turns_[writer]) {
      all_turns_ += turns - turns_[writer];
      turns_[writer] = turns;
      moved_[writer] = now;
    } else if (now > moved_[writer] + kHang) {
      fail("writer " + std::to_string(writer) + " hangs");
    }
  }
}

void Parent::check_rest() {
  for (uint32_t target = 0; target < kTargets; ++target) {
    const auto index = table_->find(TrafficKind::kTarget, target_name(target));
    if (!index) continue;
    for (const auto member : {&TrafficCell::in_flight, &TrafficCell::probes, &TrafficCell::holds,
                              &TrafficCell::connections, &TrafficCell::waiting}) {
      if (table_->sum(*index, member) != 0) wrong("a dead writer still holds something");
    }
    opened_ += breaker_report(table_->row(*index)).opened_total;
  }
}

// Takes what is left, and counts.
void Parent::check_budgets(uint64_t kills) {
  uint64_t lacking = 0;
  uint64_t twice = 0;
  for (uint64_t key = 0; key < kKeys; ++key) {
    uint64_t given = budgets_.given[key].load();
    LimitTable::Taken taken;
    while (budgets_.table.take(*budgets_.rules, hash_of(key), now_us(), 1, taken)) ++given;
    if (given < options_.budget()) lacking += options_.budget() - given;
    if (given > options_.budget()) twice += given - options_.budget();
  }
  if (lacking > kills) wrong(std::to_string(lacking) + " of the budgets were lost");
  if (twice > kills) wrong(std::to_string(twice) + " of the budgets were given out twice");
  lacking_ = lacking;
  twice_ = twice;
}

int Parent::run() {
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared_, 64);
  if (!table) fail(table.error().message);
  table_ = std::move(*table);
  make_budgets();
  void* page = shared_bytes(sizeof(Belief) * options_.writers);
  pids_.resize(options_.writers);
  turns_.resize(options_.writers);
  moved_.resize(options_.writers);
  for (uint32_t writer = 0; writer < options_.writers; ++writer) {
    beliefs_.push_back(new (static_cast<Belief*>(page) + writer) Belief{});
    if (Result<void> made = table_->open_column(writer); !made) fail(made.error().message);
  }
  for (uint32_t writer = 0; writer < options_.writers; ++writer) start(writer);
  const auto begun = std::chrono::steady_clock::now();
  for (uint64_t kills = 0; kills < options_.kills; ++kills) {
    std::this_thread::sleep_for(
        std::chrono::microseconds(random_() % (kPause / std::chrono::microseconds(1))));
    check_beliefs();
    check_progress();
    const auto writer = static_cast<uint32_t>(random_() % options_.writers);
    kill_one(writer);
    check_words();
    start(writer);
  }
  // Each still goes on.
  const std::vector<uint64_t> before = turns_;
  for (uint32_t writer = 0; writer < options_.writers; ++writer) {
    while (beliefs_[writer]->turns.load() == before[writer]) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      check_progress();
      if (turns_[writer] != before[writer]) break;
    }
  }
  for (uint32_t writer = 0; writer < options_.writers; ++writer) kill_one(writer);
  check_words();
  check_rest();
  check_budgets(options_.kills + options_.writers);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  std::printf(
      "{\"kills\":%llu,\"writers\":%u,\"seconds\":%.1f,\"turns\":%llu,\"opened\":%llu,"
      "\"given_lost\":%llu,\"given_twice\":%llu,\"wrong\":%llu}\n",
      static_cast<unsigned long long>(options_.kills + options_.writers), options_.writers,
      took.count(), static_cast<unsigned long long>(all_turns_),
      static_cast<unsigned long long>(opened_), static_cast<unsigned long long>(lacking_),
      static_cast<unsigned long long>(twice_), static_cast<unsigned long long>(faults_));
  return faults_ == 0 ? 0 : 1;
}

uint64_t number(const char* text) {
  return std::strtoull(text, nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--kills=")) {
      options.kills = number(argv[i] + 8);
    } else if (word.starts_with("--writers=")) {
      options.writers = static_cast<uint32_t>(number(argv[i] + 10));
    } else if (word.starts_with("--seed=")) {
      options.seed = number(argv[i] + 7);
    } else {
      fail("usage: kill_writers [--kills=1000] [--writers=6] [--seed=1]");
    }
  }
  if (options.writers == 0 || options.writers > kWritersMax) fail("--writers is 1 to 32");
  return Parent(options).run();
}
