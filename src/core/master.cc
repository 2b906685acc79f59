// The master's set-up and its loop. See master.h.
#include "core/master.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "core/log.h"
#include "core/pid_file.h"
#include "core/process_daemon.h"
#include "core/process_logs.h"
#include "core/process_privileges.h"
#include "core/process_sockets.h"
#include "core/process_title.h"
#include "core/signals.h"
#include "core/supervisor.h"

namespace gatehouse {
namespace {

// All workers must be ready this soon after the start, or the start has failed.
constexpr Duration kStartTimeout{60'000};
// What workers get after kStop before they are killed.
constexpr Duration kStopTimeout{5'000};
// What workers get beyond drain_timeout, which they keep themselves.
constexpr Duration kDrainGrace{1'000};
constexpr uint32_t kDescriptorsAside = 64;
// Between two looks at the workers where the kernel cannot wait for them.
constexpr int kShortWaitMs = 100;

enum class Phase { kStarting, kRunning, kDraining, kStopping, kKilling };

Moment monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Moment{int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000};
}

// A start-up error is wanted where the command was typed, also once the log goes to a file.
void report_start_error(const std::string& message) {
  GH_LOG(kError, "cannot start: {}", message);
  if (log_descriptor() != STDERR_FILENO) {
    fmt::print(stderr, "gatehouse: cannot start: {}\n", message);
  }
}

class Master {
 public:
  Master(const ProcessPlan& plan, SharedMemory& shared, const WorkerMain& worker_main,
         std::optional<DaemonStart> daemon, SignalIntake signals)
      : plan_(plan),
        daemon_(std::move(daemon)),
        signals_(std::move(signals)),
        shared_(shared),
        worker_main_(worker_main) {}

  int run() {
    if (!prepare()) return EXIT_FAILURE;
    Supervisor supervisor(plan_, shared_, sockets_, logs_, run_as_, worker_main_);
    supervisor_ = &supervisor;
    deadline_ = monotonic_now() + kStartTimeout;
    bool done = false;
    while (!done) {
      // Signals first: a group that is told to stop as a whole must not look like crashes.
      while (std::optional<int> signal = signals_.next()) on_signal(*signal);
      supervisor.turn(monotonic_now());
      done = advance(monotonic_now());
      if (!done) wait();
    }
    if (!start_failed_) GH_LOG(kNotice, "stopped");
    return start_failed_ ? EXIT_FAILURE : EXIT_SUCCESS;
  }

 private:
  bool prepare();
  void wait();
  void on_signal(int signal);
  bool advance(Moment now);
  void finish_start();
  void fail_start(const std::string& reason);
  void drain();
  void stop_fast();
  void kill_now();
  void reopen_logs();

  // In the order of their making; undone in the opposite one.
  const ProcessPlan& plan_;
  std::optional<DaemonStart> daemon_;
  SignalIntake signals_;
  PidFile pid_file_;
  RunAs run_as_;
  LogSet logs_;
  ListenSockets sockets_;
  SharedMemory& shared_;
  const WorkerMain& worker_main_;
  Supervisor* supervisor_ = nullptr;  // lives in run()

  Phase phase_ = Phase::kStarting;
  std::optional<Moment> deadline_;  // of the phase
  bool start_failed_ = false;
};

// Everything before the first fork. Gathers all reasons before it gives up.
bool Master::prepare() {
  std::vector<Error> errors;
  if (!plan_.pid_file.empty()) {
    Result<PidFile> pid_file = PidFile::acquire(plan_.pid_file);
    if (!pid_file) {
      // Another gatehouse runs: what else would fail follows from that.
      report_start_error(pid_file.error().message);
      return false;
    }
    pid_file_ = std::move(*pid_file);
  }
  size_t sockets_wanted = 0;
  for (const PoolPlan& pool : plan_.pools) {
    if (pool.workers == 0) errors.push_back(Error{"pool " + pool.name + " has no worker"});
    for (const ListenerPlan& listener : plan_.listeners) {
      if (listener.pool == pool.name) sockets_wanted += listener.addresses.size() * pool.workers;
    }
    sockets_wanted += pool.workers;
  }
  if (plan_.pools.empty()) errors.push_back(Error{"there is no pool of workers"});
  raise_descriptor_limit(
      static_cast<uint32_t>(sockets_wanted + plan_.log_files.size() + kDescriptorsAside));

  FileOwner owner;
  Result<RunAs> run_as = resolve_run_as(plan_.user, plan_.group);
  if (run_as) {
    run_as_ = std::move(*run_as);
    if (run_as_.change) owner = {run_as_.user, run_as_.group};
  } else {
    errors.push_back(run_as.error());
  }
  // Sockets before logs: until the logs are open, errors go to where the command was typed.
  std::vector<Error> more = sockets_.bind(plan_);
  errors.insert(errors.end(), more.begin(), more.end());
  more = logs_.open(plan_, owner);
  errors.insert(errors.end(), more.begin(), more.end());
  if (plan_.daemon && errors.empty() && log_descriptor() == STDERR_FILENO) {
    errors.push_back(Error{"a daemon needs an error_log that is a file"});
  }
  for (const Error& error : errors) report_start_error(error.message);
  return errors.empty();
}

void Master::wait() {
  std::vector<pollfd> list = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0}};
  supervisor_->add_descriptors(list);
  Moment now = monotonic_now();
  std::optional<Moment> until = supervisor_->next_deadline(now);
  if (deadline_ && (!until || *deadline_ < *until)) until = deadline_;
  timespec timeout{};
  if (until && *until > now) {
    int64_t us = (*until - now).count();
    timeout = {.tv_sec = us / 1'000'000, .tv_nsec = us % 1'000'000 * 1000};
  }
  // The outcome does not matter: whatever woke us, all descriptors are looked at without waiting.
  if (ppoll(list.data(), list.size(), until ? &timeout : nullptr, nullptr) < 0 && errno != EINTR) {
    // Out of memory for the list. One descriptor needs none; the rest is looked at in turn.
    GH_LOG(kError, "cannot wait for the workers: {}", std::strerror(errno));
    poll(list.data(), 1, kShortWaitMs);
  }
}

// Moves on where the workers' state or the clock say so. True: the master is done.
bool Master::advance(Moment now) {
  bool late = deadline_ && *deadline_ <= now;
  switch (phase_) {
    case Phase::kStarting:
      if (supervisor_->failed_early()) {
        fail_start("a worker ended before it was ready; the error log says why");
      } else if (supervisor_->all_ready()) {
        finish_start();
      } else if (late) {
        fail_start(fmt::format("not ready within {} s: {}", kStartTimeout.count() / 1000,
                               supervisor_->unready()));
      }
      break;
    case Phase::kRunning:
      break;
    case Phase::kDraining:
    case Phase::kStopping:
    case Phase::kKilling:
      if (supervisor_->none_alive()) return true;
      if (late) kill_now();
      break;
  }
  return false;
}

void Master::finish_start() {
  if (daemon_) {
    if (Result<void> reported = daemon_->report_success(log_descriptor()); !reported) {
      fail_start(reported.error().message);
      return;
    }
  }
  phase_ = Phase::kRunning;
  deadline_.reset();
  GH_LOG(kNotice, "started: {} workers, {} listening sockets", supervisor_->size(),
         sockets_.count());
}

void Master::fail_start(const std::string& reason) {
  report_start_error(reason);
  start_failed_ = true;
  stop_fast();
}

void Master::on_signal(int signal) {
  switch (signal) {
    case SIGQUIT:
      if (phase_ == Phase::kStarting || phase_ == Phase::kRunning) {
        drain();
      } else if (phase_ == Phase::kDraining) {
        stop_fast();
      }
      break;
    case SIGTERM:
    case SIGINT:
      if (phase_ < Phase::kStopping) {
        stop_fast();
      } else {
        kill_now();
      }
      break;
    case SIGUSR1:
      reopen_logs();
      break;
    case SIGHUP:
      GH_LOG(kWarn, "HUP: this version takes a new configuration only by a restart");
      break;
    case SIGUSR2:
      GH_LOG(kWarn, "USR2: this version is upgraded only by a restart");
      break;
    default:  // CHLD: turn() reaps
      break;
  }
}

void Master::drain() {
  GH_LOG(kNotice, "stopping gracefully: workers finish their exchanges, up to {} ms",
         plan_.drain_timeout.count());
  phase_ = Phase::kDraining;
  deadline_ = monotonic_now() + plan_.drain_timeout + kDrainGrace;
  supervisor_->stop_restarts();
  supervisor_->order_all(ChannelVerb::kDrain);
  // With our copies gone, the kernel refuses new connections once the workers close theirs.
  sockets_.close();
}

void Master::stop_fast() {
  GH_LOG(kNotice, "stopping at once");
  phase_ = Phase::kStopping;
  deadline_ = monotonic_now() + kStopTimeout;
  supervisor_->stop_restarts();
  supervisor_->order_all(ChannelVerb::kStop);
  sockets_.close();
}

void Master::kill_now() {
  size_t count = supervisor_->kill_all();
  if (phase_ != Phase::kKilling && count > 0) {
    GH_LOG(kWarn, "{} workers did not stop in time and were killed", count);
  }
  phase_ = Phase::kKilling;
  // A process in an uninterruptible wait dies later; it is asked for again, without haste.
  deadline_ = monotonic_now() + kDrainGrace;
}

void Master::reopen_logs() {
  GH_LOG(kNotice, "reopening the logs");
  logs_.reopen();
  for (uint32_t index : logs_.indexes()) supervisor_->order_all(ChannelVerb::kReopenLog, index);
}

}  // namespace

int run_master(const ProcessPlan& plan, SharedMemory& shared, const WorkerMain& worker_main) {
  std::optional<DaemonStart> daemon;
  if (plan.daemon) {
    Result<DaemonStart> started = DaemonStart::fork_away();
    if (!started) {
      report_start_error(started.error().message);
      return EXIT_FAILURE;
    }
    if (started->exit_code()) return *started->exit_code();
    daemon = std::move(*started);
  }
  set_process_title("gatehouse: master");
  log_set_identity("master");
  Result<SignalIntake> signals = SignalIntake::open();
  if (!signals) {
    report_start_error(signals.error().message);
    return EXIT_FAILURE;
  }
  Master master(plan, shared, worker_main, std::move(daemon), std::move(*signals));
  return master.run();
}

}  // namespace gatehouse
