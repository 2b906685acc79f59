// Metrics in shared memory: series of counters, one row of them per worker.
//
// A series is what one thing counts (a pool, a listener, a route, an upstream's target). Each
// worker writes only its own row, with plain relaxed stores: no lock, no locked instruction, and a
// worker killed anywhere leaves every cell valid. Readers sum the rows. Counts outlive the worker;
// gauges are zeroed by the master when a worker dies (zero_gauges). The number of series is
// bounded by metric_series: what comes after counts on the kind's "other" series.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shared_memory.h"
#include "core/units.h"

namespace gatehouse {

// A count that one process writes and all read.
struct Counter {
  std::atomic<uint64_t> value{0};
  void add(uint64_t n = 1) {
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value.load(std::memory_order_relaxed); }
};

// A level that goes up and down; one process writes it, the master zeroes it after its death.
struct Gauge {
  std::atomic<int64_t> value{0};
  void add(int64_t n) {
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  int64_t get() const { return value.load(std::memory_order_relaxed); }
};

enum class SeriesKind : uint8_t { kPool, kListener, kRoute, kUpstream, kTarget };

// Upper bounds of the latency buckets in microseconds; the last bucket is +Inf.
inline constexpr int64_t kLatencyBoundsUs[] = {500,       1'000,     2'500,     5'000,     10'000,
                                               25'000,    50'000,    100'000,   250'000,   500'000,
                                               1'000'000, 2'500'000, 5'000'000, 10'000'000};
inline constexpr unsigned kLatencyBuckets = sizeof(kLatencyBoundsUs) / sizeof(int64_t) + 1;
inline constexpr unsigned kStatusClasses = 6;  // 0: no response was sent; then 1xx … 5xx
inline constexpr unsigned kMaxReasons = 64;    // the reason list of http must fit

// One series of one worker. Aligned so that no two workers share a cache line.
struct alignas(64) SeriesCells {
  Counter requests[kStatusClasses];
  Counter bytes_in;  // from the client (listener, route) or the upstream (target)
  Counter bytes_out;
  Counter connections;         // opened
  Counter connections_reused;  // exchanges over a kept-alive connection
  Counter retries;
  Counter latency_sum_us;
  Counter latency[kLatencyBuckets];
  Counter reasons[kMaxReasons];
  Gauge connections_active;
  Gauge requests_active;

  void count_latency(int64_t us);
};

// A summed series, for readers.
struct SeriesTotal {
  SeriesKind kind;
  std::string name;   // "users"; a target: "users/127.0.0.1:8080"
  SeriesCells cells;  // sums
};

// The process-wide counters of one worker, outside any series.
struct alignas(64) WorkerCells {
  Counter started;  // how often this slot was started
  Counter log_lines;
  Counter log_lines_dropped;  // a full disk, or a log that cannot keep up
  Counter accept_errors;
  Counter connections_refused;  // over connections_max
};

class Metrics {
 public:
  // Finds or makes the zone. `rows`: workers there may be; `series`: capacity.
  static Result<std::unique_ptr<Metrics>> open(SharedMemory& shared, uint32_t rows,
                                               uint32_t series);
  virtual ~Metrics() = default;

  // The cells of a series in `row`, registered by name on first use by anybody.
  // Never fails: over capacity it is the kind's "other" series.
  virtual SeriesCells& cells(uint32_t row, SeriesKind kind, std::string_view name) = 0;
  virtual WorkerCells& worker_cells(uint32_t row) = 0;

  virtual std::vector<SeriesTotal> totals() const = 0;
  virtual WorkerCells worker_total() const = 0;
  virtual uint32_t series_used() const = 0;
  virtual uint32_t series_capacity() const = 0;
  // Requests and connections each worker row has counted, for the demo page.
  virtual uint32_t rows() const = 0;
  // A worker died: what it held is nobody's any more.
  virtual void zero_gauges(uint32_t row) = 0;
};

}  // namespace gatehouse
