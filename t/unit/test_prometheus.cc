// The metrics as text: families, labels, cumulative buckets, escaping; and the same as JSON.
#include "http/prometheus.h"

#include <criterion/criterion.h>

#include <memory>
#include <string>

#include "http/reason.h"

namespace gatehouse {
namespace {

SeriesTotal series(SeriesKind kind, std::string name) {
  return SeriesTotal{kind, std::move(name), SeriesCells()};
}

MetricsSnapshot snapshot() {
  MetricsSnapshot made;
  made.now_us = 1'700'000'010'500'000;
  made.created_us = 1'700'000'000'000'000;
  made.series_used = 3;
  made.series_capacity = 4096;
  made.series_refused = 2;
  SeriesTotal route = series(SeriesKind::kRoute, "app");
  route.cells.requests[2].add(5);
  route.cells.requests[5].add(1);
  route.cells.bytes_in.add(100);
  route.cells.bytes_out.add(2000);
  route.cells.reasons[static_cast<unsigned>(Reason::kUpstreamTimeout)].add(1);
  for (const int64_t us : {400, 600, 600, 60'000'000}) route.cells.count_latency(us);
  made.series.push_back(route);
  SeriesTotal target = series(SeriesKind::kTarget, "app/127.0.0.1:8080");
  target.cells.connections_active.add(3);
  made.series.push_back(target);
  WorkerRow worker;
  worker.pool = "default";
  worker.index = 1;
  worker.pid = 99;
  worker.started_us = 1'700'000'001'000'000;
  worker.cells.started.add(2);
  worker.cells.log_lines_dropped.add(7);
  worker.cells.generations.set(3);
  worker.requests = 6;
  worker.connections_active = 4;
  made.workers.push_back(worker);
  made.worker_total.log_lines_dropped.add(7);
  return made;
}

std::string prometheus(const MetricsSnapshot& from) {
  fmt::memory_buffer out;
  write_prometheus(from, out);
  return fmt::to_string(out);
}

std::string json(const MetricsSnapshot& from) {
  fmt::memory_buffer out;
  write_metrics_json(from, out);
  return fmt::to_string(out);
}

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}
#define ASSERT_LINE(text, line) \
  cr_assert(has_line(text, line), "no line %s in\n%s", line, text.c_str())

Test(prometheus, writes_a_head_and_a_line_for_each_class) {
  const std::string text = prometheus(snapshot());
  ASSERT_LINE(text, "# TYPE gatehouse_requests_total counter");
  ASSERT_LINE(
      text, "# HELP gatehouse_requests_total Finished requests by class of status of each route.");
  ASSERT_LINE(text, "gatehouse_requests_total{route=\"app\",class=\"2xx\"} 5");
  ASSERT_LINE(text, "gatehouse_requests_total{route=\"app\",class=\"5xx\"} 1");
  ASSERT_LINE(text, "gatehouse_requests_total{route=\"app\",class=\"none\"} 0");
  ASSERT_LINE(text, "gatehouse_bytes_total{route=\"app\",direction=\"in\"} 100");
  ASSERT_LINE(text, "gatehouse_bytes_total{route=\"app\",direction=\"out\"} 2000");
  ASSERT_LINE(text, "gatehouse_reasons_total{route=\"app\",reason=\"upstream_timeout\"} 1");
  cr_assert(text.find("reason=\"none\"") == std::string::npos);
}

Test(prometheus, buckets_add_up_and_the_last_is_the_count) {
  const std::string text = prometheus(snapshot());
  ASSERT_LINE(text, "# TYPE gatehouse_request_duration_seconds histogram");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_bucket{route=\"app\",le=\"0.0005\"} 1");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_bucket{route=\"app\",le=\"0.001\"} 3");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_bucket{route=\"app\",le=\"10\"} 3");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_bucket{route=\"app\",le=\"+Inf\"} 4");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_count{route=\"app\"} 4");
  ASSERT_LINE(text, "gatehouse_request_duration_seconds_sum{route=\"app\"} 60.0016");
}

Test(prometheus, kinds_have_families_of_their_own) {
  const std::string text = prometheus(snapshot());
  ASSERT_LINE(text,
              "gatehouse_target_connections_active{upstream=\"app\",target=\"127.0.0.1:8080\"} 3");
  cr_assert(text.find("gatehouse_listener_") == std::string::npos);  // there is no listener
  // A family's lines stand together: its TYPE appears once.
  const size_t first = text.find("# TYPE gatehouse_requests_total ");
  cr_assert(text.find("# TYPE gatehouse_requests_total ", first + 1) == std::string::npos);
}

Test(prometheus, tells_of_process_and_workers) {
  const std::string text = prometheus(snapshot());
  ASSERT_LINE(text, "gatehouse_start_time_seconds 1700000000");
  ASSERT_LINE(text, "gatehouse_series_used 3");
  ASSERT_LINE(text, "gatehouse_series_capacity 4096");
  ASSERT_LINE(text, "gatehouse_series_refused_total 2");
  ASSERT_LINE(text, "gatehouse_worker_up{pool=\"default\",worker=\"1\"} 1");
  ASSERT_LINE(text, "gatehouse_worker_starts_total{pool=\"default\",worker=\"1\"} 2");
  ASSERT_LINE(text, "gatehouse_log_lines_dropped_total{pool=\"default\",worker=\"1\"} 7");
  ASSERT_LINE(text, "gatehouse_worker_generations{pool=\"default\",worker=\"1\"} 3");
  cr_assert(text.find("gatehouse_build_info{version=\"") != std::string::npos);
}

Test(prometheus, a_place_with_two_rows_has_one_line) {
  MetricsSnapshot made = snapshot();
  WorkerRow before = made.workers[0];
  before.row = 4;
  before.pid = 0;
  before.started_us -= 1'000'000;
  made.workers.push_back(before);
  const std::string text = prometheus(made);
  ASSERT_LINE(text, "gatehouse_worker_requests_total{pool=\"default\",worker=\"1\"} 12");
  ASSERT_LINE(text, "gatehouse_worker_up{pool=\"default\",worker=\"1\"} 1");
  ASSERT_LINE(text,
              "gatehouse_worker_start_time_seconds{pool=\"default\",worker=\"1\"} "
              "1700000001");
}

Test(prometheus, escapes_label_values) {
  MetricsSnapshot from = snapshot();
  from.series = {series(SeriesKind::kRoute, "a\"b\\c\nd\xc3\xa4\xff\xe2\x82")};
  ASSERT_LINE(prometheus(from),
              "gatehouse_requests_active{route=\"a\\\"b\\\\c\\nd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd"
              "\xef\xbf\xbd\"} 0");
}

Test(prometheus, json_carries_the_same) {
  const std::string text = json(snapshot());
  const auto has = [&](const char* piece) {
    cr_assert(text.find(piece) != std::string::npos, "no %s in %s", piece, text.c_str());
  };
  has("\"time\":1700000010.5");
  has("\"series\":{\"used\":3,\"capacity\":4096,\"refused\":2}");
  has("\"routes\":[{\"name\":\"app\",\"requests\":{\"none\":0,\"1xx\":0,\"2xx\":5,\"3xx\":0,"
      "\"4xx\":0,\"5xx\":1}");
  has("\"latency\":[1,2,0,0,0,0,0,0,0,0,0,0,0,0,1]");
  has("\"reasons\":{\"upstream_timeout\":1}");
  has("\"targets\":[{\"upstream\":\"app\",\"target\":\"127.0.0.1:8080\",");
  has("\"workers\":[{\"pool\":\"default\",\"worker\":1,\"pid\":99,");
  has("\"listeners\":[]");
}

Test(prometheus, json_escapes_names) {
  MetricsSnapshot from = snapshot();
  from.series = {series(SeriesKind::kRoute, "a\"b\\\n")};
  const std::string text = json(from);
  cr_assert(text.find("{\"name\":\"a\\\"b\\\\\\n\",") != std::string::npos ||
                text.find("{\"name\":\"a\\\"b\\\\\\u000A\",") != std::string::npos,
            "%s", text.c_str());
}

Test(prometheus, an_upstream_is_the_sum_of_its_targets) {
  Result<SharedMemory> shared = SharedMemory::create(4_MiB);
  cr_assert(shared.ok());
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(*shared, 2, 50);
  cr_assert(metrics.ok());
  (*metrics)->cells(0, SeriesKind::kUpstream, "app");
  (*metrics)->cells(0, SeriesKind::kTarget, "app/127.0.0.1:1").requests[2].add(3);
  (*metrics)->cells(1, SeriesKind::kTarget, "app/127.0.0.1:2").requests[2].add(4);
  (*metrics)->cells(0, SeriesKind::kTarget, "application/127.0.0.1:2").requests[2].add(9);
  (*metrics)->set_worker(1, "default", 0, 5, 1);
  const MetricsSnapshot taken = take_snapshot(**metrics, 77);
  cr_assert_eq(taken.now_us, 77);
  cr_assert_eq(taken.series.size(), 4);
  cr_assert_eq(taken.series[0].cells.requests[2].get(), 7);
  // A row that no worker had yet is not listed.
  cr_assert_eq(taken.workers.size(), 1);
  cr_assert_eq(taken.workers[0].row, 1);
}

Test(prometheus, target_names_come_apart) {
  const struct {
    const char *name, *upstream, *address;
  } cases[] = {{"app/127.0.0.1:80", "app", "127.0.0.1:80"},
               {"app/[::1]:80", "app", "[::1]:80"},
               {"http://10.0.0.1:80/10.0.0.1:80", "http://10.0.0.1:80", "10.0.0.1:80"},
               {"app/unix:/run/app/x.sock", "app", "unix:/run/app/x.sock"},
               {"(other)", "(other)", "(other)"}};
  for (const auto& each : cases) {
    const TargetName name = split_target_name(each.name);
    cr_assert_eq(name.upstream, each.upstream);
    cr_assert_eq(name.address, each.address);
  }
}

}  // namespace
}  // namespace gatehouse
