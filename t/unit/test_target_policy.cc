// What keeps a target from being chosen, over rows in shared memory; counts, caps, breakers.
#include <criterion/criterion.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/target_verdict.h"
#include "http/exchange.h"
#include "http/target_binding.h"
#include "http/target_choice.h"
#include "http/target_fitness.h"
#include "http/target_states.h"

namespace {

using namespace gatehouse;

constexpr uint32_t kRow = 2;    // this worker's
constexpr uint32_t kOther = 5;  // another one's

// The upstream "app" with the targets "a", "b", …, bound to a segment of its own.
struct Policy {
  SharedMemory shared = std::move(*SharedMemory::create(4_MiB));
  std::unique_ptr<TrafficTable> table = std::move(*TrafficTable::open(shared, 64));
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create());
  AgentHeartbeat heartbeat{};
  std::unique_ptr<TargetStates> states;
  RowHolds rows;
  SeriesCells cells;
  UpstreamConf conf;
  UpstreamPolicyConf policy;
  Upstream upstream;
  Exchange exchange;
  uint64_t now = static_cast<uint64_t>(loop->now().us / 1000);

  Policy() {
    (void)table->open_column(kRow);
    (void)table->open_column(kOther);
    states = std::make_unique<TargetStates>(*loop);
    states->share(*table, kRow, &heartbeat);
    rows = RowHolds(*table, kRow);
    upstream.name = "app";
    upstream.conf = &conf;
    heartbeat.pid = 1;
    heartbeat.beat_us = loop->wall_us();
  }
  ~Policy() {
    for (const UpstreamTarget& target : upstream.configured.targets) {
      if (target.state != nullptr) states->release(*target.state);
    }
    if (upstream.state != nullptr) states->release(*upstream.state);
    loop->turn(false);
  }

  UpstreamTarget& add(const std::string& name, uint32_t weight = 1) {
    UpstreamTarget target;
    target.name = "app/" + name;
    target.address_text = name;
    target.weight = weight;
    target.max_connections = conf.max_connections;
    target.cells = &cells;
    upstream.configured.targets.push_back(std::move(target));
    return upstream.configured.targets.back();
  }
  void bind() {
    upstream.policy = make_policy(policy, "app");
    cr_assert(bind_upstream(upstream, rows, HashKey{1, 2}).ok());
    upstream.state = &states->hold_upstream("app", &upstream.row_index);
    for (UpstreamTarget& target : upstream.configured.targets) {
      target.state = &states->hold(target.name, target, upstream.state);
    }
  }
  TrafficRow& row(size_t i) { return *upstream.configured.targets[i].row; }
  uint64_t in_flight(size_t i) {
    return table->sum(upstream.configured.targets[i].row_index, &TrafficCell::in_flight);
  }
  Choice choose() {
    ChoiceContext context(exchange);
    return choose_target(upstream, context);
  }
  std::string next() {
    const Choice choice = choose();
    return choice.lease ? choice.lease.target().address_text : reason_info(choice.why).code;
  }
  std::map<std::string, int> next(int count) {
    std::map<std::string, int> seen;
    for (int i = 0; i < count; ++i) ++seen[next()];
    return seen;
  }
  void set_verdict(size_t i, TargetVerdict::State state) {
    TargetVerdict verdict;
    verdict.state = state;
    row(i).health = verdict.pack();
  }
};

const TryOutcome kBad{TryOutcome::Kind::kConnectFailed, 0, std::chrono::milliseconds(1)};
const TryOutcome kGood{TryOutcome::Kind::kAnswered, 200, std::chrono::milliseconds(1)};

}  // namespace

Test(target_policy, a_try_is_in_flight_until_its_lease_ends) {
  Policy policy;
  policy.add("a");
  policy.bind();
  Choice first = policy.choose();
  Choice second = policy.choose();
  cr_assert_eq(policy.in_flight(0), 2u);
  TargetLease moved = std::move(first.lease);
  cr_assert_eq(policy.in_flight(0), 2u);
  moved = std::move(second.lease);
  cr_assert_eq(policy.in_flight(0), 1u);
  moved.detach();
  cr_assert_eq(policy.in_flight(0), 1u, "a tunnel counts on");
  moved.end();
  cr_assert_eq(policy.in_flight(0), 0u);
}

