// Health checks: what an answer is worth, how many change what is known, and checks of real
// sockets.
#include "agent/health_checker.h"

#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/health_probe.h"
#include "core/event_loop.h"
#include "core/log.h"
#include "core/sockets.h"
#include "loopback.h"

namespace {

using gatehouse::CheckedTarget;
using gatehouse::Duration;
using gatehouse::EventLoop;
using gatehouse::HealthCheck;
using gatehouse::HealthChecker;
using gatehouse::HealthProbes;
using gatehouse::HealthRecord;
using gatehouse::judge;
using gatehouse::note_answer;
using gatehouse::ProbeAnswer;
using gatehouse::ProbeOutcome;
using gatehouse::Result;
using gatehouse::SocketAddress;
using gatehouse::TargetVerdict;
using gatehouse::UniqueFd;

HealthCheck tcp_check() {
  HealthCheck check;
  check.kind = HealthCheck::Kind::kTcp;
  check.every = Duration(50);
  check.timeout = Duration(200);
  check.jitter = 0;
  return check;
}

std::unique_ptr<EventLoop> loop;
std::unique_ptr<HealthProbes> probes;
UniqueFd listener;
SocketAddress address;

void set_up() {
  gatehouse::log_set_level(gatehouse::LogLevel::kAlert);
  loop = gatehouse::loopback::make_loop();
  Result<std::unique_ptr<HealthProbes>> made = HealthProbes::create(*loop);
  cr_assert(made.ok());
  probes = std::move(*made);
  Result<UniqueFd> fd = gatehouse::listen_at(*SocketAddress::parse("127.0.0.1:0"), {});
  cr_assert(fd.ok());
  listener = std::move(*fd);
  address = *gatehouse::local_address(listener.get());
}

void tear_down() {
  probes.reset();
  listener.reset();
  loop.reset();
}

// Turns the loop until it holds.
void until(const std::function<bool()>& holds) {
  const int64_t end = gatehouse::loopback::monotonic_ms() + 5000;
  gatehouse::Timer wake([](void*) {}, nullptr);
  while (!holds()) {
    cr_assert(gatehouse::loopback::monotonic_ms() < end, "it does not come");
    loop->arm(wake, Duration(20));
    loop->turn(true);
  }
}

// What one check of `at` says.
ProbeOutcome outcome_of(const HealthCheck& check, const SocketAddress& at) {
  std::vector<ProbeOutcome> told;
  probes->start(check, at, "host", false,
                [&told](ProbeOutcome outcome) { told.push_back(outcome); });
  cr_assert(told.empty(), "told before the caller knows the check's number");
  until([&told] { return !told.empty(); });
  return told[0];
}

}  // namespace

TestSuite(health_checker, .init = set_up, .fini = tear_down, .timeout = 30);

Test(health_checker, rows_of_answers_decide) {
  HealthCheck check;
  check.rise = 2;
  check.fall = 3;
  HealthRecord record;
  cr_assert(note_answer(record, check, true), "the first answer decides");
  cr_assert(*record.up);
  cr_assert(!note_answer(record, check, false));
  cr_assert(!note_answer(record, check, false));
  cr_assert(!note_answer(record, check, true), "the row was broken");
  cr_assert(!note_answer(record, check, false));
  cr_assert(!note_answer(record, check, false));
  cr_assert(note_answer(record, check, false));
  cr_assert(!*record.up);
  cr_assert_eq(record.same, 3);
  cr_assert(!note_answer(record, check, false));
  cr_assert(!note_answer(record, check, true));
  cr_assert(note_answer(record, check, true));
  cr_assert(*record.up);
  HealthRecord dead;
  cr_assert(note_answer(dead, check, false));
  cr_assert(!*dead.up);
}

