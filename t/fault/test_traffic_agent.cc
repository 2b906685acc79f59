// wrap: fstat inotify_init1 inotify_add_watch socket connect getsockopt event_new
// Faults of what the agent does for the traffic: each call that fails costs one look or one check,
// never the last good list, and nothing waits for ever.

#include <event2/event.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/health_probe.h"
#include "agent/job_thread.h"
#include "agent/member_files.h"
#include "agent/registrations.h"
#include "core/clock.h"
#include "core/event_loop.h"
#include "core/log.h"
#include "core/sockets.h"
#include "fail_at.h"

GH_FAIL_AT(int, fstat, (int fd, struct stat* info), (fd, info));
GH_FAIL_AT(int, inotify_init1, (int flags), (flags));
GH_FAIL_AT(int, inotify_add_watch, (int fd, const char* path, uint32_t mask), (fd, path, mask));
GH_FAIL_AT(int, socket, (int domain, int type, int protocol), (domain, type, protocol));
GH_FAIL_AT(int, connect, (int fd, const sockaddr* address, socklen_t size), (fd, address, size));
GH_FAIL_AT(int, getsockopt, (int fd, int level, int name, void* value, socklen_t* size),
           (fd, level, name, value, size));

extern "C" struct event* __real_event_new(event_base*, evutil_socket_t, short, event_callback_fn,
                                          void*);
extern "C" struct event* __wrap_event_new(event_base*, evutil_socket_t, short, event_callback_fn,
                                          void*);
extern "C" struct event* __wrap_event_new(event_base* base, evutil_socket_t fd, short what,
                                          event_callback_fn callback, void* argument) {
  if (gatehouse::fault::fails_now()) return nullptr;
  return __real_event_new(base, fd, what, callback, argument);
}

namespace gatehouse {
namespace {

struct Bench {
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<JobThread> thread;
  std::string folder;

  Bench() {
    log_set_level(LogLevel::kAlert);
    loop = std::move(*EventLoop::create());
    thread = std::move(*JobThread::start(*loop));
    char path[] = "/tmp/gatehouse-fault-XXXXXX";
    folder = mkdtemp(path);
  }
  ~Bench() {
    for (const char* name : {"targets.json", "later/registrations.db", "later/registrations.db-wal",
                             "later/registrations.db-shm"}) {
      unlink((folder + "/" + name).c_str());
    }
    rmdir((folder + "/later").c_str());
    rmdir(folder.c_str());
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Turns the loop until it holds; false after five seconds.
  bool until(const std::function<bool()>& holds) {
    const Moment end = monotonic_now() + Duration(5000);
    Timer wake([](void*) {}, nullptr);
    while (!holds()) {
      if (monotonic_now() > end) return false;
      loop->arm(wake, Duration(20));
      loop->turn(true);
    }
    return true;
  }
};

Member member(const char* address) {
  Member made;
  made.address = *SocketAddress::parse(address);
  return made;
}

void a_look_that_fails_changes_nothing(void**) {
  Bench bench;
  const std::string path = bench.folder + "/targets.json";
  std::ofstream(path) << "[\"10.0.0.2:80\"]";
  const std::vector<Member> before{member("10.0.0.1:80")};
  const std::vector<Member> after{member("10.0.0.2:80")};
  for (int nth = 1;; ++nth) {
    assert_true(nth < 50);
    fault::arm(nth, EMFILE);
    {
      MemberFiles files(*bench.loop, *bench.thread, [](const std::string&) {});
      files.set({{path, Duration(30), true, before}});
      assert_true(bench.until([&] {
        const MemberFileState& state = *files.find(path);
        assert_true(state.members == before || state.members == after);
        return state.read_us != 0;
      }));
      assert_true(files.find(path)->members == after);
      assert_true(bench.until([&] { return bench.thread->idle(); }));
    }
    const bool fired = fault::fired();
    fault::disarm();
    if (!fired) break;
  }
}

// One check of a server that listens and says nothing.
std::optional<ProbeOutcome> probe(Bench& bench, HealthCheck::Kind kind, const SocketAddress& at) {
  HealthCheck check;
  check.kind = kind;
  check.path = "/";
  check.timeout = Duration(150);
  Result<std::unique_ptr<HealthProbes>> probes = HealthProbes::create(*bench.loop);
  assert_true(probes.ok());
  std::optional<ProbeOutcome> outcome;
  (*probes)->start(check, at, "host", false, [&outcome](ProbeOutcome told) {
    assert_false(outcome.has_value());
    outcome = std::move(told);
  });
  assert_true(bench.until([&] { return outcome.has_value(); }));
  assert_int_equal((*probes)->under_way(), 0);
  return outcome;
}

void a_check_that_cannot_be_made_is_a_bad_one(void**) {
  Bench bench;
  const UniqueFd listener(std::move(*listen_at(*SocketAddress::parse("127.0.0.1:0"), {})));
  const SocketAddress at = *local_address(listener.get());
  for (const auto kind : {HealthCheck::Kind::kTcp, HealthCheck::Kind::kHttp}) {
    const std::set<int> open = fault::open_descriptors();
    for (int nth = 1;; ++nth) {
      assert_true(nth < 50);
      fault::arm(nth, ENOBUFS);
      const std::optional<ProbeOutcome> outcome = probe(bench, kind, at);
      const bool fired = fault::fired();
      fault::disarm();
      // Whoever connects is well; whoever wants an answer gets none.
      assert_true(outcome->good == (kind == HealthCheck::Kind::kTcp && !fired) || fired);
      if (!outcome->good) assert_false(outcome->why.empty());
      if (!fired) break;
    }
    assert_true(fault::open_descriptors() == open);
  }
}

void registrations_wait_for_their_folder(void**) {
  Bench bench;
  Registrations registrations(*bench.loop, *bench.thread, [](const std::string&) {});
  registrations.open(bench.folder + "/later");
  assert_true(bench.until([&] { return !registrations.problem().empty(); }));
  assert_null(registrations.members("app"));
  int refused = 0;
  Registration wanted = *parse_registration("app", "10.0.0.1:80", "");
  registrations.put(wanted, 8, [&](const Result<Registrations::Outcome>& told) {
    assert_false(told.ok());
    ++refused;
  });
  assert_int_equal(refused, 1);
  assert_int_equal(mkdir((bench.folder + "/later").c_str(), 0700), 0);
  assert_true(bench.until([&] { return registrations.loaded(); }));
  assert_int_equal(registrations.members("app")->size(), 0);
  int taken = 0;
  registrations.put(wanted, 8, [&](const Result<Registrations::Outcome>& told) {
    assert_true(told.ok() && told->kept && told->created);
    ++taken;
  });
  assert_true(bench.until([&] { return taken == 1; }));
  assert_int_equal(registrations.members("app")->size(), 1);
  // There is room for one.
  wanted = *parse_registration("app", "10.0.0.2:80", "");
  registrations.put(wanted, 1, [&](const Result<Registrations::Outcome>& told) {
    assert_false(told.ok());
    ++refused;
  });
  assert_int_equal(refused, 2);
  assert_true(bench.until([&] { return bench.thread->idle(); }));
}

}  // namespace
}  // namespace gatehouse

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(gatehouse::a_look_that_fails_changes_nothing),
      cmocka_unit_test(gatehouse::a_check_that_cannot_be_made_is_a_bad_one),
      cmocka_unit_test(gatehouse::registrations_wait_for_their_folder),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
