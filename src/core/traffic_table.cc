// See traffic_table.h.
#include "core/traffic_table.h"

#include "core/stable_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace gatehouse {
namespace {

constexpr std::string_view kZone = "traffic.rows";
constexpr std::string_view kType = "traffic_rows";
constexpr std::string_view kColumns = "traffic.cells";
constexpr uint32_t kLayoutVersion = 1;

constexpr uint64_t kNeverUsed = 0;
constexpr uint64_t kBeingTaken = 1;

// What tells a row's owner; never one of the two special values. Names are the operator's, so the
// hash needs no key: rows compare names as well.
uint64_t identity_of(TrafficKind kind, std::string_view name) {
  const uint64_t hash = stable_hash(name, static_cast<uint64_t>(kind));
  return hash <= kBeingTaken ? hash + 2 : hash;
}

}  // namespace

Result<std::unique_ptr<TrafficTable>> TrafficTable::open(SharedMemory& shared, uint32_t capacity) {
  if (capacity == 0) capacity = kCapacityDefault;
  capacity = std::clamp(capacity, kCapacityMin, kCapacityMax);
  const std::span<std::byte> known = shared.find_zone(kZone, kType, kLayoutVersion);
  if (!known.empty()) capacity = static_cast<uint32_t>(known.size() / sizeof(TrafficRow));
  Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
      kZone, kType, kLayoutVersion, size_t{capacity} * sizeof(TrafficRow), alignof(TrafficRow));
  if (!zone) return Error{"targets_max: " + zone.error().message};
  Result<ColumnTable<TrafficCell>> columns =
      ColumnTable<TrafficCell>::open(shared, kColumns, kLayoutVersion, capacity);
  if (!columns) return columns.error();
  auto* rows = zone_as<TrafficRow>(*zone, capacity);
  return std::unique_ptr<TrafficTable>(
      new TrafficTable(shared, rows, capacity, std::move(*columns)));
}

Result<void> TrafficTable::open_column(uint32_t worker_row) {
  Result<TrafficCell*> column = columns_.own(worker_row);
  if (!column) return column.error();
  return {};
}

bool TrafficTable::is(const TrafficRow& row, uint64_t identity, TrafficKind kind,
                      std::string_view name) const {
  return row.identity.load(std::memory_order_acquire) == identity &&
         row.kind.load(std::memory_order_relaxed) == static_cast<uint32_t>(kind) &&
         row.text() == name;
}

std::optional<uint32_t> TrafficTable::find(TrafficKind kind, std::string_view name) const {
  const std::string stored = fitting_name(name, TrafficRow::kNameMax);
  const uint64_t identity = identity_of(kind, name);
  const auto first = static_cast<uint32_t>(identity % capacity_);
  for (uint32_t step = 0; step < capacity_; ++step) {
    const uint32_t index = (first + step) % capacity_;
    if (is(rows_[index], identity, kind, stored)) return index;
    if (rows_[index].identity.load(std::memory_order_acquire) == kNeverUsed) break;
  }
  return std::nullopt;
}

Result<uint32_t> TrafficTable::hold(uint32_t worker_row, TrafficKind kind, std::string_view name) {
  Result<SharedMemory::Lock> locked = shared_.lock();
  if (!locked) return locked.error();
  std::optional<uint32_t> index = find(kind, name);
  if (!index) {
    // The first row of the probe sequence that was never used, or failing that the first one that
    // is of no use to anybody now. What is probed later is found all the same: a row that was used
    // once never becomes one that ends a search.
    const uint64_t identity = identity_of(kind, name);
    const auto first = static_cast<uint32_t>(identity % capacity_);
    std::optional<uint32_t> unheld;
    for (uint32_t step = 0; step < capacity_ && !index; ++step) {
      const uint32_t candidate = (first + step) % capacity_;
      const uint64_t owner = rows_[candidate].identity.load(std::memory_order_relaxed);
      if (owner == kNeverUsed) {
        index = candidate;
      } else if (!unheld && sum(candidate, &TrafficCell::holds) == 0) {
        unheld = candidate;
      }
    }
    if (!index) index = unheld;
    if (!index) {
      return Error{
          fmt::format("all {} rows of upstreams and targets are in use; [gatehouse] "
                      "targets_max says how many there are",
                      capacity_)};
    }
    take(*index, identity, kind, fitting_name(name, TrafficRow::kNameMax));
  }
  cell(worker_row, *index).holds.fetch_add(1, std::memory_order_seq_cst);
  return *index;
}

// A death in between leaves a row that belongs to nobody, and is taken by the next.
void TrafficTable::take(uint32_t index, uint64_t identity, TrafficKind kind,
                        std::string_view name) {
  TrafficRow& row = rows_[index];
  row.identity.store(kBeingTaken, std::memory_order_seq_cst);
  row.kind.store(static_cast<uint32_t>(kind), std::memory_order_relaxed);
  row.name_size = static_cast<uint8_t>(name.size());
  std::memcpy(row.name, name.data(), name.size());
  for (std::atomic<uint64_t>* word : {&row.health, &row.admin, &row.ejection, &row.up_since_ms,
                                      &row.latency, &row.share, &row.settings}) {
    word->store(0, std::memory_order_relaxed);
  }
  for (std::atomic<uint64_t>& word : row.breaker) word.store(0, std::memory_order_relaxed);
  for (std::atomic<uint64_t>& word : row.concurrency) word.store(0, std::memory_order_relaxed);
  for (std::atomic<uint64_t>& word : row.spare) word.store(0, std::memory_order_relaxed);
  // Nobody holds the row, so nobody writes what its last owner has left in the columns.
  for (uint32_t worker = 0; worker < columns_.rows(); ++worker) {
    TrafficCell* cells = columns_.column(worker);
    if (cells == nullptr) continue;
    for (std::atomic<uint64_t>& word : cells[index].window) word.store(0);
  }
  row.identity.store(identity, std::memory_order_release);
}

void TrafficTable::release(uint32_t worker_row, uint32_t index) {
  cell(worker_row, index).holds.fetch_sub(1, std::memory_order_seq_cst);
}

std::vector<TrafficTable::Listed> TrafficTable::list(TrafficKind kind) const {
  std::vector<Listed> listed;
  for (uint32_t index = 0; index < capacity_; ++index) {
    const TrafficRow& row = rows_[index];
    if (row.identity.load(std::memory_order_acquire) <= kBeingTaken) continue;
    if (row.kind.load(std::memory_order_relaxed) != static_cast<uint32_t>(kind)) continue;
    listed.push_back({index, kind, std::string(row.text()), sum(index, &TrafficCell::holds)});
  }
  std::sort(listed.begin(), listed.end(),
            [](const Listed& a, const Listed& b) { return a.name < b.name; });
  return listed;
}

}  // namespace gatehouse
