// Looks at the shared segment of a running gateway: is every word of its tables one that the rules
// can have made, and what is held?
//
// Usage: segment_check PID FD   the segment is that process's descriptor (a memfd called gatehouse)
// Prints one line of JSON:
// {"rows":N,"in_flight":N,"probes":N,"waiting":N,"connections":N,"limits":N, "budgets":N}; the
// counts are sums over all workers, upstreams and targets, "budgets" how many keys the limits know.
// A word that is not valid ends it with 1 and a line that says which one.
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/breaker.h"
#include "core/shared_limit.h"
#include "core/shared_memory.h"
#include "core/traffic_table.h"
#include "core/unique_fd.h"

namespace {

using namespace gatehouse;

// More than any test has at one time; what a count gets to that went below zero is far above.
constexpr uint64_t kManyAtMost = 1'000'000;

int faults = 0;

void wrong(const std::string& what) {
  std::fprintf(stderr, "segment_check: %s\n", what.c_str());
  ++faults;
}

[[noreturn]] void fail(const std::string& text) {
  std::fprintf(stderr, "segment_check: %s\n", text.c_str());
  std::exit(1);
}

uint64_t now_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

struct Sums {
  uint64_t rows = 0;
  uint64_t in_flight = 0;
  uint64_t probes = 0;
  uint64_t waiting = 0;
  uint64_t connections = 0;
  uint64_t limits = 0;
  uint64_t budgets = 0;
};

uint64_t checked_sum(const TrafficTable& table, const TrafficTable::Listed& listed,
                     std::atomic<uint32_t> TrafficCell::*member, const char* what) {
  const uint64_t sum = table.sum(listed.index, member);
  if (sum > kManyAtMost) wrong(listed.name + ": " + std::to_string(sum) + " " + what);
  return sum;
}

void check_breaker(const TrafficRow& row, const std::string& name) {
  const BreakerStand stand = BreakerStand::unpack(row.breaker[0].load());
  if (stand.state > BreakerState::kHalfOpen) wrong(name + ": a breaker without a state");
  if (stand.cause > BreakerCause::kOperator) wrong(name + ": a breaker without a cause");
  // A day is longer than any test's open time.
  if (stand.moment_ms != BreakerStand::kForever && stand.moment_ms > now_ms() + 86'400'000) {
    wrong(name + ": a breaker's moment lies far ahead");
  }
  if (breaker_report(row).failures_in_row > kManyAtMost) wrong(name + ": failures in a row");
}

void check_rows(const TrafficTable& table, TrafficKind kind, Sums& sums) {
  for (const TrafficTable::Listed& listed : table.list(kind)) {
    const TrafficRow& row = table.row(listed.index);
    ++sums.rows;
    if (listed.name.empty()) wrong("a row without a name");
    if (row.admin.load() > static_cast<uint64_t>(TargetAdmin::kDisabled)) {
      wrong(listed.name + ": no word of an operator");
    }
    if (row.up_since_ms.load() > now_ms() + 1000) wrong(listed.name + ": up since later");
    check_breaker(row, listed.name);
    checked_sum(table, listed, &TrafficCell::holds, "holds");
    sums.in_flight += checked_sum(table, listed, &TrafficCell::in_flight, "in flight");
    sums.probes += checked_sum(table, listed, &TrafficCell::probes, "probes");
    sums.waiting += checked_sum(table, listed, &TrafficCell::waiting, "waiting");
    sums.connections += checked_sum(table, listed, &TrafficCell::connections, "connections");
  }
}

// Of no key more is used than its budget is. (A worker's clock may be a turn ahead of this one.)
void check_limits(SharedMemory& shared, Sums& sums) {
  for (const std::string& name : SharedLimit::names(shared)) {
    const std::unique_ptr<SharedLimit> limit = SharedLimit::find(shared, name);
    if (limit == nullptr) {
      wrong("limit " + name + " is not found");
      continue;
    }
    ++sums.limits;
    if (!limit->settings().rate) continue;
    const LimitRule& rule = limit->rules().current();
    const auto now_us = static_cast<int64_t>(now_ms() * 1000);
    limit->table().each(limit->rules(), [&](uint64_t, uint64_t count) {
      ++sums.budgets;
      const uint64_t used = limit_used_units(rule, count, now_us);
      if (used > (rule.bound() + 1) * kTokenUnits) {
        wrong("limit " + name + ": " + std::to_string(used / kTokenUnits) + " are used of one key");
      }
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: segment_check PID FD");
  const std::string path = std::string("/proc/") + argv[1] + "/fd/" + argv[2];
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) fail(path + " cannot be opened");
  Result<SharedMemory> shared = SharedMemory::attach(std::move(fd));
  if (!shared) fail(shared.error().message);
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(*shared);
  if (!table) fail(table.error().message);
  Sums sums;
  check_rows(**table, TrafficKind::kTarget, sums);
  check_rows(**table, TrafficKind::kUpstream, sums);
  check_limits(*shared, sums);
  std::printf(
      "{\"rows\":%llu,\"in_flight\":%llu,\"probes\":%llu,\"waiting\":%llu,\"connections\":%llu,"
      "\"limits\":%llu,\"budgets\":%llu}\n",
      static_cast<unsigned long long>(sums.rows), static_cast<unsigned long long>(sums.in_flight),
      static_cast<unsigned long long>(sums.probes), static_cast<unsigned long long>(sums.waiting),
      static_cast<unsigned long long>(sums.connections),
      static_cast<unsigned long long>(sums.limits), static_cast<unsigned long long>(sums.budgets));
  return faults == 0 ? 0 : 1;
}