Test(health_checker, answers_are_compared_with_what_is_expected) {
  HealthCheck check;
  check.kind = HealthCheck::Kind::kHttp;
  check.expect = {{200, 200}, {301, 302}};
  check.fields = {{"X-Ready", "yes"}, {"Server", ""}};
  check.body = "well";
  const ProbeAnswer good{302, {{"x-ready", "no"}, {"x-READY", "yes"}, {"server", ""}}, "all well"};
  cr_assert(judge(check, good).good);
  cr_assert_eq(judge(check, good).status, 302);
  ProbeAnswer bad = good;
  bad.status = 201;
  cr_assert_eq(judge(check, bad).why, "status 201");
  bad = good;
  bad.fields[1].value = "yes!";
  cr_assert_eq(judge(check, bad).why, "no field X-Ready: yes");
  bad = good;
  bad.fields.pop_back();
  cr_assert_eq(judge(check, bad).why, "no field Server");
  bad = good;
  bad.body = "wel";
  cr_assert(!judge(check, bad).good);
}

Test(health_checker, connections_are_made_refused_or_late) {
  cr_assert(outcome_of(tcp_check(), address).good);
  HealthCheck request = tcp_check();
  request.kind = HealthCheck::Kind::kHttp;
  request.path = "/";
  // It listens, and nobody answers.
  cr_assert_eq(outcome_of(request, address).why, "no answer within 200ms");
  HealthCheck elsewhere = tcp_check();
  elsewhere.port = address.port();
  cr_assert(outcome_of(elsewhere, *SocketAddress::parse("127.0.0.1:1")).good);
  listener.reset();
  cr_assert_eq(outcome_of(tcp_check(), address).why, "Connection refused");
  cr_assert_eq(outcome_of(request, address).why, "Connection refused");
  const SocketAddress nowhere = *SocketAddress::parse("unix:/nowhere/at.all");
  cr_assert_eq(outcome_of(tcp_check(), nowhere).why, "No such file or directory");
  cr_assert(!outcome_of(request, nowhere).good);
  cr_assert_eq(probes->under_way(), 0);
}

Test(health_checker, a_check_that_is_cancelled_tells_nothing) {
  bool told = false;
  const uint64_t number =
      probes->start(tcp_check(), address, "", false, [&told](const ProbeOutcome&) { told = true; });
  probes->cancel(number);
  // One that has its answer already, too.
  listener.reset();
  const uint64_t refused =
      probes->start(tcp_check(), address, "", false, [&told](const ProbeOutcome&) { told = true; });
  probes->cancel(refused);
  cr_assert(outcome_of(tcp_check(), *SocketAddress::parse("127.0.0.1:1")).why != "");
  cr_assert(!told);
}

Test(health_checker, targets_come_and_go) {
  std::map<std::string, TargetVerdict> verdicts;
  HealthChecker::Owner owner;
  owner.tell = [&verdicts](const std::string& name, TargetVerdict verdict) {
    verdicts[name] = verdict;
  };
  owner.before = [](const std::string& name) {
    TargetVerdict verdict;
    if (name == "app/known") verdict.state = TargetVerdict::State::kUp;
    return verdict;
  };
  HealthChecker checker(*loop, *probes, std::move(owner));
  HealthCheck check = tcp_check();
  check.fall = 3;
  const SocketAddress closed = *SocketAddress::parse("127.0.0.1:1");
  const std::vector<CheckedTarget> targets{{"app/a", address, ""}, {"app/known", closed, ""}};
  checker.set("app", check, targets);
  until([&] { return verdicts.size() == 2; });
  cr_assert(verdicts["app/a"].state == TargetVerdict::State::kUp);
  // What was known before holds until `fall` answers speak against it.
  cr_assert(verdicts["app/known"].state == TargetVerdict::State::kUp);
  until([&] { return verdicts["app/known"].state == TargetVerdict::State::kDown; });
  cr_assert_geq(verdicts["app/known"].streak, 3);

  // More than may be checked at once: all are checked in the end.
  std::vector<CheckedTarget> many;
  for (size_t i = 0; i < 3 * gatehouse::kChecksAtOnce; ++i) {
    many.push_back({"many/" + std::to_string(i), address, ""});
  }
  HealthCheck slow = tcp_check();
  slow.every = Duration(60'000);
  checker.set("many", slow, many);
  until([&] { return verdicts.size() == 2 + many.size(); });

  const std::vector<std::string> kept{"many"};
  checker.keep_only(kept);
  cr_assert_eq(checker.status().size(), many.size());
  verdicts.clear();
  checker.tell_all();
  cr_assert_eq(verdicts.size(), many.size());
  checker.clear();
  cr_assert(checker.status().empty());
}
