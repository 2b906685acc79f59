// Faults of the event loop. libevent makes the system calls, so that --wrap does not reach them:
// this program's own epoll_ctl and epoll_create1 stand before those of the C library.

#include "core/event_loop.h"

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "fail_at.h"

namespace {

int g_created = 0;
int g_controlled = 0;
int g_waited = 0;
int g_interrupts = 0;

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int epoll_create1(int flags) noexcept {
  ++g_created;
  if (gatehouse::fault::fails_now()) return -1;
  return next<int (*)(int)>("epoll_create1")(flags);
}

// libevent's second choice where the first one fails.
extern "C" int epoll_create(int size) noexcept {
  ++g_created;
  if (gatehouse::fault::g_fail_at != 0) {
    errno = gatehouse::fault::g_error;
    return -1;
  }
  return next<int (*)(int)>("epoll_create")(size);
}

extern "C" int epoll_ctl(int epoll, int operation, int fd, struct epoll_event* event) noexcept {
  ++g_controlled;
  if (gatehouse::fault::fails_now()) return -1;
  return next<int (*)(int, int, int, struct epoll_event*)>("epoll_ctl")(epoll, operation, fd,
                                                                        event);
}

extern "C" int epoll_wait(int epoll, struct epoll_event* events, int count, int timeout) {
  ++g_waited;
  if (g_interrupts > 0) {
    --g_interrupts;
    errno = EINTR;
    return -1;
  }
  return next<int (*)(int, struct epoll_event*, int, int)>("epoll_wait")(epoll, events, count,
                                                                         timeout);
}

namespace gatehouse {
namespace {

void count_call(void* owner, uint8_t /*ready*/) {
  ++*static_cast<int*>(owner);
}

void test_no_epoll_is_an_error(void** /*state*/) {
  const std::set<int> before = fault::open_descriptors();
  for (const int error : {EMFILE, ENFILE, ENOMEM}) {
    g_created = 0;
    fault::arm(1, error);
    const auto loop = EventLoop::create();
    fault::disarm();
    assert_true(g_created > 0);
    assert_false(loop.ok());
    assert_non_null(strstr(loop.error().message.c_str(), "epoll"));
    assert_true(fault::open_descriptors() == before);
  }
  assert_true(EventLoop::create().ok());
  assert_true(fault::open_descriptors() == before);
}

// The kernel refuses a watch: an error that names the reason, and a loop that goes on.
void test_a_refused_watch_is_an_error(void** /*state*/) {
  auto loop = std::move(*EventLoop::create());
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  for (const WatchMode mode : {WatchMode::kEdge, WatchMode::kLevel}) {
    for (const int error : {ENOSPC, ENOMEM}) {
      int calls = 0;
      Watch watch;
      g_controlled = 0;
      fault::arm(1, error);
      const Result<void> refused = watch.open(*loop, fds[0], mode, &count_call, &calls);
      fault::disarm();
      assert_true(g_controlled > 0);
      assert_false(refused.ok());
      assert_non_null(strstr(refused.error().message.c_str(), strerror(error)));
      assert_false(watch.is_open());
      assert_int_equal(write(fds[1], "x", 1), 1);
      loop->turn(false);
      assert_int_equal(calls, 0);
      // The same Watch and descriptor, now that there is room.
      assert_true(watch.open(*loop, fds[0], mode, &count_call, &calls).ok());
      loop->turn(true);
      assert_int_equal(calls, 1);
    }
  }
  close(fds[0]);
  close(fds[1]);
}

// A wait that a signal ends is gone on with: no event is lost, and no callback invented.
void test_an_interrupted_wait_is_gone_on_with(void** /*state*/) {
  auto loop = std::move(*EventLoop::create());
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  int calls = 0;
  Watch watch;
  assert_true(watch.open(*loop, fds[0], WatchMode::kLevel, &count_call, &calls).ok());
  assert_int_equal(write(fds[1], "x", 1), 1);
  g_waited = 0;
  g_interrupts = 3;
  loop->turn(true);
  assert_int_equal(g_interrupts, 0);
  assert_int_equal(calls, 1);
  assert_int_equal(g_waited, 4);
  watch.close();
  close(fds[0]);
  close(fds[1]);
}

}  // namespace
}  // namespace gatehouse

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(gatehouse::test_no_epoll_is_an_error),
      cmocka_unit_test(gatehouse::test_a_refused_watch_is_an_error),
      cmocka_unit_test(gatehouse::test_an_interrupted_wait_is_gone_on_with),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
