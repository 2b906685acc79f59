// Log rotation when a system call fails: whichever it is, no line is lost and none is there twice.
//
// The Nth of the wrapped calls fails, for N = 1, 2, 3 … The rotation is then carried on as the
// agent does it, and has to come to the same end as one without a failure.
// wrap: write read open rename renameat2 unlink fsync fchmod fchown futimens opendir statx
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "../unit/log_folder.h"
#include "agent/log_rotator.h"
#include "fail_at.h"

namespace {

bool g_rotating = false;  // the reads and writes of the packing, not those of the event loop
bool g_kill = false;      // the call kills the process instead of failing

bool trips() {
  if (!gatehouse::fault::fails_now()) return false;
  if (g_kill) kill(getpid(), SIGKILL);
  return true;
}

}  // namespace

#define TRIPPING(type, name, parameters, arguments) \
  type __real_##name parameters;                    \
  type __wrap_##name parameters;                    \
  type __wrap_##name parameters {                   \
    if (trips()) return -1;                         \
    return __real_##name arguments;                 \
  }                                                 \
  static_assert(true)

extern "C" {
TRIPPING(int, rename, (const char* from, const char* to), (from, to));
TRIPPING(int, renameat2, (int from_at, const char* from, int to_at, const char* to, unsigned flags),
         (from_at, from, to_at, to, flags));
TRIPPING(int, unlink, (const char* path), (path));
TRIPPING(int, fsync, (int fd), (fd));
TRIPPING(int, fchmod, (int fd, mode_t mode), (fd, mode));
TRIPPING(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group));
TRIPPING(int, futimens, (int fd, const timespec* times), (fd, times));
TRIPPING(int, statx, (int at, const char* path, int flags, unsigned mask, struct statx* info),
         (at, path, flags, mask, info));

int __real_open(const char* path, int flags, ...);
int __wrap_open(const char* path, int flags, ...);
int __wrap_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (trips()) return -1;
  return __real_open(path, flags, mode);
}

DIR* __real_opendir(const char* path);
DIR* __wrap_opendir(const char* path);
DIR* __wrap_opendir(const char* path) {
  return trips() ? nullptr : __real_opendir(path);
}

// The eventfd's eight bytes are the loop's business.
ssize_t __real_write(int fd, const void* bytes, size_t size);
ssize_t __wrap_write(int fd, const void* bytes, size_t size);
ssize_t __wrap_write(int fd, const void* bytes, size_t size) {
  if (g_rotating && size != sizeof(uint64_t) && fd > STDERR_FILENO && trips()) return -1;
  return __real_write(fd, bytes, size);
}
ssize_t __real_read(int fd, void* bytes, size_t size);
ssize_t __wrap_read(int fd, void* bytes, size_t size);
ssize_t __wrap_read(int fd, void* bytes, size_t size) {
  if (g_rotating && size != sizeof(uint64_t) && trips()) return -1;
  return __real_read(fd, bytes, size);
}
}

namespace gatehouse {
namespace {

using test::LogFolder;

constexpr int64_t kStart = 1'795'262'400'000'000;

int append_to(const LogFolder& folder, const std::string& text) {
  const int fd = __real_open(folder.log().c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  assert_true(fd >= 0);
  assert_int_equal(__real_write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return fd;
}

// The agent's part of rotation with a master that always obeys.
struct Agent {
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create());
  std::unique_ptr<JobThread> jobs = std::move(*JobThread::start(*loop));
  LogRotator::Reopened asked;
  LogRotator rotator{*jobs, [this](LogRotator::Reopened done) { asked = std::move(done); }};
  int64_t now_us = kStart;

  explicit Agent(const LogFolder& folder) {
    Result<LogRotation> rule = ValueType<LogRotation>::parse("size 1k, keep 5");
    rotator.set_rules({{folder.log(), *rule}});
  }
  // Ticks until everything has had its time. `fd` is the log as its writer has it open.
  void settle(const LogFolder& folder, int& fd) {
    for (int i = 0; i < 40; ++i) {
      rotator.tick(now_us += 5'000'000);
      while (rotator.busy()) {
        if (asked) {
          close(fd);
          fd = append_to(folder, "");
          std::exchange(asked, {})({});
        } else {
          loop->turn(true);
        }
      }
    }
  }
};

const std::string kText = std::string(5000, 'a') + "\n" + std::string(5000, 'b') + "\n";

void assert_rotated_once(const LogFolder& folder, const Agent& agent) {
  assert_string_equal(agent.rotator.status()[0].error.c_str(), "");
  assert_int_equal(agent.rotator.status()[0].unpacked, 0);
  assert_true(folder.everything() == kText);
  assert_int_equal(folder.names().size(), 2);
  assert_true(folder.names()[1].ends_with(".gz"));
}

// The failure is at call `nth`. True where it happened.
bool rotate_with_failure(int nth, int error) {
  const LogFolder folder;
  int fd = append_to(folder, kText);
  Agent agent(folder);
  g_rotating = true;
  fault::arm(nth, error);
  agent.settle(folder, fd);
  const bool fired = fault::fired();
  fault::disarm();
  g_rotating = false;
  agent.settle(folder, fd);
  close(fd);
  assert_rotated_once(folder, agent);
  return fired;
}

void any_call_may_fail(void**) {
  for (const int error : {ENOSPC, EIO, EACCES}) {
    int nth = 1;
    while (rotate_with_failure(nth, error)) ++nth;
    assert_in_range(nth, 15, 200);
  }
}

// What is on disk is all that there is then; the next agent has to find it and finish.
bool kill_at(int nth) {
  const LogFolder folder;
  int fd = append_to(folder, kText);
  const pid_t child = fork();
  if (child == 0) {
    int own_fd = fd;
    Agent agent(folder);
    g_rotating = g_kill = true;
    fault::arm(nth, EIO);
    for (int i = 0; i < 3 && folder.has("access.log"); ++i) agent.settle(folder, own_fd);
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(folder.everything().find(kText) != std::string::npos);
  Agent agent(folder);
  agent.settle(folder, fd);
  close(fd);
  assert_rotated_once(folder, agent);
  return WIFSIGNALED(status);
}

void the_agent_may_be_killed_at_any_call(void**) {
  int nth = 1;
  while (kill_at(nth)) ++nth;
  assert_in_range(nth, 15, 400);
}

}  // namespace
}  // namespace gatehouse

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(gatehouse::any_call_may_fail),
      cmocka_unit_test(gatehouse::the_agent_may_be_killed_at_any_call),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
