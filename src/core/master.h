// The master: binds, forks, supervises, hands over. It parses no byte from the network.
//
// run_master() does, in this order: daemonise if told to; lock the pid file; resolve user and
// group; open the logs; bind every listening socket; fork the workers; wait until all of them are
// ready; report success; then supervise until it is told to stop.
//
// Guarantees
// - A failure before all workers are ready undoes everything that was done and is reported with
//   every reason at once; the exit code is 1, also of the process that daemonised.
// - The master holds one listening socket for each worker and address. They outlive the workers, so
//   a connection in the accept queue of a worker that died is served by its replacement.
// - A worker that dies is replaced: the first time at once, then after 100 ms, doubled up to 10 s
//   while its replacements die within five seconds of their start.
// - A worker has its own descriptors and no others: its listening sockets, channel, logs, the
//   shared segment, and 0 to 2.
// - Workers learn of orders by their channel only. They ignore the terminal's signals, which a
//   shell sends to the whole group.
//
// Signals: QUIT drains (again, or TERM: stops fast); TERM and INT stop fast (again: kills); USR1
// reopens the logs; HUP and USR2 say in the log that they need a restart in this version.
#pragma once

#include <functional>

#include "core/process_plan.h"
#include "core/result.h"
#include "core/shared_memory.h"
#include "core/worker_context.h"

namespace gatehouse {

// Runs in the worker process; what it returns is the process's exit code. It sends kReady on the
// channel when it accepts connections, obeys the channel, and ignores SIGPIPE (set already).
using WorkerMain = std::function<int(WorkerContext)>;

// Returns the exit code for the calling process: 0 after a clean stop (or, where it daemonised,
// once the daemon is up), 1 after a failure that has been logged. Only workers do not return: they
// end in exit(). REQUIRES: the process has one thread; `shared` outlives the call.
int run_master(const ProcessPlan& plan, SharedMemory& shared, const WorkerMain& worker_main);

}  // namespace gatehouse
