// Metrics over zones of the shared segment; see metrics.h for the layout.
#include "core/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "core/stable_names.h"

namespace gatehouse {
namespace {

constexpr uint32_t kLayoutVersion = 6;
constexpr std::string_view kNamesZone = "metrics.series";
constexpr std::string_view kNamesType = "metric_names";
constexpr std::string_view kRowType = "metric_row";
constexpr uint32_t kSpareRows = 8;  // that there is room for in any case

struct alignas(64) NamesHeader {
  std::atomic<uint32_t> used;  // entries that are complete; the first kSeriesKinds are "(other)"
  std::atomic<uint32_t> rows;  // zones of rows that are complete; never goes down
  std::atomic<uint64_t> refused;
  std::atomic<int64_t> created_us;
};

// One name. `bytes` beyond `size` mean nothing.
struct SeriesName {
  static constexpr size_t kMax = 254;
  uint8_t kind;
  uint8_t size;
  char bytes[kMax];
  std::string_view text() const { return {bytes, size}; }
};
static_assert(sizeof(SeriesName) == 256);

struct alignas(64) RowHeader {
  static constexpr size_t kPoolMax = 47;
  WorkerCells cells;
  std::atomic<int64_t> started_us;
  std::atomic<int32_t> pid;
  std::atomic<uint32_t> index;
  uint8_t pool_size;
  char pool[kPoolMax];
};
static_assert(ZoneLayout<NamesHeader> && ZoneLayout<SeriesName> && ZoneLayout<RowHeader> &&
              ZoneLayout<SeriesCells>);
static_assert(sizeof(RowHeader) == 128 && sizeof(SeriesCells) == 1152);

size_t names_size(uint32_t capacity) {
  return sizeof(NamesHeader) + capacity * sizeof(SeriesName);
}
size_t row_size(uint32_t capacity) {
  return sizeof(RowHeader) + capacity * sizeof(SeriesCells);
}
std::string row_zone(size_t row) {
  return fmt::format("metrics.row.{}", row);
}

// A capacity for which the zones take up to three quarters of the segment once there are twice as
// many rows: reloads add workers, and replace each by a new one that begins before the old one
// ends.
uint32_t fitting_capacity(Bytes segment, uint32_t rows) {
  const uint64_t most = std::clamp(2 * rows, kSpareRows, Metrics::kRowsMax);
  const uint64_t each = sizeof(SeriesName) + most * sizeof(SeriesCells);
  return static_cast<uint32_t>(std::clamp<uint64_t>(segment.count / 4 * 3 / each,
                                                    Metrics::kSeriesMin, Metrics::kSeriesDefault));
}

Error no_room(const Error& cause) {
  return Error{cause.message + "; a smaller metric_series helps too"};
}

class SharedMetrics final : public Metrics {
 public:
  SharedMetrics(SharedMemory& shared, std::span<std::byte> names, uint32_t capacity)
      : shared_(shared),
        header_(zone_as<NamesHeader>(names)),
        names_(zone_as<SeriesName>(names.subspan(sizeof(NamesHeader)), capacity)),
        capacity_(capacity) {}

  // The entries of the "(other)" series, where this is a new zone or its maker died too early; and
  // tells everybody that there are `rows`. REQUIRES: the zones of that many rows are complete.
  Result<void> initialise(uint32_t rows) {
    Result<SharedMemory::Lock> lock = shared_.lock();
    if (!lock) return lock.error();
    if (header_->rows.load(std::memory_order_acquire) < rows) {
      header_->rows.store(rows, std::memory_order_release);
    }
    if (header_->used.load(std::memory_order_acquire) >= kSeriesKinds) return {};
    header_->created_us.store(wall_clock_us(), std::memory_order_relaxed);
    for (unsigned kind = 0; kind < kSeriesKinds; ++kind) {
      write_name(kind, static_cast<SeriesKind>(kind), kOtherSeries);
    }
    header_->used.store(kSeriesKinds, std::memory_order_release);
    return {};
  }

  SeriesCells& cells(uint32_t row, SeriesKind kind, std::string_view name) override {
    return row_at(row).cells[find_or_register(kind, fitting_name(name, SeriesName::kMax))];
  }

  WorkerCells& worker_cells(uint32_t row) override { return row_at(row).header->cells; }

  void set_worker(uint32_t row, std::string_view pool, uint32_t index, int32_t pid,
                  int64_t wall_us) override {
    RowHeader& header = *row_at(row).header;
    header.pid.store(0, std::memory_order_relaxed);
    header.pool_size = static_cast<uint8_t>(std::min(pool.size(), RowHeader::kPoolMax));
    std::memcpy(header.pool, pool.data(), header.pool_size);
    header.index.store(index, std::memory_order_relaxed);
    header.started_us.store(wall_us, std::memory_order_relaxed);
    header.cells.started.add();
    header.pid.store(pid, std::memory_order_release);
  }

