// Work in a child: its result, its crash, its silence, and what it may hold.
#include "core/child_task.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

#include "core/log.h"
#include "loopback.h"

namespace {

using namespace gatehouse;  // NOLINT: as in the code under test
using loopback::monotonic_ms;
using loopback::open_descriptors;

Moment now() {
  return Moment{monotonic_ms() * 1000};
}

ChildTask start(const ChildTask::Work& work, Duration time = Duration(15'000),
                std::vector<int> fds = {}) {
  Result<ChildTask> child = ChildTask::start("helper", RunAs(), std::move(fds), now() + time, work);
  cr_assert(child.ok());
  return std::move(*child);
}

Result<std::string> outcome(ChildTask& child) {
  for (;;) {
    if (std::optional<Result<std::string>> result = child.poll(now())) return std::move(*result);
    poll(nullptr, 0, 2);
  }
}

bool no_child_is_left() {
  return waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
}

void quiet() {
  log_set_level(LogLevel::kAlert);
}

}  // namespace

TestSuite(child_task, .init = quiet, .timeout = 20);

Test(child_task, gives_its_result_whatever_its_size) {
  const size_t before = open_descriptors();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{5'000'000}}) {
    ChildTask child = start([size] { return std::string(size, 'x'); });
    const Result<std::string> result = outcome(child);
    cr_assert(result.ok() && *result == std::string(size, 'x'));
  }
  cr_assert(no_child_is_left() && open_descriptors() == before);
}

Test(child_task, tells_of_a_crash) {
  ChildTask crashed = start([]() -> std::string {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGKILL);
    return "";
  });
  Result<std::string> result = outcome(crashed);
  cr_assert(!result.ok());
  cr_assert(result.error().message.find("was killed by signal 9 (KILL)") != std::string::npos);
  cr_assert(result.error().message.starts_with("the helper (process "));

  ChildTask thrown = start([]() -> std::string { throw std::runtime_error("no"); });
  result = outcome(thrown);
  cr_assert(!result.ok());
  cr_assert(result.error().message.find("exited with status 70") != std::string::npos);

  // One that ends without having said anything is no success: its result is not sealed.
  ChildTask silent = start([]() -> std::string { std::_Exit(0); });
  result = outcome(silent);
  cr_assert(!result.ok() && no_child_is_left());
}

Test(child_task, is_killed_when_it_takes_too_long) {
  for (const int how : {0, SIGSTOP}) {
    // Before the start: the time runs from there, and a fork may take some of it.
    const int64_t begin = monotonic_ms();
    ChildTask child = start(
        [how]() -> std::string {
          if (how != 0) raise(how);
          for (;;) pause();
        },
        Duration(100));
    const Result<std::string> result = outcome(child);
    cr_assert(!result.ok());
    cr_assert(result.error().message == "the helper took too long and was killed");
    cr_assert(monotonic_ms() - begin >= 99 && no_child_is_left());
  }
}

Test(child_task, ends_with_its_owner) {
  const size_t before = open_descriptors();
  {
    ChildTask first = start([]() -> std::string {
      for (;;) pause();
    });
    const ChildTask moved = std::move(first);
  }
  cr_assert(no_child_is_left() && open_descriptors() == before);
}

Test(child_task, holds_what_it_was_given_and_nothing_else) {
  const UniqueFd given(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd kept(open("/dev/null", O_RDONLY | O_CLOEXEC));
  ChildTask child = start(
      [&]() -> std::string {
        return std::string(fcntl(given.get(), F_GETFD) >= 0 ? "given" : "-") +
               (fcntl(kept.get(), F_GETFD) >= 0 ? " kept" : "");
      },
      Duration(15'000), {given.get()});
  const Result<std::string> result = outcome(child);
  cr_assert(result.ok() && *result == "given");
}
