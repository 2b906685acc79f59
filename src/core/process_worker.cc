// Becoming a worker. See process_worker.h.
#include "core/process_worker.h"

#include <dirent.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "core/log.h"
#include "core/process_daemon.h"
#include "core/process_title.h"
#include "core/shared_memory.h"
#include "core/signals.h"

namespace gatehouse {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// For kernels and sandboxes without close_range(): goes by the list that /proc keeps.
Result<void> close_by_list(const std::vector<int>& keep) {
  std::unique_ptr<DIR, CloseDirectory> directory(opendir("/proc/self/fd"));
  if (!directory) return errno_error("cannot list the open descriptors", errno);
  std::vector<int> found;
  while (const dirent* entry = readdir(directory.get())) {
    std::string_view name(entry->d_name);
    int fd = -1;
    std::from_chars(name.data(), name.data() + name.size(), fd);
    if (fd > STDERR_FILENO && fd != dirfd(directory.get())) found.push_back(fd);
  }
  for (int fd : found) {
    if (!std::binary_search(keep.begin(), keep.end(), fd)) close(fd);
  }
  return {};
}

std::vector<int> descriptors_of(const WorkerContext& context) {
  std::vector<int> keep = {context.channel_fd, log_descriptor(), context.shared->fd(),
                           context.config_fd, context.certificates_fd};
  for (const WorkerSocket& listener : context.plan.sockets) keep.push_back(listener.fd);
  for (const WorkerLog& file : context.plan.logs) keep.push_back(file.fd);
  return keep;
}

// How long the event loop wants to run at a time. It runs for microseconds and then waits; who asks
// for less at a time than the others gets the processor sooner (Linux 6.12; before that it is not
// looked at). Measured beside compilers on both processors: half of the time between a wake-up and
// running, and half of the 99th percentile of the latency. The threads that the worker starts do
// not inherit it.
constexpr uint64_t kTurnNs = 100'000;

// struct sched_attr as sched_setattr(2) has it: the kernel's header cannot be used beside glibc's.
struct SchedulingWish {
  static constexpr uint64_t kResetOnFork = 1;
  uint32_t size = 48;  // of this version of it
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = kResetOnFork;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};
static_assert(sizeof(SchedulingWish) == 48);

void ask_for_short_turns() {
  if (sched_getscheduler(0) != SCHED_OTHER) return;  // the operator knows better
  SchedulingWish wanted;
  wanted.nice = getpriority(PRIO_PROCESS, 0);
  wanted.runtime_ns = kTurnNs;
  // Where it is refused the worker is as fast as the others.
  (void)syscall(SYS_sched_setattr, 0, &wanted, 0);
}

// All steps in the order in which they must come: the limit needs root, the log must be usable.
Result<void> set_up(WorkerContext& context, const WorkerSetup& setup) {
  reset_signals_in_worker();
  std::string name = fmt::format("worker {}/{}", context.pool, context.index);
  set_process_title("gatehouse: " + name);
  log_set_identity(name);
  if (Result<void> closed = close_other_descriptors(descriptors_of(context)); !closed) {
    return closed;
  }
  if (setup.let_go_of_streams) {
    if (Result<void> done = let_go_of_streams(log_descriptor()); !done) return done;
  }
  ask_for_short_turns();
  context.nofile = raise_descriptor_limit(setup.nofile_wanted);
  return drop_privileges(setup.run_as);
}

}  // namespace

Result<void> close_other_descriptors(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned first = STDERR_FILENO + 1;
  for (int fd : keep) {
    if (fd < 0 || static_cast<unsigned>(fd) < first) continue;
    auto kept = static_cast<unsigned>(fd);
    if (kept > first && close_range(first, kept - 1, 0) < 0) return close_by_list(keep);
    first = kept + 1;
  }
  if (close_range(first, ~0U, 0) < 0) return close_by_list(keep);
  return {};
}

void become_worker(WorkerContext context, const WorkerSetup& setup, const WorkerMain& worker_main) {
  if (Result<void> ready = set_up(context, setup); !ready) {
    GH_LOG(kError, "the worker cannot start: {}", ready.error().message);
    std::_Exit(kWorkerSetupFailed);
  }
  int code = kWorkerSetupFailed;
  try {
    code = worker_main(std::move(context));
  } catch (const std::exception& problem) {
    GH_LOG(kAlert, "the worker ends: uncaught exception: {}", problem.what());
  }
  // exit() and not _exit(): the checks of a sanitizer build run there.
  std::exit(code);
}

}  // namespace gatehouse
