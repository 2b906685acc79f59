// Metrics in shared memory: series of counters, one row of them per worker.
//
// A series is what one thing counts (a pool, a listener, a route, an upstream's target). Each
// worker writes only its own row, with plain relaxed stores: no lock, no locked instruction, and a
// worker killed anywhere leaves every cell valid. Readers sum the rows. Counts outlive the worker;
// gauges are zeroed by the master when a worker dies (zero_gauges). The number of series is
// bounded by metric_series: what comes after counts on the kind's "(other)" series.
//
// Layout: one zone "metrics.series" with the names (append-only: an entry is written, then the
// count of entries is raised, so that a crash in between leaves nothing half-made), and one zone
// "metrics.row.N" for each worker's row, so that more workers mean more zones while the rows that
// are there keep their counts. A row is a table of SeriesCells in the order of the names. Memory
// is committed as it is touched: a series that no request used costs its name only.
// Rows may grow while other processes have the zones open: the names zone says how many rows there
// are (raised once their zones are complete), and each reader looks up those it does not know yet.
// Leaves out: forgetting series. One whose route is gone keeps its place until a restart.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shared_memory.h"
#include "core/units.h"

namespace gatehouse {

// A count that one process writes and all read. Copying takes the value of the moment.
struct Counter {
  std::atomic<uint64_t> value{0};
  Counter() = default;
  Counter(const Counter& other) : value(other.get()) {}
  Counter& operator=(const Counter& other) {
    value.store(other.get(), std::memory_order_relaxed);
    return *this;
  }
  void add(uint64_t n = 1) {
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value.load(std::memory_order_relaxed); }
};

// A level that goes up and down; one process writes it, the master zeroes it after its death.
struct Gauge {
  std::atomic<int64_t> value{0};
  Gauge() = default;
  Gauge(const Gauge& other) : value(other.get()) {}
  Gauge& operator=(const Gauge& other) {
    value.store(other.get(), std::memory_order_relaxed);
    return *this;
  }
  void add(int64_t n) {
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(int64_t n) { value.store(n, std::memory_order_relaxed); }
  int64_t get() const { return value.load(std::memory_order_relaxed); }
};

// An upstream's own cells hold what belongs to none of its targets; readers add the targets'.
enum class SeriesKind : uint8_t { kPool, kListener, kRoute, kUpstream, kTarget };
inline constexpr unsigned kSeriesKinds = 5;
// The name of the series that counts for everything over capacity.
inline constexpr std::string_view kOtherSeries = "(other)";

// Upper bounds of the latency buckets in microseconds; the last bucket is +Inf.
inline constexpr int64_t kLatencyBoundsUs[] = {500,       1'000,     2'500,     5'000,     10'000,
                                               25'000,    50'000,    100'000,   250'000,   500'000,
                                               1'000'000, 2'500'000, 5'000'000, 10'000'000};
inline constexpr unsigned kLatencyBuckets = sizeof(kLatencyBoundsUs) / sizeof(int64_t) + 1;
inline constexpr unsigned kStatusClasses = 6;  // 0: no response was sent; then 1xx … 5xx
inline constexpr unsigned kMaxReasons = 94;    // the reason list of http must fit

inline constexpr unsigned kGrpcCounters = 17;  // the statuses of http/grpc.h

// One series of one worker. Aligned so that no two workers share a cache line.
struct alignas(64) SeriesCells {
  Counter requests[kStatusClasses];
  Counter bytes_in;  // from the client (listener, route) or the upstream (target)
  Counter bytes_out;
  Counter connections;         // opened
  Counter connections_reused;  // exchanges over a kept-alive connection
  Counter retries;
  Counter tls_handshakes;  // of listeners: finished
  Counter tls_resumed;     // of these, with an earlier session
  Counter tls_failures;    // ended before they were finished
  Counter hedges;          // second tries beside one that took long
  Counter latency_sum_us;
  Counter latency[kLatencyBuckets];
  Gauge connections_active;
  Gauge requests_active;
  Counter reasons[kMaxReasons];
  Counter grpc[kGrpcCounters];  // calls by grpc-status

  // `us`: microseconds from 0.
  void count_latency(int64_t us) {
    unsigned bucket = 0;
    while (bucket < kLatencyBuckets - 1 && us > kLatencyBoundsUs[bucket]) ++bucket;
    latency[bucket].add();
    latency_sum_us.add(us > 0 ? static_cast<uint64_t>(us) : 0);
  }
  // Adds every cell of `other` to this one's.
  void add(const SeriesCells& other);
  uint64_t requests_total() const;
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
  Gauge generations;  // held: the one that serves, and older ones that exchanges began under

  void add(const WorkerCells& other);
};

// One worker's row, for readers. Requests and connections are the sums of its listeners, the
// requests under way those of its routes.
struct WorkerRow {
  uint32_t row = 0;
  std::string pool;  // empty where no worker has had this row
  uint32_t index = 0;
  int32_t pid = 0;         // 0: not running
  int64_t started_us = 0;  // wall clock, since the epoch
  WorkerCells cells;
  uint64_t requests = 0;
  uint64_t connections = 0;
  int64_t connections_active = 0;
  int64_t requests_active = 0;
};

// Not for use by several threads of a process at once; any number of processes.
class Metrics {
 public:
  static constexpr uint32_t kRowsMax = 384;
  static constexpr uint32_t kSeriesMin = 64;
  static constexpr uint32_t kSeriesDefault = 4096;
  static constexpr uint32_t kSeriesMax = 1'000'000;

  // Finds or makes the zones. `rows`: workers there may be, up to kRowsMax; where there are more
  // already, these stay. `series`: capacity; 0 takes what is there, or makes kSeriesDefault, fewer
  // where these, with twice the rows, would fill more than three quarters of the segment. Call it
  // before the first fork, and with more rows whenever more are needed: whoever has the zones open
  // sees those too. Another capacity than the one that is there begins anew, and parts the callers
  // from who has the old zones.
  static Result<std::unique_ptr<Metrics>> open(SharedMemory& shared, uint32_t rows,
                                               uint32_t series = 0);
  virtual ~Metrics() = default;

  // The cells of a series in `row`, registered by name on first use by anybody; they never move.
  // Never fails: over capacity it is the kind's "(other)" series. REQUIRES: row < rows(), here and
  // below.
  // Takes the segment's lock where the name is new: not for the request path.
  virtual SeriesCells& cells(uint32_t row, SeriesKind kind, std::string_view name) = 0;
  virtual WorkerCells& worker_cells(uint32_t row) = 0;
  // Who has the row from now on; counts WorkerCells::started.
  virtual void set_worker(uint32_t row, std::string_view pool, uint32_t index, int32_t pid,
                          int64_t wall_us) = 0;

  // Every registered series; those for what is over capacity only where they counted something.
  virtual std::vector<SeriesTotal> totals() const = 0;
  virtual WorkerCells worker_total() const = 0;
  virtual std::vector<WorkerRow> workers() const = 0;
  // Without the "(other)" ones.
  virtual uint32_t series_used() const = 0;
  virtual uint32_t series_capacity() const = 0;
  // How often cells() had to give an "(other)" series.
  virtual uint64_t series_refused() const = 0;
  // How many rows there are now, whoever made them. Costs no system call.
  virtual uint32_t rows() const = 0;
  // When the zones were made, wall clock in microseconds since the epoch: the counters' start.
  virtual int64_t created_us() const = 0;
  // A worker died: what it held is nobody's any more.
  virtual void zero_gauges(uint32_t row) = 0;
};

}  // namespace gatehouse