Test(target_policy, what_the_agent_says_counts_while_it_lives) {
  Policy policy;
  policy.upstream.checked = true;
  policy.add("a");
  policy.add("b");
  policy.bind();
  policy.set_verdict(0, TargetVerdict::State::kDown);
  cr_assert_eq(policy.next(4)["b"], 4);
  policy.set_verdict(1, TargetVerdict::State::kDown);
  cr_assert_eq(policy.next(), "no_target");
  policy.conf.panic = Percent{5000};
  cr_assert_eq(policy.next(4)["a"], 2, "in a panic all are used");
  policy.conf.panic = Percent{};
  policy.upstream.checked = false;
  cr_assert_eq(policy.next(4)["a"], 2, "a verdict from before is nobody's business");
  policy.upstream.checked = true;
  policy.heartbeat.beat_us = policy.loop->wall_us() - kVerdictsCountUs - 1;
  policy.loop->turn(false);
  while (policy.loop->now().us / 1000 == static_cast<int64_t>(policy.now)) policy.loop->turn(false);
  cr_assert_eq(policy.next(4)["a"], 2, "a dead agent's word does not count");
}

Test(target_policy, the_operator_takes_a_target_out) {
  Policy policy;
  policy.add("a");
  policy.add("b");
  policy.add("spare").backup = true;
  policy.bind();
  policy.row(0).admin = static_cast<uint64_t>(TargetAdmin::kDrain);
  cr_assert_eq(policy.next(4)["b"], 4);
  policy.row(1).admin = static_cast<uint64_t>(TargetAdmin::kDisabled);
  cr_assert_eq(policy.next(4)["spare"], 4);
  policy.row(0).admin = 0;
  cr_assert_eq(policy.next(4)["a"], 4);
}

Test(target_policy, a_cap_counts_all_workers) {
  Policy policy;
  policy.conf.max_connections = 3;
  policy.add("a");
  policy.bind();
  const uint32_t index = policy.upstream.configured.targets[0].row_index;
  policy.table->cell(kOther, index).in_flight = 2;
  Choice held = policy.choose();
  cr_assert(held.lease);
  Choice refused = policy.choose();
  cr_assert_not(refused.lease);
  cr_assert_eq(refused.why, Reason::kTargetsBusy);
  cr_assert_not(refused.busy, "there is no queue");
  cr_assert_eq(policy.in_flight(0), 3u);
  policy.conf.queue = 1;
  cr_assert(policy.choose().busy);
  policy.table->cell(kOther, index).in_flight = 0;
  cr_assert(policy.choose().lease);
}

Test(target_policy, the_fewest_in_flight_over_all_workers) {
  Policy policy;
  policy.conf.balance.method = BalanceMethod::kLeastConn;
  policy.add("a");
  policy.add("b");
  policy.bind();
  const uint32_t index = policy.upstream.configured.targets[0].row_index;
  policy.table->cell(kOther, index).in_flight = 1;
  cr_assert_eq(policy.next(5)["b"], 5);
}

