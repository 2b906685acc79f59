// TrafficTable: the shared state of upstreams and their targets, which every worker decides by.
//
// Each has a row, found by kind and name: health, ejection, circuit breaker, latency, the
// operator's word. A row's words are single atomics that any worker changes; what a worker holds
// (requests in flight, connections, probes) is in its own column (core/worker_columns.h), which the
// master sets to zero when the worker ends. Rows survive reloads, crashes and upgrades.
//
// A row is taken under the segment's lock, while a generation is prepared, and held by each worker
// that names it. One that nobody holds keeps its words, for the name may come back; it is given to
// another name only when the table is full. An index stays the same as long as the row is held.
//
// All zeros is the first state of every word. Times in them are of CLOCK_MONOTONIC.
// Layout: zone "traffic.rows", an array of rows; columns "traffic.cells".
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shared_memory.h"
#include "core/worker_columns.h"

namespace gatehouse {

enum class TrafficKind : uint32_t { kNone, kTarget, kUpstream, kSplit };

// The operator's word on a target (`gatehouse target drain`).
enum class TargetAdmin : uint64_t { kNormal, kDrain, kDisabled };

struct alignas(64) TrafficRow {
  static constexpr size_t kNameMax = 111;

  // Who the row belongs to. Changed under the segment's lock only, while nobody holds the row.
  std::atomic<uint64_t> identity;  // hash of kind and name; 0: never used; 1: being taken
  std::atomic<uint32_t> kind;      // TrafficKind
  uint8_t name_size;
  char name[kNameMax];
  char unused[4];

  // Read for each request, changed rarely.
  std::atomic<uint64_t> health;       // TargetVerdict; written by the agent
  std::atomic<uint64_t> admin;        // TargetAdmin; written by the master
  std::atomic<uint64_t> ejection;     // passive ejection
  std::atomic<uint64_t> up_since_ms;  // where slow start began; 0: long ago
  std::atomic<uint64_t> breaker[4];   // core/breaker

  // Changed often, where the upstream uses them.
  std::atomic<uint64_t> latency;         // peak EWMA
  std::atomic<uint64_t> concurrency[3];  // the adaptive limit of an upstream
  std::atomic<uint64_t> share;           // what a canary has set for a split (core/canary)
  std::atomic<uint64_t> settings;        // what the configuration says, for who lists targets
  std::atomic<uint64_t> spare[2];

  std::string_view text() const { return {name, name_size}; }
};
static_assert(ZoneLayout<TrafficRow> && sizeof(TrafficRow) == 256);

// One worker's part of a row. Only that worker writes it; the master zeroes it.
struct alignas(64) TrafficCell {
  std::atomic<uint32_t> holds;  // generations of the worker that name the row
  std::atomic<uint32_t> in_flight;
  std::atomic<uint32_t> connections;
  std::atomic<uint32_t> probes;
  std::atomic<uint32_t> waiting;
  std::atomic<uint32_t> window_epoch;  // what `window` belongs to
  std::atomic<uint64_t> window[5];     // core/breaker
};
static_assert(ZoneLayout<TrafficCell> && sizeof(TrafficCell) == 64);

class TrafficTable {
 public:
  static constexpr uint32_t kCapacityMin = 16;
  static constexpr uint32_t kCapacityDefault = 4096;
  static constexpr uint32_t kCapacityMax = 1'000'000;

  // Finds the zones, or makes them with `capacity` rows (0: kCapacityDefault). A table that is
  // there stays as it is: what it knows is worth more than another size.
  static Result<std::unique_ptr<TrafficTable>> open(SharedMemory& shared, uint32_t capacity = 0);

  // Makes the worker's column. Before any cell() or hold() of that row.
  Result<void> open_column(uint32_t worker_row);

  // The row of that name, taken where there is none, and held once more by the worker. Fails where
  // all rows are held by others. Takes the segment's lock; any thread.
  Result<uint32_t> hold(uint32_t worker_row, TrafficKind kind, std::string_view name);
  // REQUIRES: one for each hold(). Any thread.
  void release(uint32_t worker_row, uint32_t index);

  // The row of that name, held or not. For who does not hold it the index may become another
  // name's; compare text() when it is used later.
  std::optional<uint32_t> find(TrafficKind kind, std::string_view name) const;

  TrafficRow& row(uint32_t index) { return rows_[index]; }
  const TrafficRow& row(uint32_t index) const { return rows_[index]; }
  // REQUIRES: open_column(worker_row).
  TrafficCell& cell(uint32_t worker_row, uint32_t index) {
    return columns_.column(worker_row)[index];
  }
  const ColumnTable<TrafficCell>& columns() const { return columns_; }

  // Over all workers: in it is what anybody has added before with a seq_cst operation.
  uint64_t sum(uint32_t index, std::atomic<uint32_t> TrafficCell::*member) const {
    uint64_t total = 0;
    columns_.each([&](const TrafficCell* cells) {
      total += (cells[index].*member).load(std::memory_order_seq_cst);
    });
    return total;
  }

  // Adds one to the own cell unless the sum over all workers would be more than `limit`. Never
  // exceeds it; two workers that ask at once for the last place may both be refused.
  bool add_below(uint32_t worker_row, uint32_t index, std::atomic<uint32_t> TrafficCell::*member,
                 uint64_t limit) {
    std::atomic<uint32_t>& own = cell(worker_row, index).*member;
    own.fetch_add(1, std::memory_order_seq_cst);
    if (sum(index, member) <= limit) return true;
    own.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }

  struct Listed {
    uint32_t index = 0;
    TrafficKind kind = TrafficKind::kNone;
    std::string name;
    uint64_t holds = 0;  // 0: no worker names it now
  };
  // All rows of the kind, in the order of their names.
  std::vector<Listed> list(TrafficKind kind) const;

  uint32_t capacity() const { return capacity_; }

 private:
  TrafficTable(SharedMemory& shared, TrafficRow* rows, uint32_t capacity,
               ColumnTable<TrafficCell> columns)
      : shared_(shared), rows_(rows), capacity_(capacity), columns_(std::move(columns)) {}
  bool is(const TrafficRow& row, uint64_t identity, TrafficKind kind, std::string_view name) const;
  void take(uint32_t index, uint64_t identity, TrafficKind kind, std::string_view name);

  SharedMemory& shared_;
  TrafficRow* rows_;
  uint32_t capacity_;
  ColumnTable<TrafficCell> columns_;
};

}  // namespace gatehouse
