// JobThread: the agent's use of core/helper_thread: functions as jobs, a limit on how many wait,
// and a flag to end early. For what would stop the loop: disk, checking a configuration,
// compressing a log.
//
// Jobs are done one after the other, in the order they came. `work` runs on the thread and must
// touch nothing that the loop's thread touches; `done` runs on the loop afterwards, in a later
// turn. The number of jobs that wait is limited: run() says no rather than to let them pile up.
// A job that goes on for long looks at cancelled() now and then.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "core/event_loop.h"
#include "core/helper_thread.h"
#include "core/result.h"

namespace gatehouse {

inline constexpr size_t kJobsMax = 64;

class JobThread {
 public:
  static Result<std::unique_ptr<JobThread>> start(EventLoop& loop);
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;
  // Waits for the job that runs. Jobs that wait are dropped, and no `done` is called any more.
  ~JobThread();

  // False where kJobsMax jobs wait already; nothing is called then.
  bool run(std::function<void()> work, std::function<void()> done = {});

  // Asks the running job to end early; it may not hear.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  const std::atomic<bool>& cancelled() const { return cancelled_; }

  // Nothing runs, nothing waits, and every `done` was called.
  bool idle() const { return pending_ == 0; }

 private:
  class Job;

  JobThread() = default;

  size_t pending_ = 0;  // not delivered yet; the loop's thread only
  std::atomic<bool> cancelled_{false};
  std::unique_ptr<HelperThread> thread_;
};

}  // namespace gatehouse
