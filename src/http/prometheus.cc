// Metrics as Prometheus text and as JSON; see prometheus.h.
#include "http/prometheus.h"

#include <config.h>

#include <algorithm>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/format.h"
#include "http/grpc.h"
#include "http/prometheus_certificates.h"
#include "http/prometheus_targets.h"
#include "http/prometheus_text.h"
#include "http/reason.h"
#include "http/text_template.h"

namespace gatehouse {
namespace {

constexpr std::string_view kClasses[kStatusClasses] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

// How the series of one kind appear.
struct KindText {
  std::string_view prefix;  // of the metric's name
  std::string_view label;
  std::string_view json;
  std::string_view noun;
};
constexpr KindText kKinds[kSeriesKinds] = {{"pool_", "pool", "pools", "pool of workers"},
                                           {"listener_", "listener", "listeners", "listener"},
                                           {"", "route", "routes", "route"},
                                           {"upstream_", "upstream", "upstreams", "upstream"},
                                           {"target_", "target", "targets", "target"}};

constexpr unsigned bit(SeriesKind kind) {
  return 1u << static_cast<unsigned>(kind);
}
constexpr unsigned kAll = (1u << kSeriesKinds) - 1;
constexpr unsigned kConnected =
    bit(SeriesKind::kPool) | bit(SeriesKind::kListener) | bit(SeriesKind::kTarget);

double seconds(int64_t us) {
  return static_cast<double>(us) / 1e6;
}

template <class... Args>
void print(TextBuffer& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(fmt::appender(out), format, std::forward<Args>(args)...);
}

// ---- Prometheus ---------------------------------------------------------------------------------

void append_breaker_labels(TextBuffer& out, const ListedBreaker& breaker) {
  append_label(out, "upstream", breaker.upstream);
  append_text(out, ",");
  append_label(out, "target", breaker.target);
}

// The labels that name a series, without brackets, made once for all of its lines.
std::string series_labels(const SeriesTotal& series) {
  fmt::memory_buffer labels;
  if (series.kind == SeriesKind::kTarget) {
    const TargetName name = split_target_name(series.name);
    append_label(labels, "upstream", name.upstream);
    append_text(labels, ",");
    append_label(labels, "target", name.address);
  } else {
    append_label(labels, kKinds[static_cast<unsigned>(series.kind)].label, series.name);
  }
  return fmt::to_string(labels);
}

struct LabelledSeries {
  const SeriesTotal* total;
  std::string labels;
};

// One metric of the series: which kinds have it, and how its lines are written.
struct Family {
  std::string_view name;
  std::string_view type;
  std::string_view help;  // continued by "of each" and the kind
  unsigned kinds;
  void (*write)(TextBuffer& out, std::string_view metric, const LabelledSeries& series);
};

template <auto Member>
void write_cell(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  print(out, "{}{{{}}} {}\n", metric, series.labels, (series.total->cells.*Member).get());
}

void write_classes(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  for (unsigned i = 0; i < kStatusClasses; ++i) {
    print(out, "{}{{{},class=\"{}\"}} {}\n", metric, series.labels, kClasses[i],
          series.total->cells.requests[i].get());
  }
}

void write_bytes(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  print(out, "{0}{{{1},direction=\"in\"}} {2}\n{0}{{{1},direction=\"out\"}} {3}\n", metric,
        series.labels, series.total->cells.bytes_in.get(), series.total->cells.bytes_out.get());
}

void write_histogram(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  const SeriesCells& cells = series.total->cells;
  uint64_t below = 0;
  for (unsigned i = 0; i < kLatencyBuckets - 1; ++i) {
    below += cells.latency[i].get();
    print(out, "{}_bucket{{{},le=\"{}\"}} {}\n", metric, series.labels,
          seconds(kLatencyBoundsUs[i]), below);
  }
  below += cells.latency[kLatencyBuckets - 1].get();
  // The count is the last bucket by definition, and not a counter of its own that could differ.
  print(out, "{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n",
        metric, series.labels, below, seconds(static_cast<int64_t>(cells.latency_sum_us.get())));
}

void write_reasons(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  for (unsigned i = 1; i < kReasonCount; ++i) {
    const uint64_t count = series.total->cells.reasons[i].get();
    if (count == 0) continue;
    print(out, "{}{{{},reason=\"{}\"}} {}\n", metric, series.labels,
          reason_info(static_cast<Reason>(i)).code, count);
  }
}

void write_grpc(TextBuffer& out, std::string_view metric, const LabelledSeries& series) {
  static_assert(kGrpcCounters == kGrpcStatuses);
  for (unsigned i = 0; i < kGrpcStatuses; ++i) {
    const uint64_t count = series.total->cells.grpc[i].get();
    if (count == 0) continue;
    print(out, "{}{{{},grpc_status=\"{}\"}} {}\n", metric, series.labels,
          grpc_status_name(static_cast<GrpcStatus>(i)), count);
  }
}

constexpr Family kFamilies[] = {
    {"requests_total", "counter", "Finished requests by class of status", kAll, &write_classes},
    {"bytes_total", "counter", "Bytes received and sent, heads included", kAll, &write_bytes},
    {"request_duration_seconds", "histogram", "Time from first to last byte", kAll,
     &write_histogram},
    {"reasons_total", "counter", "Requests by the reason code of what was decided", kAll,
     &write_reasons},
    {"grpc_calls_total", "counter", "Finished gRPC calls by their status", kAll, &write_grpc},
    {"requests_active", "gauge", "Requests under way", bit(SeriesKind::kRoute),
     &write_cell<&SeriesCells::requests_active>},
    {"connections_total", "counter", "Connections opened", kConnected,
     &write_cell<&SeriesCells::connections>},
    {"connections_active", "gauge", "Connections open", kConnected,
     &write_cell<&SeriesCells::connections_active>},
    {"tls_handshakes_total", "counter", "TLS handshakes that were finished",
     bit(SeriesKind::kListener), &write_cell<&SeriesCells::tls_handshakes>},
    {"tls_resumed_total", "counter", "TLS handshakes that went on with an earlier session",
     bit(SeriesKind::kListener), &write_cell<&SeriesCells::tls_resumed>},
    {"tls_failures_total", "counter", "TLS handshakes that failed or were given up",
     bit(SeriesKind::kListener), &write_cell<&SeriesCells::tls_failures>},
    {"connections_reused_total", "counter", "Requests over a connection that had carried others",
     bit(SeriesKind::kUpstream) | bit(SeriesKind::kTarget),
     &write_cell<&SeriesCells::connections_reused>},
    {"retries_total", "counter", "Further tries after a failed one",
     bit(SeriesKind::kUpstream) | bit(SeriesKind::kTarget), &write_cell<&SeriesCells::retries>},
    {"hedges_total", "counter", "Second tries beside one that took long",
     bit(SeriesKind::kUpstream) | bit(SeriesKind::kTarget), &write_cell<&SeriesCells::hedges>},
};

void write_single(TextBuffer& out, std::string_view name, std::string_view type,
                  std::string_view help, auto value) {
  const std::string metric = fmt::format("gatehouse_{}", name);
  write_head(out, metric, type, help);
  print(out, "{} {}\n", metric, value);
}

// One for each place: a worker that was replaced, or is being replaced, has left counts in another
// row. The one that runs says when the place was last started.
std::vector<WorkerRow> places_of(const std::vector<WorkerRow>& workers) {
  std::vector<WorkerRow> places;
  for (const WorkerRow& worker : workers) {
    const auto same = std::find_if(places.begin(), places.end(), [&worker](const WorkerRow& other) {
      return other.pool == worker.pool && other.index == worker.index;
    });
    if (same == places.end()) {
      places.push_back(worker);
      continue;
    }
    if (worker.pid != 0) same->pid = worker.pid;
    same->started_us = std::max(same->started_us, worker.started_us);
    same->cells.add(worker.cells);
    same->requests += worker.requests;
    same->connections += worker.connections;
    same->connections_active += worker.connections_active;
    same->requests_active += worker.requests_active;
  }
  return places;
}

// A metric with one line for each worker.
void write_workers(TextBuffer& out, const std::vector<WorkerRow>& workers, std::string_view name,
                   std::string_view type, std::string_view help, auto value_of) {
  const std::string metric = fmt::format("gatehouse_{}", name);
  write_head(out, metric, type, help);
  for (const WorkerRow& worker : workers) {
    print(out, "{}{{", metric);
    append_label(out, "pool", worker.pool);
    print(out, ",worker=\"{}\"}} {}\n", worker.index, value_of(worker));
  }
}

void write_process(const MetricsSnapshot& snapshot, TextBuffer& out) {
  write_head(out, "gatehouse_build_info", "gauge", "Version and compiler; the value is always 1");
  print(out, "gatehouse_build_info{{version=\"{}\",compiler=\"{}\"}} 1\n", GATEHOUSE_VERSION,
        GATEHOUSE_COMPILER);
  write_single(out, "start_time_seconds", "gauge", "When the counters began, since the epoch",
               seconds(snapshot.created_us));
  write_single(out, "series_used", "gauge", "Metric series that have a place",
               snapshot.series_used);
  write_single(out, "series_capacity", "gauge", "Metric series that there is room for",
               snapshot.series_capacity);
  write_single(out, "series_refused_total", "counter",
               "How often a name found no place and counts on the series (other)",
               snapshot.series_refused);
  const std::vector<WorkerRow> workers = places_of(snapshot.workers);
  write_workers(out, workers, "worker_up", "gauge", "1 while the worker runs",
                [](const WorkerRow& worker) { return worker.pid != 0 ? 1 : 0; });
  write_workers(out, workers, "worker_starts_total", "counter", "How often it was started",
                [](const WorkerRow& worker) { return worker.cells.started.get(); });
  write_workers(out, workers, "worker_start_time_seconds", "gauge", "Its last start",
                [](const WorkerRow& worker) { return seconds(worker.started_us); });
  write_workers(out, workers, "worker_requests_total", "counter", "Finished requests",
                [](const WorkerRow& worker) { return worker.requests; });
  write_workers(out, workers, "worker_connections_active", "gauge", "Client connections open",
                [](const WorkerRow& worker) { return worker.connections_active; });
  write_workers(out, workers, "worker_generations", "gauge",
                "Configurations held: the one that serves, and older ones with exchanges",
                [](const WorkerRow& worker) { return worker.cells.generations.get(); });
  write_workers(out, workers, "log_lines_total", "counter", "Log lines written",
                [](const WorkerRow& worker) { return worker.cells.log_lines.get(); });
  write_workers(out, workers, "log_lines_dropped_total", "counter",
                "Log lines lost: a full disk, or a log that could not keep up",
                [](const WorkerRow& worker) { return worker.cells.log_lines_dropped.get(); });
  write_workers(out, workers, "accept_errors_total", "counter", "Connections not accepted",
                [](const WorkerRow& worker) { return worker.cells.accept_errors.get(); });
  write_workers(out, workers, "connections_refused_total", "counter",
                "Connections closed because there were connections_max",
                [](const WorkerRow& worker) { return worker.cells.connections_refused.get(); });
}

// ---- JSON ---------------------------------------------------------------------------------------

void append_json_string(TextBuffer& out, std::string_view text) {
  append_text(out, "\"");
  append_escaped(text, TextEscape::kJson, out);
  append_text(out, "\"");
}

void append_list(TextBuffer& out, std::span<const Counter> counters) {
  append_text(out, "[");
  for (size_t i = 0; i < counters.size(); ++i) {
    print(out, "{}{}", i == 0 ? "" : ",", counters[i].get());
  }
  append_text(out, "]");
}

void append_counts(TextBuffer& out, const SeriesCells& cells) {
  append_text(out, "\"requests\":{");
  for (unsigned i = 0; i < kStatusClasses; ++i) {
    print(out, "{}\"{}\":{}", i == 0 ? "" : ",", kClasses[i], cells.requests[i].get());
  }
  print(out,
        "}},\"bytes_in\":{},\"bytes_out\":{},\"connections\":{},\"connections_active\":{},"
        "\"connections_reused\":{},\"requests_active\":{},\"retries\":{},\"hedges\":{},"
        "\"latency_sum\":{},"
        "\"latency\":",
        cells.bytes_in.get(), cells.bytes_out.get(), cells.connections.get(),
        cells.connections_active.get(), cells.connections_reused.get(), cells.requests_active.get(),
        cells.retries.get(), cells.hedges.get(),
        seconds(static_cast<int64_t>(cells.latency_sum_us.get())));
  append_list(out, cells.latency);
  append_text(out, ",\"reasons\":{");
  bool first = true;
  for (unsigned i = 1; i < kReasonCount; ++i) {
    if (cells.reasons[i].get() == 0) continue;
    print(out, "{}\"{}\":{}", first ? "" : ",", reason_info(static_cast<Reason>(i)).code,
          cells.reasons[i].get());
    first = false;
  }
  append_text(out, "},\"grpc\":{");
  first = true;
  for (unsigned i = 0; i < kGrpcStatuses; ++i) {
    if (cells.grpc[i].get() == 0) continue;
    print(out, "{}\"{}\":{}", first ? "" : ",", grpc_status_name(static_cast<GrpcStatus>(i)),
          cells.grpc[i].get());
    first = false;
  }
  append_text(out, "}");
}

void append_series(TextBuffer& out, const MetricsSnapshot& snapshot, SeriesKind kind) {
  print(out, ",\"{}\":[", kKinds[static_cast<unsigned>(kind)].json);
  bool first = true;
  for (const SeriesTotal& series : snapshot.series) {
    if (series.kind != kind) continue;
    append_text(out, first ? "{" : ",{");
    first = false;
    if (kind == SeriesKind::kTarget) {
      const TargetName name = split_target_name(series.name);
      append_text(out, "\"upstream\":");
      append_json_string(out, name.upstream);
      append_text(out, ",\"target\":");
      append_json_string(out, name.address);
    } else {
      append_text(out, "\"name\":");
      append_json_string(out, series.name);
    }
    append_text(out, ",");
    append_counts(out, series.cells);
    append_text(out, "}");
  }
  append_text(out, "]");
}

void append_worker(TextBuffer& out, const WorkerRow& worker) {
  append_text(out, "{\"pool\":");
  append_json_string(out, worker.pool);
  print(out,
        ",\"worker\":{},\"pid\":{},\"start_time\":{},\"starts\":{},\"requests\":{},"
        "\"connections\":{},\"connections_active\":{},\"requests_active\":{},\"log_lines\":{},"
        "\"log_lines_dropped\":{}}}",
        worker.index, worker.pid, seconds(worker.started_us), worker.cells.started.get(),
        worker.requests, worker.connections, worker.connections_active, worker.requests_active,
        worker.cells.log_lines.get(), worker.cells.log_lines_dropped.get());
}

// An upstream has counted what its targets have: nothing more is written on the request path.
void add_targets_to_upstreams(std::vector<SeriesTotal>& all) {
  std::unordered_map<std::string_view, SeriesCells*> upstreams;
  for (SeriesTotal& series : all) {
    if (series.kind == SeriesKind::kUpstream) upstreams.emplace(series.name, &series.cells);
  }
  for (const SeriesTotal& series : all) {
    if (series.kind != SeriesKind::kTarget) continue;
    const auto found = upstreams.find(split_target_name(series.name).upstream);
    if (found != upstreams.end()) found->second->add(series.cells);
  }
}

// Those of whole upstreams have an empty target.
void write_breakers(const std::vector<ListedBreaker>& breakers, TextBuffer& out) {
  if (breakers.empty()) return;
  write_head(out, "gatehouse_breaker_state", "gauge",
             "State of each circuit breaker: 0 closed, 1 half-open, 2 open");
  for (const ListedBreaker& breaker : breakers) {
    const BreakerState state = breaker.report.stand.state;
    append_text(out, "gatehouse_breaker_state{");
    append_breaker_labels(out, breaker);
    print(out, "}} {}\n",
          state == BreakerState::kOpen       ? 2
          : state == BreakerState::kHalfOpen ? 1
                                             : 0);
  }
  write_head(out, "gatehouse_breaker_opened_total", "counter",
             "How often each circuit breaker has opened");
  for (const ListedBreaker& breaker : breakers) {
    append_text(out, "gatehouse_breaker_opened_total{");
    append_breaker_labels(out, breaker);
    print(out, "}} {}\n", breaker.report.opened_total);
  }
}

// One counter of a limit: a metric of its own, or one value of the label `by`.
struct LimitCounter {
  std::string_view metric;
  std::string_view by;
  std::string_view key;  // in JSON
  std::string_view help;
  uint64_t LimitTotals::*value;
};
constexpr LimitCounter kLimitCounters[] = {
    {"admitted", "", "admitted", "Requests that each limit has admitted", &LimitTotals::admitted},
    {"refused", "rate", "refused", "Requests that each limit has refused", &LimitTotals::refused},
    {"refused", "concurrency", "concurrency_refused", "", &LimitTotals::concurrency_refused},
    {"dry_run", "", "dry_run", "Requests that each limit in dry run would have refused",
     &LimitTotals::dry_run},
    {"evicted", "", "evicted", "Budgets that each limit forgot because its table was full",
     &LimitTotals::evicted},
    {"uncounted", "", "uncounted", "Exchanges under way that each limit could not count",
     &LimitTotals::uncounted},
};

void write_limits(const std::vector<ListedLimit>& limits, TextBuffer& out) {
  if (limits.empty()) return;
  for (const LimitCounter& counter : kLimitCounters) {
    const std::string metric = fmt::format("gatehouse_limit_{}_total", counter.metric);
    if (!counter.help.empty()) write_head(out, metric, "counter", counter.help);
    for (const ListedLimit& limit : limits) {
      append_text(out, metric);
      append_text(out, "{");
      append_label(out, "limit", limit.name);
      if (!counter.by.empty()) {
        append_text(out, ",");
        append_label(out, "by", counter.by);
      }
      print(out, "}} {}\n", limit.totals.*counter.value);
    }
  }
}

void append_limits(TextBuffer& out, const std::vector<ListedLimit>& limits) {
  append_text(out, ",\"limits\":[");
  for (size_t i = 0; i < limits.size(); ++i) {
    append_text(out, i == 0 ? "{\"name\":" : ",{\"name\":");
    append_json_string(out, limits[i].name);
    for (const LimitCounter& counter : kLimitCounters) {
      print(out, ",\"{}\":{}", counter.key, limits[i].totals.*counter.value);
    }
    append_text(out, "}");
  }
  append_text(out, "]");
}

void append_breakers(TextBuffer& out, const std::vector<ListedBreaker>& breakers) {
  append_text(out, ",\"breakers\":[");
  for (size_t i = 0; i < breakers.size(); ++i) {
    const ListedBreaker& breaker = breakers[i];
    append_text(out, i == 0 ? "{\"upstream\":" : ",{\"upstream\":");
    append_json_string(out, breaker.upstream);
    append_text(out, ",\"target\":");
    append_json_string(out, breaker.target);
    print(out, ",\"state\":\"{}\",\"opened_total\":{}}}",
          breaker_state_name(breaker.report.stand.state), breaker.report.opened_total);
  }
  append_text(out, "]");
}

}  // namespace

MetricsSnapshot take_snapshot(const Metrics& metrics, int64_t now_us) {
  MetricsSnapshot snapshot;
  snapshot.now_us = now_us;
  snapshot.created_us = metrics.created_us();
  snapshot.series_used = metrics.series_used();
  snapshot.series_capacity = metrics.series_capacity();
  snapshot.series_refused = metrics.series_refused();
  snapshot.series = metrics.totals();
  snapshot.workers = metrics.workers();
  std::erase_if(snapshot.workers,
                [](const WorkerRow& worker) { return worker.cells.started.get() == 0; });
  snapshot.worker_total = metrics.worker_total();
  add_targets_to_upstreams(snapshot.series);
  return snapshot;
}

TargetName split_target_name(std::string_view name) {
  // The upstream of a route that names a URL has slashes in its own name, a unix socket has them
  // in its path.
  size_t slash = name.find("/unix:");
  if (slash == std::string_view::npos) slash = name.rfind('/');
  if (slash == std::string_view::npos) return {name, name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

void write_prometheus(const MetricsSnapshot& snapshot, TextBuffer& out) {
  write_process(snapshot, out);
  for (unsigned kind = 0; kind < kSeriesKinds; ++kind) {
    std::vector<LabelledSeries> all;
    for (const SeriesTotal& series : snapshot.series) {
      if (static_cast<unsigned>(series.kind) == kind)
        all.push_back({&series, series_labels(series)});
    }
    if (all.empty()) continue;
    for (const Family& family : kFamilies) {
      if ((family.kinds >> kind & 1) == 0) continue;
      const std::string metric = fmt::format("gatehouse_{}{}", kKinds[kind].prefix, family.name);
      write_head(out, metric, family.type,
                 fmt::format("{} of each {}", family.help, kKinds[kind].noun));
      for (const LabelledSeries& series : all) family.write(out, metric, series);
    }
  }
  write_breakers(snapshot.breakers, out);
  write_limits(snapshot.limits, out);
  write_targets(snapshot.targets, out);
  write_certificates(snapshot.certificates, out);
}

void write_metrics_json(const MetricsSnapshot& snapshot, TextBuffer& out) {
  print(out, "{{\"time\":{},\"start_time\":{},\"version\":\"{}\",\"latency_bounds\":[",
        seconds(snapshot.now_us), seconds(snapshot.created_us), GATEHOUSE_VERSION);
  for (unsigned i = 0; i < kLatencyBuckets - 1; ++i) {
    print(out, "{}{}", i == 0 ? "" : ",", seconds(kLatencyBoundsUs[i]));
  }
  print(out,
        "],\"series\":{{\"used\":{},\"capacity\":{},\"refused\":{}}},"
        "\"log\":{{\"lines\":{},\"dropped\":{}}},\"accept_errors\":{},"
        "\"connections_refused\":{},\"workers\":[",
        snapshot.series_used, snapshot.series_capacity, snapshot.series_refused,
        snapshot.worker_total.log_lines.get(), snapshot.worker_total.log_lines_dropped.get(),
        snapshot.worker_total.accept_errors.get(), snapshot.worker_total.connections_refused.get());
  for (size_t i = 0; i < snapshot.workers.size(); ++i) {
    if (i != 0) append_text(out, ",");
    append_worker(out, snapshot.workers[i]);
  }
  append_text(out, "]");
  for (unsigned kind = 0; kind < kSeriesKinds; ++kind) {
    append_series(out, snapshot, static_cast<SeriesKind>(kind));
  }
  append_breakers(out, snapshot.breakers);
  append_limits(out, snapshot.limits);
  append_certificates(snapshot.certificates, out);
  append_text(out, "}\n");
}

}  // namespace gatehouse