Test(target_policy, failures_eject_but_not_more_than_a_share_and_never_the_last) {
  Policy policy;
  policy.conf.eject.rules = {2, 60'000, 60'000};
  for (const char* name : {"a", "b", "c", "d"}) policy.add(name);
  policy.bind();
  std::map<std::string, int> failed;
  for (int i = 0; i < 100; ++i) {
    Choice choice = policy.choose();
    ++failed[choice.lease.target().address_text];
    choice.lease.settle(kBad);
    choice.lease.settle(kBad);  // the first one counts
  }
  int out = 0;
  for (size_t i = 0; i < 4; ++i) out += is_ejected(policy.row(i).ejection, policy.now) ? 1 : 0;
  cr_assert_eq(out, 2, "half of them");
  policy.conf.eject.share = Percent{10'000};
  for (int i = 0; i < 100; ++i) policy.choose().lease.settle(kBad);
  out = 0;
  for (size_t i = 0; i < 4; ++i) out += is_ejected(policy.row(i).ejection, policy.now) ? 1 : 0;
  cr_assert_eq(out, 3, "never the last");
}

Test(target_policy, a_success_between_failures_forgives) {
  Policy policy;
  policy.conf.eject.rules = {2, 60'000, 60'000};
  policy.add("a");
  policy.add("b");
  policy.bind();
  for (int i = 0; i < 40; ++i) policy.choose().lease.settle(i % 4 < 2 ? kBad : kGood);
  cr_assert_eq(policy.next(4)["a"], 2);
}

Test(target_policy, an_ejected_one_is_better_than_none) {
  Policy policy;
  policy.conf.eject.rules = {1, 60'000, 60'000};
  policy.add("a");
  policy.add("b");
  policy.bind();
  policy.choose().lease.settle(kBad);
  const std::string left = policy.next();
  ChoiceContext context(policy.exchange);
  Choice choice = choose_target(policy.upstream, context);
  cr_assert_eq(choice.lease.target().address_text, left);
  context.mark_tried(choice.lease);
  choice = choose_target(policy.upstream, context);
  cr_assert(choice.lease, "the other is ejected, but all that is left");
  context.mark_tried(choice.lease);
  cr_assert_not(choose_target(policy.upstream, context).lease);
}

Test(target_policy, an_open_breaker_keeps_a_target_out) {
  Policy policy;
  policy.policy.breaker.rules.failures = 2;
  policy.add("a");
  policy.add("b");
  policy.bind();
  for (int i = 0; i < 4; ++i) {
    Choice choice = policy.choose();
    if (choice.lease.target().address_text == "a") choice.lease.settle(kBad);
  }
  cr_assert_eq(policy.next(4)["b"], 4);
  cr_assert_eq(policy.in_flight(0), 0u);
  policy.row(1).admin = static_cast<uint64_t>(TargetAdmin::kDisabled);
  cr_assert_eq(policy.next(), "circuit_open");
}

Test(target_policy, slow_start_begins_with_little) {
  Policy policy;
  policy.conf.slow_start = std::chrono::hours(1);
  policy.add("a");
  policy.add("b");
  policy.bind();
  policy.row(1).up_since_ms = policy.now - 900'000;  // a quarter of the hour
  const auto seen = policy.next(500);
  cr_assert_leq(std::abs(seen.at("b") - 100), 2, "a quarter of the other's weight: %d",
                seen.at("b"));
}

Test(target_policy, a_weight_grows_from_the_last_return) {
  Policy policy;
  policy.add("a", 10);
  policy.bind();
  const UpstreamTarget& target = policy.upstream.configured.targets[0];
  FitnessView view{100'000, true};
  cr_assert_eq(weight_now(target, 0, view), 10 * kWeightUnit);
  cr_assert_eq(weight_now(target, 1000, view), 10 * kWeightUnit, "it was never away");
  policy.row(0).up_since_ms = 99'500;
  cr_assert_eq(weight_now(target, 1000, view), 5 * kWeightUnit);
  policy.row(0).ejection = Ejection{0, 1, 99'900}.pack();
  cr_assert_eq(weight_now(target, 1000, view), kWeightUnit);
  TargetVerdict verdict;
  verdict.state = TargetVerdict::State::kUp;
  verdict.since = Moment{100'000'000};
  policy.row(0).health = verdict.pack();
  cr_assert_eq(weight_now(target, 1000, view), 1u, "never nothing");
}

Test(target_policy, the_row_says_what_the_configuration_does) {
  Policy policy;
  policy.conf.max_connections = 7;
  policy.add("a", 3).backup = true;
  policy.bind();
  const auto reports = report_targets(*policy.table, policy.now);
  cr_assert_eq(reports.size(), 1u);
  cr_assert_eq(reports[0].upstream, "app");
  cr_assert_eq(reports[0].target, "a");
  cr_assert_eq(reports[0].settings.weight, 3u);
  cr_assert_eq(reports[0].settings.max_connections, 7u);
  cr_assert(reports[0].settings.backup);
  cr_assert_eq(reports[0].state, TargetStand::kUp);
}