  std::vector<SeriesTotal> totals() const override {
    const std::vector<Row>& rows = known_rows();
    const uint32_t used = used_entries();
    std::vector<SeriesTotal> totals;
    totals.reserve(used);
    for (uint32_t i = 0; i < used; ++i) {
      totals.push_back(
          {static_cast<SeriesKind>(names_[i].kind), std::string(names_[i].text()), SeriesCells()});
      SeriesCells& sum = totals.back().cells;
      for (const Row& row : rows) sum.add(row.cells[i]);
      if (i < kSeriesKinds && sum.requests_total() == 0 && sum.connections.get() == 0) {
        totals.pop_back();
      }
    }
    return totals;
  }

  WorkerCells worker_total() const override {
    WorkerCells total;
    for (const Row& row : known_rows()) total.add(row.header->cells);
    return total;
  }

  std::vector<WorkerRow> workers() const override {
    const std::vector<Row>& rows = known_rows();
    std::vector<WorkerRow> workers(rows.size());
    const uint32_t used = used_entries();
    for (uint32_t row = 0; row < rows.size(); ++row) {
      WorkerRow& worker = workers[row];
      const RowHeader& header = *rows[row].header;
      worker.row = row;
      worker.pid = header.pid.load(std::memory_order_acquire);
      worker.pool.assign(header.pool, std::min<size_t>(header.pool_size, RowHeader::kPoolMax));
      worker.index = header.index.load(std::memory_order_relaxed);
      worker.started_us = header.started_us.load(std::memory_order_relaxed);
      worker.cells = header.cells;
      for (uint32_t i = 0; i < used; ++i) {
        const SeriesCells& cells = rows[row].cells[i];
        const auto kind = static_cast<SeriesKind>(names_[i].kind);
        if (kind == SeriesKind::kRoute) worker.requests_active += cells.requests_active.get();
        if (kind != SeriesKind::kListener) continue;
        worker.requests += cells.requests_total();
        worker.connections += cells.connections.get();
        worker.connections_active += cells.connections_active.get();
      }
    }
    return workers;
  }

  uint32_t series_used() const override {
    return used_entries() - std::min(used_entries(), kSeriesKinds);
  }
  uint32_t series_capacity() const override { return capacity_ - kSeriesKinds; }
  uint64_t series_refused() const override {
    return header_->refused.load(std::memory_order_relaxed);
  }
  uint32_t rows() const override { return static_cast<uint32_t>(known_rows().size()); }
  int64_t created_us() const override {
    return header_->created_us.load(std::memory_order_relaxed);
  }

  void zero_gauges(uint32_t row) override {
    const Row& known = row_at(row);
    known.header->pid.store(0, std::memory_order_relaxed);
    known.header->cells.generations.set(0);
    const uint32_t used = used_entries();
    for (uint32_t i = 0; i < used; ++i) {
      // Only what is not zero is written: untouched pages stay untouched.
      Gauge* gauges[] = {&known.cells[i].connections_active, &known.cells[i].requests_active};
      for (Gauge* gauge : gauges) {
        if (gauge->get() != 0) gauge->value.store(0, std::memory_order_relaxed);
      }
    }
  }

 private:
  struct Row {
    RowHeader* header;
    SeriesCells* cells;
  };

  // All rows that there are, those that others have added since the last call too. Looking one up
  // takes the segment's lock; where nothing was added this is one load.
  const std::vector<Row>& known_rows() const {
    const uint32_t rows =
        std::min(header_->rows.load(std::memory_order_acquire), Metrics::kRowsMax);
    while (rows_.size() < rows) {
      const std::span<std::byte> zone =
          shared_.find_zone(row_zone(rows_.size()), kRowType, kLayoutVersion);
      // Another size belongs to a table of another capacity, which has replaced this one.
      if (zone.size() != row_size(capacity_)) break;
      rows_.push_back({zone_as<RowHeader>(zone),
                       zone_as<SeriesCells>(zone.subspan(sizeof(RowHeader)), capacity_)});
    }
    return rows_;
  }

  const Row& row_at(uint32_t row) const {
    if (row < rows_.size()) return rows_[row];
    const std::vector<Row>& rows = known_rows();
    assert(row < rows.size());
    return rows[row];
  }

  // The number is another process's: never trusted beyond the table.
  uint32_t used_entries() const {
    return std::min(header_->used.load(std::memory_order_acquire), capacity_);
  }

  void write_name(uint32_t entry, SeriesKind kind, std::string_view name) {
    SeriesName& slot = names_[entry];
    slot.kind = static_cast<uint8_t>(kind);
    slot.size = static_cast<uint8_t>(name.size());
    std::memcpy(slot.bytes, name.data(), name.size());
  }

  static std::string index_key(SeriesKind kind, std::string_view name) {
    std::string key(1, static_cast<char>(kind));
    key += name;
    return key;
  }

