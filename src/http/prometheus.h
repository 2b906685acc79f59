// The metrics as text for readers outside: Prometheus' exposition format 0.0.4, and JSON.
//
// Both are written from one snapshot: the sums over all workers at one moment (counters that move
// meanwhile may be one request apart from each other). The families of routes carry the plain
// names (gatehouse_requests_total{route=…}); those of pools, listeners, upstreams and targets have
// their kind in the name, so that a sum over one family never counts a request twice. A series is
// some 2 KiB of text; 4,096 of them take about 25 ms of the worker that is asked.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/breaker_commands.h"
#include "core/certificate_expiry.h"
#include "core/metrics.h"
#include "core/shared_limit.h"
#include "core/target_report.h"
#include "http/variables.h"

namespace gatehouse {

struct MetricsSnapshot {
  int64_t now_us = 0;  // wall clock, since the epoch
  int64_t created_us = 0;
  uint32_t series_used = 0;
  uint32_t series_capacity = 0;
  uint64_t series_refused = 0;
  std::vector<SeriesTotal> series;
  std::vector<WorkerRow> workers;  // those that have run at least once
  WorkerCells worker_total;
  std::vector<ListedBreaker> breakers;          // set by the caller, from list_breakers()
  std::vector<ListedLimit> limits;              // set by the caller, from SharedLimit::list()
  std::vector<TargetReport> targets;            // likewise, from report_targets()
  std::vector<CertificateExpiry> certificates;  // likewise, from read_certificate_expiry()
};

MetricsSnapshot take_snapshot(const Metrics& metrics, int64_t now_us);

inline constexpr std::string_view kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";
void write_prometheus(const MetricsSnapshot& snapshot, TextBuffer& out);

// One object:
//   { "time", "start_time" (seconds), "version", "latency_bounds" (seconds),
//     "series": {"used", "capacity", "refused"}, "log": {"lines", "dropped"},
//     "accept_errors", "connections_refused",
//     "workers": [{"pool", "worker", "pid", "start_time", "starts", "requests", "connections",
//                  "connections_active", "requests_active", "log_lines", "log_lines_dropped"}],
//     "pools", "listeners", "routes", "upstreams": [{"name", COUNTS}],
//     "targets": [{"upstream", "target", COUNTS}],
//     "breakers": [{"upstream", "target" (empty: of the upstream), "state", "opened_total"}],
//     "limits": [{"name", "admitted", "refused", "concurrency_refused", "dry_run", "evicted",
//                 "uncounted"}],
//     "certificates": [{"name", "kind", "expiry_time" (seconds)}] }
// COUNTS: "requests" {"none", "1xx" … "5xx"}, "bytes_in", "bytes_out", "connections",
// "connections_active", "connections_reused", "requests_active", "retries", "hedges",
// "latency_sum" (s), "latency" (counts between the bounds, the last one above all),
// "reasons" {CODE: count}.
void write_metrics_json(const MetricsSnapshot& snapshot, TextBuffer& out);

// The upstream and the address in a target's series name ("users/127.0.0.1:8080").
struct TargetName {
  std::string_view upstream;
  std::string_view address;
};
TargetName split_target_name(std::string_view name);

}  // namespace gatehouse
