// SharedLimit: one [limit NAME] in the shared segment: its rules, counters, top keys and budgets.
//
//   zone limit/NAME        LimitRow, of fixed size: found again by name whatever else changes
//   zone limit#KEYS/NAME   the table of budgets (core/limit_table.h) for that many keys
//
// A row is made while a generation is prepared, and described anew when one begins to serve
// (serve()): only then do a changed rate and another size come into force, and only once for all
// workers. It survives reloads, crashes and upgrades. Another keys_max makes another table; keys
// that it does not know yet are looked for in the one before, so that no budget begins anew.
// Texts and settings in the row are written under the segment's lock; rules, counters and tables
// without.
// Leaves out: giving back the room of limits and sizes that are no longer configured; that takes a
// restart.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/limit_conf.h"
#include "core/limit_state.h"
#include "core/limit_table.h"
#include "core/limit_top.h"
#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

// What was decided; in each limit some, so that workers do not write to one line.
struct alignas(64) LimitCounters {
  std::atomic<uint64_t> admitted;
  std::atomic<uint64_t> refused;
  std::atomic<uint64_t> concurrency_refused;
  std::atomic<uint64_t> dry_run;    // would have been refused
  std::atomic<uint64_t> evicted;    // budgets that were forgotten, for the table was full
  std::atomic<uint64_t> uncounted;  // exchanges that concurrency could not count
  std::atomic<uint64_t> spare[2];

  static void add(std::atomic<uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);
  }
};

struct alignas(64) LimitRow {
  static constexpr uint32_t kStripes = 8;
  static constexpr uint32_t kTops = 4;
  enum Override : uint32_t { kNone, kUntilReload, kKept };

  char name[128];
  char key[256];
  char parent[128];
  std::atomic<uint32_t> generation;  // that has described the row
  std::atomic<uint32_t> overridden;  // Override: the rate in force is not the file's
  std::atomic<uint32_t> keys;        // of the table in force; 0: there is none
  std::atomic<uint32_t> keys_before;
  std::atomic<uint32_t> dry_run;
  std::atomic<uint32_t> by_route;
  std::atomic<uint32_t> cost;
  std::atomic<uint32_t> concurrency;
  std::atomic<uint64_t> file_count;  // the file's rate
  std::atomic<int64_t> file_period_us;
  std::atomic<uint64_t> file_burst;  // 0: none
  std::atomic<uint64_t> refreshed;   // the epoch that all states are at least of
  std::atomic<uint64_t> spare[4];
  LimitRules rules;
  LimitCounters counters[kStripes];
  LimitTop tops[kTops];
};
static_assert(ZoneLayout<LimitRow>);

// What a configuration says about a limit.
struct LimitSettings {
  std::string name;
  std::optional<LimitRate> rate;
  LimitKey key;
  std::string parent;
  uint32_t keys_max = 65'536;
  uint32_t cost = 1;
  uint32_t concurrency = 0;  // 0: no such limit
  bool by_route = false;
  bool dry_run = false;
};

// Sums, for readers.
struct LimitTotals {
  uint64_t admitted = 0;
  uint64_t refused = 0;
  uint64_t concurrency_refused = 0;
  uint64_t dry_run = 0;
  uint64_t evicted = 0;
  uint64_t uncounted = 0;
};

struct ListedLimit {
  std::string name;
  LimitTotals totals;
};

class SharedLimit {
 public:
  // Finds or makes what the settings ask for. The segment's lock is taken; not for the request
  // path. Fails where the segment has no room.
  static Result<std::unique_ptr<SharedLimit>> open(SharedMemory& shared,
                                                   const LimitSettings& settings, int64_t now_us);
  // Only what is there. Null where there is no limit of that name.
  static std::unique_ptr<SharedLimit> find(SharedMemory& shared, std::string_view name);
  // The names of all limits that there are, sorted.
  static std::vector<std::string> names(SharedMemory& shared);

  // Their counters, sorted by name.
  static std::vector<ListedLimit> list(SharedMemory& shared);

  // A generation with these settings begins to serve. The first call of a generation's number does
  // something, by whichever worker it comes.
  Result<void> serve(const LimitSettings& settings, uint32_t generation, int64_t now_us);
  // Another rate, from now on; until the next reload, or, `keep`, beyond it.
  Result<void> set_rate(const LimitRate& rate, bool keep, int64_t now_us);
  // Back to the file's rate.
  Result<void> unset_rate(int64_t now_us);

  const LimitRules& rules() const { return row_->rules; }
  bool has_rate() const { return rules().epoch.load(std::memory_order_acquire) != 0; }
  LimitTable& table() { return table_; }
  const LimitTable& table() const { return table_; }
  LimitCounters& counters(uint32_t worker_row) {
    return row_->counters[worker_row % LimitRow::kStripes];
  }
  LimitTop& top(uint32_t worker_row) { return row_->tops[worker_row % LimitRow::kTops]; }

  LimitTotals totals() const;
  std::vector<LimitTopKey> top_keys() const {
    return merge_limit_tops(row_->tops, LimitRow::kTops);
  }
  // Forgets the budget of one key, or, without a hash, all of them.
  bool reset(std::optional<uint64_t> hash);

  const LimitRow& row() const { return *row_; }
  std::string name() const;
  // As they were described last.
  LimitSettings settings() const;
  LimitRate file_rate() const;

 private:
  SharedLimit(SharedMemory& shared, LimitRow* row) : shared_(shared), row_(row) {}
  Result<void> open_tables(uint32_t keys, bool make);
  void refresh();

  SharedMemory& shared_;
  LimitRow* row_;
  LimitTable table_;
  LimitTable before_;
};

}  // namespace gatehouse
