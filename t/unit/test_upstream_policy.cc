// What counts as a failure, and a request's place in its upstream: the breaker over all of it and
// the adaptive limit.
#include "http/upstream_policy.h"

#include <criterion/criterion.h>

#include <memory>
#include <optional>
#include <string>

#include "core/log.h"

namespace gatehouse {
namespace {

std::optional<SharedMemory> segment;
std::unique_ptr<TrafficTable> table;
uint32_t place = 0;

void set_up() {
  log_set_level(LogLevel::kAlert);
  Result<SharedMemory> made = SharedMemory::create(4_MiB);
  cr_assert(made.ok());
  segment.emplace(std::move(*made));
  Result<std::unique_ptr<TrafficTable>> opened = TrafficTable::open(*segment, 64);
  cr_assert(opened.ok());
  table = std::move(*opened);
  for (uint32_t worker = 0; worker < 2; ++worker) {
    cr_assert(table->open_column(worker).ok());
    const Result<uint32_t> index = table->hold(worker, TrafficKind::kUpstream, "users");
    cr_assert(index.ok());
    place = *index;
  }
}

void tear_down() {
  table.reset();
  segment.reset();
}

Moment at(int64_t ms) {
  return Moment{ms * 1000};
}

TryOutcome answered(uint16_t status, int64_t ms = 1) {
  return {TryOutcome::Kind::kAnswered, status, std::chrono::milliseconds(ms)};
}

// The policy of one worker.
struct Policy {
  UpstreamPolicyConf conf;
  std::unique_ptr<UpstreamPolicy> made;
  Policy(std::string_view breaker, std::string_view concurrency, uint32_t worker = 0) {
    conf.upstream_breaker = *ValueType<BreakerConf>::parse(breaker);
    conf.concurrency = *ValueType<ConcurrencyConf>::parse(concurrency);
    made = make_policy(conf, "users");
    made->cells = {table.get(), place, &table->row(place), &table->cell(worker, place)};
  }
  // One request from beginning to end.
  Reason one(const TryOutcome& outcome, Moment now) const {
    UpstreamPass pass;
    const Reason why = pass.enter(*made, now);
    if (why == Reason::kNone) pass.leave(outcome, now);
    return why;
  }
};

uint64_t in_flight() {
  return table->sum(place, &TrafficCell::in_flight);
}

Test(upstream_policy, what_counts_as_a_failure) {
  const FailureSet usual = FailureSet::usual();
  const auto failed = [&](TryOutcome::Kind kind) { return is_failure(usual, {kind, 0, {}}); };
  cr_expect(failed(TryOutcome::Kind::kConnectFailed));
  cr_expect(failed(TryOutcome::Kind::kTimeout));
  cr_expect(failed(TryOutcome::Kind::kReset));
  cr_expect(failed(TryOutcome::Kind::kBadResponse));
  cr_expect(!failed(TryOutcome::Kind::kCancelled));
  cr_expect(is_failure(usual, answered(500)) && is_failure(usual, answered(599)));
  cr_expect(!is_failure(usual, answered(404)) && !is_failure(usual, answered(200)));
  const FailureSet none;
  cr_expect(!is_failure(none, answered(500)));
  cr_expect(!is_failure(none, {TryOutcome::Kind::kReset, 0, {}}));
}

Test(upstream_policy, nothing_to_do_is_no_policy) {
  const UpstreamPolicyConf conf;
  cr_assert(make_policy(conf, "users") == nullptr);
  cr_assert(!conf.needs_target_rows() && !conf.needs_upstream_row());
}

Test(upstream_policy, the_breaker_is_over_the_whole_upstream, .init = set_up, .fini = tear_down) {
  const Policy one("failures 3, open 1m", "off", 0);
  const Policy other("failures 3, open 1m", "off", 1);
  cr_assert(one.one(answered(500), at(1000)) == Reason::kNone);
  cr_assert(other.one(answered(500), at(1000)) == Reason::kNone);
  cr_assert(one.one(answered(500), at(1000)) == Reason::kNone);
  cr_assert(other.one(answered(200), at(1001)) == Reason::kCircuitOpen);
  cr_assert(one.one(answered(200), at(1001)) == Reason::kCircuitOpen);
  // A probe whose client leaves says nothing, and makes place for the next one.
  {
    UpstreamPass pass;
    cr_assert(pass.enter(*one.made, at(100'000)) == Reason::kNone);
    cr_assert(other.one(answered(200), at(100'000)) == Reason::kCircuitOpen);
  }
  cr_assert(other.one(answered(200), at(100'000)) == Reason::kNone);
  cr_assert(one.one(answered(200), at(100'000)) == Reason::kNone);
}

Test(upstream_policy, the_limit_is_over_all_workers, .init = set_up, .fini = tear_down) {
  const Policy one("off", "adaptive min 1 max 3", 0);
  const Policy other("off", "adaptive min 1 max 3", 1);
  auto first = std::make_unique<UpstreamPass>();
  auto second = std::make_unique<UpstreamPass>();
  auto third = std::make_unique<UpstreamPass>();
  cr_assert(first->enter(*one.made, at(0)) == Reason::kNone);
  cr_assert(second->enter(*other.made, at(0)) == Reason::kNone);
  cr_assert(third->enter(*other.made, at(0)) == Reason::kNone);
  cr_assert_eq(in_flight(), 3u);
  cr_assert(one.one(answered(200), at(0)) == Reason::kOverloadUpstream);
  cr_assert_eq(in_flight(), 3u, "who is turned away holds nothing");
  // An answer does not make place yet: its body may take a while.
  third->leave(answered(200), at(1));
  cr_assert(one.one(answered(200), at(1)) == Reason::kOverloadUpstream);
  third.reset();
  cr_assert(one.one(answered(200), at(1)) == Reason::kNone);
  first.reset();
  second.reset();
  cr_assert_eq(in_flight(), 0u);
}

Test(upstream_policy, quick_failures_say_nothing_about_latency, .init = set_up, .fini = tear_down) {
  const Policy one("off", "adaptive min 1 max 100");
  for (int i = 0; i < 200; ++i) {
    (void)one.one({TryOutcome::Kind::kConnectFailed, 0, {}}, at(1000 + i * 20));
    (void)one.one({TryOutcome::Kind::kReset, 0, {}}, at(1000 + i * 20));
  }
  cr_assert_eq(adaptive_least_us(table->row(place).concurrency), 0u);
  for (int i = 0; i < 200; ++i) (void)one.one(answered(200, 20), at(10'000 + i * 20));
  cr_assert_float_eq(adaptive_least_us(table->row(place).concurrency), 20'000, 100);
}

}  // namespace
}  // namespace gatehouse
