// Work in a child of the master. See child_task.h.
#include "core/child_task.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include "core/log.h"
#include "core/process_end.h"
#include "core/process_title.h"
#include "core/process_worker.h"
#include "core/sealed_bytes.h"
#include "core/signals.h"

namespace gatehouse {
namespace {

// What a child may answer.
constexpr size_t kResultMax = size_t{128} << 20;
constexpr int kChildFailed = 70;

[[noreturn]] void become_child(const std::string& name, const RunAs& run_as, std::vector<int> fds,
                               int result, const ChildTask::Work& work) {
  reset_signals_in_worker();
  (void)setpriority(PRIO_PROCESS, 0, kPatientNice);
  set_process_title("gatehouse: " + name);
  log_set_identity(name);
  fds.push_back(result);
  fds.push_back(log_descriptor());
  Result<void> done = close_other_descriptors(std::move(fds));
  if (done) done = drop_privileges(run_as);
  if (done) {
    try {
      done = write_and_seal(result, work());
    } catch (const std::exception& problem) {
      done = Error{std::string("uncaught exception: ") + problem.what()};
    }
  }
  if (!done) GH_LOG(kError, "{}", done.error().message);
  // Nothing of the master's may be undone here.
  std::_Exit(done ? EXIT_SUCCESS : kChildFailed);
}

}  // namespace

Result<ChildTask> ChildTask::start(std::string name, const RunAs& run_as, std::vector<int> fds,
                                   Moment deadline, const Work& work) {
  UniqueFd result(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!result) return errno_error("cannot make a place for the result of " + name, errno);
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) become_child(name, run_as, std::move(fds), result.get(), work);
  if (pid < 0) return errno_error("cannot fork " + name, errno);
  return ChildTask(std::move(name), pid, std::move(result), deadline);
}

ChildTask::ChildTask(ChildTask&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      result_(std::move(other.result_)),
      deadline_(other.deadline_) {}

ChildTask::~ChildTask() {
  if (pid_ < 0) return;
  kill_process(pid_);
}

std::optional<Result<std::string>> ChildTask::poll(Moment now) {
  const std::optional<ProcessEnd> end = reap_process(pid_);
  if (!end) {
    if (now < deadline_) return std::nullopt;
    kill_process(std::exchange(pid_, -1));
    return Error{"the " + name_ + " took too long and was killed"};
  }
  const pid_t pid = std::exchange(pid_, -1);
  if (end->known && !end->is_clean()) {
    return Error{
        fmt::format("the {} (process {}) {}; the error log may say why", name_, pid, end->text())};
  }
  return read_sealed(result_.get(), kResultMax);
}

}  // namespace gatehouse