  // Learns the names that others have registered since the last call.
  void catch_up() {
    const uint32_t used = used_entries();
    for (known_ = std::max(known_, uint32_t{kSeriesKinds}); known_ < used; ++known_) {
      const SeriesName& slot = names_[known_];
      index_.emplace(index_key(static_cast<SeriesKind>(slot.kind), slot.text()), known_);
    }
  }

  uint32_t find_or_register(SeriesKind kind, std::string_view name) {
    const std::string key = index_key(kind, name);
    catch_up();
    if (const auto found = index_.find(key); found != index_.end()) return found->second;
    if (used_entries() < capacity_) {
      if (Result<SharedMemory::Lock> lock = shared_.lock(); !lock) {
        GH_LOG(kError, "metrics: cannot register a series: {}", lock.error().message);
      } else {
        // Somebody else may have been faster, or have taken the last place.
        catch_up();
        if (const auto found = index_.find(key); found != index_.end()) return found->second;
        if (known_ < capacity_) {
          write_name(known_, kind, name);
          header_->used.store(known_ + 1, std::memory_order_release);
          index_.emplace(key, known_);
          return known_++;
        }
      }
    }
    if (header_->refused.fetch_add(1, std::memory_order_relaxed) == 0) {
      GH_LOG(kWarn,
             "metrics: all {} series are in use; further names count as \"{}\" "
             "(see metric_series)",
             series_capacity(), kOtherSeries);
    }
    return static_cast<uint32_t>(kind);
  }

  SharedMemory& shared_;
  NamesHeader* header_;
  SeriesName* names_;
  uint32_t capacity_;              // of the tables, with the "(other)" entries
  mutable std::vector<Row> rows_;  // see known_rows()
  uint32_t known_ = 0;             // entries that index_ has
  std::unordered_map<std::string, uint32_t> index_;
};

}  // namespace

void SeriesCells::add(const SeriesCells& other) {
  for (unsigned i = 0; i < kStatusClasses; ++i) requests[i].add(other.requests[i].get());
  bytes_in.add(other.bytes_in.get());
  bytes_out.add(other.bytes_out.get());
  connections.add(other.connections.get());
  connections_reused.add(other.connections_reused.get());
  retries.add(other.retries.get());
  hedges.add(other.hedges.get());
  tls_handshakes.add(other.tls_handshakes.get());
  tls_resumed.add(other.tls_resumed.get());
  tls_failures.add(other.tls_failures.get());
  latency_sum_us.add(other.latency_sum_us.get());
  for (unsigned i = 0; i < kLatencyBuckets; ++i) latency[i].add(other.latency[i].get());
  connections_active.add(other.connections_active.get());
  requests_active.add(other.requests_active.get());
  for (unsigned i = 0; i < kMaxReasons; ++i) reasons[i].add(other.reasons[i].get());
  for (unsigned i = 0; i < kGrpcCounters; ++i) grpc[i].add(other.grpc[i].get());
}

uint64_t SeriesCells::requests_total() const {
  uint64_t total = 0;
  for (const Counter& counter : requests) total += counter.get();
  return total;
}

void WorkerCells::add(const WorkerCells& other) {
  started.add(other.started.get());
  log_lines.add(other.log_lines.get());
  log_lines_dropped.add(other.log_lines_dropped.get());
  accept_errors.add(other.accept_errors.get());
  connections_refused.add(other.connections_refused.get());
  generations.add(other.generations.get());
}

Result<std::unique_ptr<Metrics>> Metrics::open(SharedMemory& shared, uint32_t rows,
                                               uint32_t series) {
  if (rows == 0 || rows > kRowsMax) {
    return Error{fmt::format("{} workers; possible are 1 to {}", rows, kRowsMax)};
  }
  if (series > kSeriesMax) return Error{fmt::format("more than {} series", kSeriesMax)};
  uint32_t capacity = series + kSeriesKinds;
  if (series == 0) {
    const std::span<std::byte> present = shared.find_zone(kNamesZone, kNamesType, kLayoutVersion);
    capacity =
        present.size() >= names_size(kSeriesKinds)
            ? static_cast<uint32_t>((present.size() - sizeof(NamesHeader)) / sizeof(SeriesName))
            : fitting_capacity(shared.size(), rows) + kSeriesKinds;
  }
  Result<std::span<std::byte>> names = shared.adopt_or_create_zone(
      kNamesZone, kNamesType, kLayoutVersion, names_size(capacity), alignof(NamesHeader));
  if (!names) return no_room(names.error());
  for (uint32_t row = 0; row < rows; ++row) {
    Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
        row_zone(row), kRowType, kLayoutVersion, row_size(capacity), alignof(RowHeader));
    if (!zone) return no_room(zone.error());
  }
  auto metrics = std::make_unique<SharedMetrics>(shared, *names, capacity);
  if (Result<void> done = metrics->initialise(rows); !done) return done.error();
  if (metrics->rows() < rows) return Error{"the rows of the metrics were replaced meanwhile"};
  return std::unique_ptr<Metrics>(std::move(metrics));
}

}  // namespace gatehouse
