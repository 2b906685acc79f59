// Metrics: names and rows in the shared segment, full tables, and writers killed at any moment.
#include "core/metrics.h"

#include <criterion/criterion.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/reason.h"

namespace gatehouse {
namespace {

static_assert(kReasonCount <= kMaxReasons, "every reason needs its counter");

// Criterion leaves no destructors running after a failed assertion; the segment is anonymous
// memory, so nothing is left behind.
struct Fixture {
  std::optional<SharedMemory> shared;
  std::unique_ptr<Metrics> metrics;

  explicit Fixture(Bytes size = 8_MiB, uint32_t rows = 2, uint32_t series = 100) {
    Result<SharedMemory> made = SharedMemory::create(size);
    cr_assert(made.ok());
    shared.emplace(std::move(*made));
    open(rows, series);
  }
  void open(uint32_t rows, uint32_t series) {
    Result<std::unique_ptr<Metrics>> opened = Metrics::open(*shared, rows, series);
    cr_assert(opened.ok(), "%s", opened.ok() ? "" : opened.error().message.c_str());
    metrics = std::move(*opened);
  }
  // The sums of one series; nothing where there is none of that name.
  std::optional<SeriesCells> total(SeriesKind kind, std::string_view name) const {
    for (const SeriesTotal& total : metrics->totals()) {
      if (total.kind == kind && total.name == name) return total.cells;
    }
    return std::nullopt;
  }
};

Test(metrics, sums_a_series_over_the_rows) {
  Fixture f;
  SeriesCells& first = f.metrics->cells(0, SeriesKind::kRoute, "app");
  SeriesCells& second = f.metrics->cells(1, SeriesKind::kRoute, "app");
  cr_assert_neq(&first, &second);
  cr_assert_eq(&first, &f.metrics->cells(0, SeriesKind::kRoute, "app"));
  first.requests[2].add(3);
  second.requests[2].add();
  second.requests[5].add(7);
  first.reasons[10].add(2);
  second.reasons[10].add(2);
  first.connections_active.add(5);
  second.connections_active.add(-1);

  const std::optional<SeriesCells> sum = f.total(SeriesKind::kRoute, "app");
  cr_assert(sum.has_value());
  cr_assert_eq(sum->requests[2].get(), 4);
  cr_assert_eq(sum->requests[5].get(), 7);
  cr_assert_eq(sum->requests_total(), 11);
  cr_assert_eq(sum->reasons[10].get(), 4);
  cr_assert_eq(sum->connections_active.get(), 4);
}

Test(metrics, a_name_of_another_kind_is_another_series) {
  Fixture f;
  f.metrics->cells(0, SeriesKind::kRoute, "app").requests[2].add();
  f.metrics->cells(0, SeriesKind::kUpstream, "app").requests[3].add();
  cr_assert_eq(f.total(SeriesKind::kRoute, "app")->requests[3].get(), 0);
  cr_assert_eq(f.total(SeriesKind::kUpstream, "app")->requests[2].get(), 0);
  cr_assert_eq(f.metrics->series_used(), 2);
}

Test(metrics, latency_falls_into_the_bucket_whose_bound_it_does_not_exceed) {
  SeriesCells cells;
  const int64_t samples[] = {0, 500, 501, 1'000, 9'999'999, 10'000'000, 10'000'001, 1 << 30};
  uint64_t sum = 0;
  for (const int64_t sample : samples) {
    cells.count_latency(sample);
    sum += static_cast<uint64_t>(sample);
  }
  cr_assert_eq(cells.latency[0].get(), 2);
  cr_assert_eq(cells.latency[1].get(), 2);
  cr_assert_eq(cells.latency[13].get(), 2);
  cr_assert_eq(cells.latency[14].get(), 2);
  cr_assert_eq(cells.latency_sum_us.get(), sum);
  cells.count_latency(-5);  // a clock that went back
  cr_assert_eq(cells.latency[0].get(), 3);
  cr_assert_eq(cells.latency_sum_us.get(), sum);
}

Test(metrics, over_capacity_counts_on_other_and_says_so) {
  Fixture f(8_MiB, 1, 4);
  for (int i = 0; i < 10; ++i) {
    f.metrics->cells(0, SeriesKind::kRoute, fmt::format("r{}", i)).requests[2].add();
  }
  f.metrics->cells(0, SeriesKind::kTarget, "u/127.0.0.1:1").requests[4].add();
  cr_assert_eq(f.metrics->series_used(), 4);
  cr_assert_eq(f.metrics->series_capacity(), 4);
  cr_assert_eq(f.metrics->series_refused(), 7);
  cr_assert_eq(f.total(SeriesKind::kRoute, "r3")->requests[2].get(), 1);
  cr_assert(!f.total(SeriesKind::kRoute, "r4").has_value());
  cr_assert_eq(f.total(SeriesKind::kRoute, kOtherSeries)->requests[2].get(), 6);
  cr_assert_eq(f.total(SeriesKind::kTarget, kOtherSeries)->requests[4].get(), 1);
  // A name that is in goes on to be found.
  f.metrics->cells(0, SeriesKind::kRoute, "r0").requests[2].add();
  cr_assert_eq(f.total(SeriesKind::kRoute, "r0")->requests[2].get(), 2);
}

Test(metrics, an_unused_other_series_is_not_listed) {
  Fixture f;
  cr_assert_eq(f.metrics->totals().size(), 0);
}

Test(metrics, long_names_are_kept_apart) {
  Fixture f;
  const std::string stem(300, 'x');
  f.metrics->cells(0, SeriesKind::kRoute, stem + "a").requests[1].add();
  f.metrics->cells(0, SeriesKind::kRoute, stem + "b").requests[2].add();
  cr_assert_eq(f.metrics->series_used(), 2);
  const std::vector<SeriesTotal> totals = f.metrics->totals();
  cr_assert_eq(totals[0].name.size(), 254);
  cr_assert_neq(totals[0].name, totals[1].name);
  f.metrics->cells(0, SeriesKind::kRoute, stem + "a").requests[1].add();
  cr_assert_eq(f.metrics->totals()[0].cells.requests[1].get(), 2);
}

Test(metrics, opening_again_finds_the_counts) {
  Fixture f;
  const int64_t created = f.metrics->created_us();
  cr_assert_gt(created, 0);
  f.metrics->cells(0, SeriesKind::kRoute, "app").requests[2].add(5);
  f.metrics->worker_cells(1).log_lines.add(9);
  // More rows: those that were there keep what they counted. 0: the capacity that is there.
  f.open(4, 0);
  cr_assert_eq(f.metrics->series_capacity(), 100);
  cr_assert_eq(f.metrics->created_us(), created);
  cr_assert_eq(f.total(SeriesKind::kRoute, "app")->requests[2].get(), 5);
  cr_assert_eq(f.metrics->worker_total().log_lines.get(), 9);
  f.metrics->cells(3, SeriesKind::kRoute, "app").requests[2].add();
  cr_assert_eq(f.total(SeriesKind::kRoute, "app")->requests[2].get(), 6);
  // Another capacity begins anew.
  f.open(4, 50);
  cr_assert_eq(f.metrics->series_used(), 0);
}

std::unique_ptr<Metrics> opened(SharedMemory& shared, uint32_t rows, uint32_t series = 0) {
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(shared, rows, series);
  cr_assert(metrics.ok(), "%s", metrics.ok() ? "" : metrics.error().message.c_str());
  return std::move(*metrics);
}

// A pool grows: who had the zones open before sees the new rows, through a mapping of its own too.
Test(metrics, rows_that_appear_later_are_seen) {
  Fixture f(8_MiB, 2, 100);
  Result<SharedMemory> elsewhere = SharedMemory::attach(UniqueFd(dup(f.shared->fd())));
  cr_assert(elsewhere.ok());
  const std::unique_ptr<Metrics> reader = opened(*elsewhere, 1);
  f.metrics->cells(1, SeriesKind::kRoute, "app").requests[2].add(1);
  cr_assert_eq(reader->rows(), 2);
  cr_assert_eq(reader->totals()[0].cells.requests[2].get(), 1);

  const std::unique_ptr<Metrics> grown = opened(*f.shared, 5);
  grown->set_worker(4, "egress", 3, 77, 1);
  grown->cells(4, SeriesKind::kRoute, "app").requests[2].add(10);
  grown->cells(4, SeriesKind::kListener, "http").connections_active.add(6);
  grown->worker_cells(4).log_lines.add(3);

  for (Metrics* metrics : {f.metrics.get(), reader.get(), grown.get()}) {
    cr_assert_eq(metrics->totals()[0].cells.requests[2].get(), 11);
    cr_assert_eq(metrics->worker_total().log_lines.get(), 3);
    cr_assert_eq(metrics->rows(), 5);
    const std::vector<WorkerRow> workers = metrics->workers();
    cr_assert_eq(workers.size(), 5);
    cr_assert_eq(workers[4].pool, "egress");
    cr_assert_eq(workers[4].connections_active, 6);
  }
  // Each may be the first thing that is asked about a new row.
  const std::unique_ptr<Metrics> again = opened(*f.shared, 8);
  f.metrics->cells(5, SeriesKind::kRoute, "app").requests[2].add(100);
  reader->worker_cells(6).log_lines.add(4);
  f.metrics->set_worker(7, "default", 2, 78, 1);
  cr_assert_eq(again->totals()[0].cells.requests[2].get(), 111);
  cr_assert_eq(again->worker_total().log_lines.get(), 7);
  cr_assert_eq(again->workers()[7].pid, 78);
  // And the dead one's gauges go by the hand of who has not looked yet.
  const std::unique_ptr<Metrics> more = opened(*f.shared, 9);
  more->cells(8, SeriesKind::kRoute, "app").requests_active.add(2);
  reader->zero_gauges(8);
  cr_assert_eq(more->totals()[0].cells.requests_active.get(), 0);
  // Fewer than there are: all that there are.
  cr_assert_eq(opened(*f.shared, 1)->totals()[0].cells.requests[2].get(), 111);
}

// A worker that was forked before the pool grew and one that was forked after it.
Test(metrics, processes_that_were_there_before_a_row_use_it) {
  Fixture f(8_MiB, 1, 100);
  f.metrics->cells(0, SeriesKind::kRoute, "app").requests[2].add();
  int looked[2];
  int grown[2];
  cr_assert_eq(pipe(looked), 0);
  cr_assert_eq(pipe(grown), 0);
  const pid_t pid = fork();
  cr_assert_geq(pid, 0);
  if (pid == 0) {
    char byte;
    if (f.metrics->rows() != 1 || write(looked[1], "x", 1) != 1) _exit(1);
    if (read(grown[0], &byte, 1) != 1) _exit(1);
    const std::vector<SeriesTotal> totals = f.metrics->totals();
    if (f.metrics->rows() != 3 || totals[0].cells.requests[2].get() != 8) _exit(2);
    f.metrics->cells(1, SeriesKind::kRoute, "app").requests[2].add(20);
    _exit(0);
  }
  char byte;
  cr_assert_eq(read(looked[0], &byte, 1), 1);
  const std::unique_ptr<Metrics> more = opened(*f.shared, 3);
  more->cells(2, SeriesKind::kRoute, "app").requests[2].add(7);
  cr_assert_eq(write(grown[1], "x", 1), 1);
  int status = 0;
  cr_assert_eq(waitpid(pid, &status, 0), pid);
  cr_assert(WIFEXITED(status));
  cr_assert_eq(WEXITSTATUS(status), 0);
  cr_assert_eq(more->totals()[0].cells.requests[2].get(), 28);
}

Test(metrics, rows_grow_up_to_their_limit) {
  Fixture f(Bytes{64u << 20}, 2, 100);
  const std::unique_ptr<Metrics> most = opened(*f.shared, Metrics::kRowsMax);
  most->cells(Metrics::kRowsMax - 1, SeriesKind::kRoute, "app").requests[2].add();
  cr_assert_eq(f.metrics->rows(), Metrics::kRowsMax);
  cr_assert_eq(f.metrics->totals()[0].cells.requests[2].get(), 1);
  cr_assert(!Metrics::open(*f.shared, Metrics::kRowsMax + 1, 0).ok());
}

// What does not fit leaves the rows as they were, for all.
Test(metrics, rows_that_do_not_fit_are_refused_and_the_old_ones_go_on) {
  Fixture f(1_MiB, 2, 200);
  f.metrics->cells(0, SeriesKind::kRoute, "app").requests[2].add(4);
  const Result<std::unique_ptr<Metrics>> refused = Metrics::open(*f.shared, 64, 0);
  cr_assert(!refused.ok());
  cr_assert_eq(f.metrics->rows(), 2);
  cr_assert_eq(f.total(SeriesKind::kRoute, "app")->requests[2].get(), 4);
  cr_assert_eq(opened(*f.shared, 3)->rows(), 3);
  cr_assert_eq(f.metrics->rows(), 3);
}

// Tables of another capacity take the place of these: their rows are no part of these.
Test(metrics, rows_of_another_capacity_are_not_taken) {
  Fixture f(8_MiB, 2, 100);
  f.metrics->cells(0, SeriesKind::kRoute, "app").requests[2].add(4);
  cr_assert_eq(opened(*f.shared, 4)->rows(), 4);
  const std::unique_ptr<Metrics> other = opened(*f.shared, 6, 50);
  other->cells(2, SeriesKind::kRoute, "app").requests[2].add(9);
  cr_assert_eq(f.metrics->rows(), 2);
  cr_assert_eq(f.total(SeriesKind::kRoute, "app")->requests[2].get(), 4);
}

Test(metrics, the_default_capacity_fits_the_segment) {
  Fixture small(1_MiB, 1, 0);
  cr_assert_geq(small.metrics->series_capacity(), Metrics::kSeriesMin);
  cr_assert_lt(small.metrics->series_capacity(), Metrics::kSeriesDefault);
  Fixture usual(Bytes{64u << 20}, 4, 0);
  cr_assert_eq(usual.metrics->series_capacity(), Metrics::kSeriesDefault);
  Fixture many(Bytes{64u << 20}, 128, 0);
  cr_assert_gt(many.metrics->series_capacity(), 150);
  cr_assert(many.shared->free_bytes().count > (20u << 20));
  // Pools may grow, and every worker be replaced at once.
  for (Fixture* fixture : {&small, &usual, &many}) {
    const uint32_t more = std::max(8u, 2 * fixture->metrics->rows());
    cr_assert_eq(opened(*fixture->shared, more)->rows(), more);
  }
}

Test(metrics, what_does_not_fit_is_an_error_that_helps) {
  Result<SharedMemory> shared = SharedMemory::create(1_MiB);
  Result<std::unique_ptr<Metrics>> opened = Metrics::open(*shared, 16, 4096);
  cr_assert(!opened.ok());
  cr_assert(opened.error().message.find("metric_series") != std::string::npos, "%s",
            opened.error().message.c_str());
  cr_assert(!Metrics::open(*shared, 0, 10).ok());
  cr_assert(!Metrics::open(*shared, Metrics::kRowsMax + 1, 10).ok());
}

Test(metrics, workers_tell_who_they_are_and_what_they_counted) {
  Fixture f;
  f.metrics->set_worker(1, "default", 1, 4321, 1'700'000'000'000'000);
  SeriesCells& http = f.metrics->cells(1, SeriesKind::kListener, "http");
  http.requests[2].add(4);
  http.connections.add(2);
  http.connections_active.add(1);
  f.metrics->cells(1, SeriesKind::kListener, "admin").requests[4].add(1);
  SeriesCells& route = f.metrics->cells(1, SeriesKind::kRoute, "app");
  route.requests[2].add(4);  // not counted twice
  route.requests_active.add(2);
  const std::vector<WorkerRow> workers = f.metrics->workers();
  cr_assert_eq(workers.size(), 2);
  cr_assert_eq(workers[0].pid, 0);
  cr_assert_eq(workers[1].pool, "default");
  cr_assert_eq(workers[1].index, 1);
  cr_assert_eq(workers[1].pid, 4321);
  cr_assert_eq(workers[1].requests, 5);
  cr_assert_eq(workers[1].connections, 2);
  cr_assert_eq(workers[1].connections_active, 1);
  cr_assert_eq(workers[1].requests_active, 2);
  cr_assert_eq(workers[1].cells.started.get(), 1);
}

Test(metrics, a_dead_workers_gauges_go_and_its_counts_stay) {
  Fixture f;
  for (uint32_t row = 0; row < 2; ++row) {
    f.metrics->set_worker(row, "default", row, 100 + static_cast<int>(row), 1);
    SeriesCells& cells = f.metrics->cells(row, SeriesKind::kListener, "http");
    cells.requests[2].add(10);
    cells.connections_active.add(3);
    cells.requests_active.add(2);
  }
  f.metrics->zero_gauges(0);
  const std::optional<SeriesCells> sum = f.total(SeriesKind::kListener, "http");
  cr_assert_eq(sum->requests[2].get(), 20);
  cr_assert_eq(sum->connections_active.get(), 3);
  cr_assert_eq(sum->requests_active.get(), 2);
  cr_assert_eq(f.metrics->workers()[0].pid, 0);
  cr_assert_eq(f.metrics->workers()[1].pid, 101);
}

// Every process registers the same names in another order; each must mean the same series to all.
Test(metrics, processes_that_register_at_once_agree) {
  constexpr uint32_t kProcesses = 4;
  constexpr int kNames = 60;
  Fixture f(8_MiB, kProcesses, 100);
  std::vector<pid_t> children;
  for (uint32_t row = 0; row < kProcesses; ++row) {
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
      for (int i = 0; i < kNames; ++i) {
        const int n = (i * 7 + static_cast<int>(row) * 13) % kNames;
        f.metrics->cells(row, SeriesKind::kRoute, fmt::format("n{}", n))
            .requests[2]
            .add(static_cast<uint64_t>(n));
      }
      _exit(0);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  cr_assert_eq(f.metrics->series_used(), kNames);
  for (int n = 0; n < kNames; ++n) {
    const std::optional<SeriesCells> sum = f.total(SeriesKind::kRoute, fmt::format("n{}", n));
    cr_assert(sum.has_value());
    cr_assert_eq(sum->requests[2].get(), kProcesses * static_cast<uint64_t>(n));
  }
}

// A worker counts one request on two series and in the histogram, registers new names all the
// time, and is killed anywhere. Each of its cells may be at most one behind the other, the next
// worker of the row goes on from there, and the names stay readable.
Test(metrics, a_writer_killed_at_any_moment_leaves_sound_totals) {
  constexpr int kRounds = 60;
  Fixture f(Bytes{32u << 20}, 1, 4000);
  uint64_t before = 0;
  for (int round = 0; round < kRounds; ++round) {
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
      SeriesCells& route = f.metrics->cells(0, SeriesKind::kRoute, "app");
      SeriesCells& listener = f.metrics->cells(0, SeriesKind::kListener, "http");
      if (write(ready[1], "x", 1) != 1) _exit(1);
      for (uint64_t i = 0;; ++i) {
        listener.requests[2].add();
        route.requests[2].add();
        route.count_latency(static_cast<int64_t>(i % 3000));
        if (i % 16384 == 0) {
          f.metrics->cells(0, SeriesKind::kTarget, fmt::format("u/{}-{}", round, i));
        }
      }
    }
    char byte;
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    usleep(static_cast<useconds_t>(200 + (round * 7919) % 3000));
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, nullptr, 0), pid);
    close(ready[0]);
    close(ready[1]);

    const SeriesCells route = *f.total(SeriesKind::kRoute, "app");
    const SeriesCells listener = *f.total(SeriesKind::kListener, "http");
    const uint64_t requests = listener.requests[2].get();
    uint64_t samples = 0;
    for (const Counter& bucket : route.latency) samples += bucket.get();
    const auto rounds = static_cast<uint64_t>(round) + 1;
    cr_assert_geq(requests, before);
    cr_assert_leq(route.requests[2].get(), requests);
    cr_assert_geq(route.requests[2].get() + rounds, requests);
    cr_assert_leq(samples, route.requests[2].get());
    cr_assert_geq(samples + rounds, route.requests[2].get());
    for (const SeriesTotal& total : f.metrics->totals()) {
      cr_assert_leq(static_cast<unsigned>(total.kind), 4u);
      if (total.kind == SeriesKind::kTarget) cr_assert_eq(total.name.substr(0, 2), "u/");
    }
    before = requests;
  }
  cr_assert_gt(before, 10'000);
  // The lock that a killed one may have held is free again, and names are still taken.
  f.metrics->cells(0, SeriesKind::kRoute, "after").requests[2].add();
  cr_assert_eq(f.total(SeriesKind::kRoute, "after")->requests[2].get(), 1);
}

}  // namespace
}  // namespace gatehouse
