// The master: binds, forks, supervises, reloads, hands over. It parses no byte from the network.
//
// run_master() does, in this order: daemonise if told to; lock the pid file; resolve user and
// group; bind every listening socket; open the logs; fork the workers; wait until all of them are
// ready; report success; start the agent; then supervise until it is told to stop.
//
// Guarantees
// - A failure before all workers are ready undoes everything that was done and is reported with
//   every reason at once; the exit code is 1, also of the process that daemonised.
// - The master holds one listening socket for each worker and address. They outlive the workers, so
//   a connection in the accept queue of a worker that died is served by its replacement.
// - A worker that dies is replaced: the first time at once, then after 100 ms, doubled up to 10 s
//   while its replacements die within five seconds of their start.
// - A worker has its own descriptors and no others: its listening sockets, channel, logs, the
//   configuration's bytes, the shared segment, and 0 to 2.
// - Workers learn of orders by their channel only. They ignore the terminal's signals, which a
//   shell sends to the whole group.
//
// Signals: QUIT drains (again, or TERM: stops fast); TERM and INT stop fast (again: kills); USR1
// reopens the logs; HUP reloads (core/reload.h); USR2 upgrades (core/upgrade.h). The control socket
// (core/master_control.h) can do the same, and tells what came of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/certificate_load.h"
#include "core/check_answer.h"
#include "core/config_source.h"
#include "core/control_message.h"
#include "core/process_plan.h"
#include "core/resolver.h"
#include "core/result.h"
#include "core/shared_memory.h"
#include "core/unique_fd.h"
#include "core/upgrade.h"
#include "core/worker_context.h"

namespace gatehouse {

// What the master leaves to those who know more than processes.
struct MasterCalls {
  // Sends kReady on the channel when it accepts connections, obeys the channel, and ignores SIGPIPE
  // (set already).
  WorkerMain worker_main;
  // Compiles a configuration, in a child of the master's.
  std::function<CheckAnswer(std::shared_ptr<const ConfigSource>)> check;
  // Answers `explain` of the control socket, in a child of the master's: the text, or why not.
  std::function<Result<std::string>(std::shared_ptr<const ConfigSource>, const NameTable&,
                                    const nlohmann::json& body)>
      explain;
  // Makes room for so many workers in the shared tables. Called before a fork.
  std::function<Result<void>(uint32_t rows)> make_rows = [](uint32_t) { return Result<void>(); };
  // Called in the master after a worker's end and before its replacement starts, so that what the
  // dead worker held (gauges, in-flight counts) can be zeroed in its row of shared tables.
  std::function<void(uint32_t row)> on_worker_exit;
  // Adds what the shared tables know of the workers ("connections", "requests", …) to a status.
  std::function<void(uint32_t row, nlohmann::json& worker)> describe_worker;
};

// What it begins with.
struct MasterStart {
  std::string config_path;
  std::string version;  // of the program
  UniqueFd config;      // the sealed bytes
  ProcessPlan plan;     // what they ask for
  NameTable names;
  CertificateBundlePtr certificates;  // that the plan asks for
  std::optional<Handover> handover;   // of the master that this one is to replace
};

// Returns the exit code for the calling process: 0 after a clean stop (or, where it daemonised,
// once the daemon is up), 1 after a failure that has been logged. Only workers do not return: they
// end in exit(). REQUIRES: the process has one thread; `shared` and `calls` outlive the call.
int run_master(MasterStart start, SharedMemory& shared, const MasterCalls& calls);

}  // namespace gatehouse
