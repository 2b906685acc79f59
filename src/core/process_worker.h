// The first steps of a worker process, between fork() and its own main function.
#pragma once

#include <vector>

#include "core/process_privileges.h"
#include "core/result.h"
#include "core/worker_context.h"

namespace gatehouse {

// The exit code of a worker that could not be set up; its log line says why.
inline constexpr int kWorkerSetupFailed = 70;

// The priority (nice) of what can wait: children that check, the agent. Traffic goes first where
// both want the processor.
inline constexpr int kPatientNice = 5;

// Closes every descriptor of this process but 0 to 2 and `keep`.
Result<void> close_other_descriptors(std::vector<int> keep);

// Makes this process the worker that `context` describes and ends in exit() with what
// `worker_main` returns. The master's objects are not destroyed here: their descriptors are closed
// by number, and nothing else of theirs may be undone by a worker.
struct WorkerSetup {
  uint32_t nofile_wanted = 0;
  bool let_go_of_streams = false;  // the master is a daemon
  const RunAs& run_as;
};
[[noreturn]] void become_worker(WorkerContext context, const WorkerSetup& setup,
                                const WorkerMain& worker_main);

}  // namespace gatehouse
