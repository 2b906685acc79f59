// The master's set-up and its loop. See master.h; what others ask of it is in master_control.cc.
#include "core/master.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "core/master_process.h"
#include "core/process_privileges.h"
#include "core/process_title.h"

namespace gatehouse {
namespace {

// All workers must be ready this soon after the start, or the start has failed.
constexpr Duration kStartTimeout{60'000};
// What workers get after kStop before they are killed.
constexpr Duration kStopTimeout{5'000};
// What workers get beyond drain_timeout, which they keep themselves.
constexpr Duration kDrainGrace{1'000};
// After that a reopen is over, though some worker has not answered.
constexpr Duration kReopenTimeout{5'000};
// Between two looks at the workers where the kernel cannot wait for them.
constexpr int kShortWaitMs = 100;

// A start-up error is wanted where the command was typed, also once the log goes to a file.
void report_start_error(const std::string& message) {
  GH_LOG(kError, "cannot start: {}", message);
  if (log_descriptor() != STDERR_FILENO) {
    fmt::print(stderr, "gatehouse: cannot start: {}\n", message);
  }
}

}  // namespace

Master::Master(MasterStart start, SharedMemory& shared, const MasterCalls& calls,
               std::optional<DaemonStart> daemon, SignalIntake signals)
    : start_(std::move(start)),
      shared_(shared),
      calls_(calls),
      daemon_(std::move(daemon)),
      signals_(std::move(signals)),
      control_([this](ControlRequest request) { on_control(std::move(request)); }),
      started_us_(wall_clock_us()) {}

const ProcessPlan& Master::plan() const {
  return supervisor_ ? supervisor_->current()->plan : first_->plan;
}

int Master::run() {
  if (!prepare()) {
    if (start_.handover) {
      (void)say_upgrade_word(start_.handover->talk.get(), UpgradeWord::kFailed,
                             "it cannot start; the error log says why");
    }
    return EXIT_FAILURE;
  }
  make_parts();
  deadline_ = monotonic_now() + kStartTimeout;
  for (;;) {
    // Signals first: a group that is told to stop as a whole must not look like crashes.
    while (std::optional<int> signal = signals_.next()) on_signal(*signal);
    turn();
    if (advance(monotonic_now())) break;
    notify_service();
    wait();
  }
  if (!start_failed_) GH_LOG(kNotice, "stopped");
  return start_failed_ ? EXIT_FAILURE : EXIT_SUCCESS;
}

// Everything before the first fork. Gathers all reasons before it gives up.
bool Master::prepare() {
  auto first = std::make_shared<MasterGeneration>();
  first->number = start_.handover ? start_.handover->generation + 1 : 1;
  first->config = std::move(start_.config);
  first->plan = std::move(start_.plan);
  first->names = std::move(start_.names);
  first_ = first;
  const ProcessPlan& wanted = first->plan;
  std::vector<Error> errors;
  // A master that takes over gets the pid file when the old one lets go of it.
  if (!wanted.pid_file.empty() && !start_.handover) {
    Result<PidFile> pid_file = PidFile::acquire(wanted.pid_file);
    if (!pid_file) {
      // Another gatehouse runs: what else would fail follows from that.
      report_start_error(pid_file.error().message);
      return false;
    }
    pid_file_ = std::move(*pid_file);
  }
  for (const PoolPlan& pool : wanted.pools) {
    if (pool.workers == 0) errors.push_back(Error{"pool " + pool.name + " has no worker"});
  }
  if (wanted.pools.empty()) errors.push_back(Error{"there is no pool of workers"});
  raise_descriptor_limit(descriptors_of_master(wanted));

  Result<RunAs> run_as = resolve_run_as(wanted.user, wanted.group);
  if (run_as) {
    first->run_as = std::move(*run_as);
  } else {
    errors.push_back(Error{wanted.user_where + run_as.error().message});
  }
  if (start_.handover) {
    for (ListenSockets::Inherited& socket : start_.handover->sockets) {
      sockets_.inherit(std::move(socket));
    }
  }
  // Sockets before logs: until the logs are open, errors go to where the command was typed.
  std::vector<Error> more = sockets_.prepare(wanted);
  errors.insert(errors.end(), more.begin(), more.end());
  more = logs_.prepare(wanted, first->owner());
  errors.insert(errors.end(), more.begin(), more.end());
  if (wanted.daemon && errors.empty() &&
      (wanted.error_log.path.empty() || wanted.error_log.path == "stderr")) {
    errors.push_back(Error{"a daemon needs an error_log that is a file"});
  }
  // Beside a master that serves, nothing listens before all workers could accept; see
  // release_workers().
  if (errors.empty() && !start_.handover) errors = sockets_.start_listening(wanted);
  if (errors.empty()) {
    (void)logs_.commit(wanted);
    if (!start_.handover) sockets_.commit(wanted);
  } else {
    sockets_.discard();
  }
  for (const Error& error : errors) report_start_error(error.message);
  return errors.empty();
}

void Master::make_parts() {
  agent_.emplace(shared_, [this](ControlRequest request) { on_agent(std::move(request)); });
  supervisor_.emplace(first_, std::move(start_.certificates), shared_, sockets_, logs_, calls_,
                      start_.handover ? start_.handover->rows : std::vector<uint32_t>(),
                      start_.handover.has_value());
  reload_.emplace(Reload::Parts{.config_path = start_.config_path,
                                .calls = calls_,
                                .supervisor = *supervisor_,
                                .sockets = sockets_,
                                .logs = logs_,
                                .agent = *agent_});
  swap_.emplace(*supervisor_);
}

// ---- The loop -----------------------------------------------------------------------------------

void Master::turn() {
  const Moment now = monotonic_now();
  supervisor_->turn(now);
  if (control_.is_open() || control_.clients() > 0) control_.turn(now);
  agent_->turn(now);
  if (phase_ == Phase::kRunning && !upgrade_.is_running()) {
    if (!swap_->is_busy()) reload_->turn(now);
    swap_->turn(now, reload_->is_idle());
  }
  if (phase_ == Phase::kRunning && supervisor_->certificates() != listed_) list_for_metrics();
  watch_reopen(now);
  watch_upgrade(now);
  watch_explanations(now);
}

void Master::wait() {
  std::vector<pollfd> list = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0}};
  supervisor_->add_descriptors(list);
  control_.add_descriptors(list);
  agent_->add_descriptors(list);
  if (upgrade_.talk_fd() >= 0) {
    list.push_back({.fd = upgrade_.talk_fd(), .events = POLLIN, .revents = 0});
  }
  if (start_.handover && start_.handover->talk) {
    list.push_back({.fd = start_.handover->talk.get(), .events = POLLIN, .revents = 0});
  }
  const Moment now = monotonic_now();
  std::optional<Moment> until = supervisor_->next_deadline(now);
  const auto consider = [&until](std::optional<Moment> moment) {
    if (moment && (!until || *moment < *until)) until = moment;
  };
  consider(deadline_);
  consider(control_.next_deadline());
  consider(agent_->next_deadline(now));
  consider(upgrade_.deadline());
  if (phase_ == Phase::kRunning && !upgrade_.is_running()) {
    if (!swap_->is_busy()) consider(reload_->next_deadline());
    consider(swap_->next_deadline(reload_->is_idle()));
  }
  if (reopen_.sequence != 0) consider(reopen_.deadline);
  for (const Explanation& explanation : explanations_) consider(explanation.child.deadline());
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
  const bool late = deadline_ && *deadline_ <= now;
  if (start_.handover && start_.handover->talk) hear_old_master();
  switch (phase_) {
    case Phase::kStarting:
      if (supervisor_->failed_early()) {
        fail_start("a worker ended before it was ready; the error log says why");
      } else if (start_.handover && !released_) {
        if (supervisor_->all_waiting()) release_workers();
      } else if (supervisor_->all_ready()) {
        finish_start();
      } else if (late) {
        fail_start(fmt::format("not ready within {} s: {}", kStartTimeout.count() / 1000,
                               supervisor_->unready()));
      }
      break;
    case Phase::kAwaiting:
    case Phase::kRunning:
      break;
    case Phase::kDraining:
    case Phase::kStopping:
    case Phase::kKilling:
      if (supervisor_->none_alive() && agent_->is_gone() && !upgrade_.is_unconfirmed()) return true;
      if (late) kill_now();
      break;
  }
  return false;
}

void Master::finish_start() {
  if (start_.handover && start_.handover->talk) {
    Result<void> said = say_upgrade_word(start_.handover->talk.get(), UpgradeWord::kReady);
    if (said) {
      phase_ = Phase::kAwaiting;
      deadline_.reset();
      return;
    }
    // The old master has died meanwhile.
  }
  if (daemon_) {
    if (Result<void> reported = daemon_->report_success(log_descriptor()); !reported) {
      fail_start(reported.error().message);
      return;
    }
  }
  take_charge();
}

// From here on this is the gateway's master.
void Master::take_charge() {
  phase_ = Phase::kRunning;
  deadline_.reset();
  if (start_.handover) inherit_pid_file();
  sockets_.take_paths();
  open_control(start_.handover.has_value());
  if (start_.handover && start_.handover->talk) {
    // The old master has waited with its answer to whoever asked for the upgrade.
    (void)say_upgrade_word(start_.handover->talk.get(), UpgradeWord::kInCharge);
  }
  GH_LOG(kNotice, "started: {} workers, {} listening sockets", supervisor_->size(),
         sockets_.count());
  agent_->serve(supervisor_->current());
  AgentProcess::Record record;
  record.body = {{"generation", first_->number},
                 {"time_us", wall_clock_us()},
                 {"by", start_.handover ? "upgrade" : "start"},
                 {"outcome", "applied"},
                 {"error", ""}};
  record.bytes = UniqueFd(fcntl(first_->config.get(), F_DUPFD_CLOEXEC, 0));
  agent_->store(std::move(record));
  first_.reset();  // its bytes are given up once another generation serves
}

void Master::fail_start(const std::string& reason) {
  report_start_error(reason);
  if (start_.handover && start_.handover->talk) {
    (void)say_upgrade_word(start_.handover->talk.get(), UpgradeWord::kFailed, reason);
  }
  start_failed_ = true;
  stop_fast();
}

void Master::on_signal(int signal) {
  switch (signal) {
    case SIGQUIT:
      if (phase_ < Phase::kDraining) {
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
      reopen_.wanted = true;
      begin_reopen();
      break;
    case SIGHUP:
      reload(ReloadRequest("signal"));
      break;
    case SIGUSR2:
      begin_upgrade();
      break;
    default:  // CHLD: turn() reaps
      break;
  }
}

// ---- Stopping -----------------------------------------------------------------------------------

void Master::drain() {
  GH_LOG(kNotice, "stopping gracefully: workers finish their exchanges, up to {} ms",
         plan().drain_timeout.count());
  reload_->refuse_all("the gateway is stopping");
  swap_->refuse_all("the gateway is stopping");
  upgrade_.cancel("the gateway is stopping");
  phase_ = Phase::kDraining;
  deadline_ = monotonic_now() + plan().drain_timeout + kDrainGrace;
  supervisor_->stop_restarts();
  supervisor_->order_all(ChannelVerb::kDrain);
  agent_->stop(monotonic_now());
  // With our copies gone, the kernel refuses new connections once the workers close theirs.
  sockets_.close();
}

void Master::stop_fast() {
  GH_LOG(kNotice, "stopping at once");
  reload_->refuse_all("the gateway is stopping");
  swap_->refuse_all("the gateway is stopping");
  upgrade_.cancel("the gateway is stopping");
  phase_ = Phase::kStopping;
  deadline_ = monotonic_now() + kStopTimeout;
  supervisor_->stop_restarts();
  supervisor_->order_all(ChannelVerb::kStop);
  agent_->stop(monotonic_now());
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

// ---- Logs ---------------------------------------------------------------------------------------

// One at a time, and none while a generation is on its way: a worker would not know which files
// are meant.
void Master::begin_reopen() {
  if (!reopen_.wanted || reopen_.sequence != 0 || supervisor_->preparing() != nullptr) return;
  GH_LOG(kNotice, "reopening the logs");
  reopen_.wanted = false;
  logs_.reopen();
  reopen_.sequence = supervisor_->reopen_logs();
  agent_->pass_error_log(monotonic_now());
  reopen_.asked = std::exchange(reopen_.next, {});
  reopen_.deadline = monotonic_now() + kReopenTimeout;
}

void Master::watch_reopen(Moment now) {
  if (reopen_.sequence == 0) return begin_reopen();
  const bool done = supervisor_->reopened(reopen_.sequence);
  if (!done && now < reopen_.deadline) return;
  reopen_.sequence = 0;
  for (const auto& reply : std::exchange(reopen_.asked, {})) {
    reply(done ? control_ok()
               : control_error("some worker has not said that it writes to the new files"));
  }
  begin_reopen();
}

// ---- systemd ------------------------------------------------------------------------------------

// Tells the service manager each change of state, once.
void Master::notify_service() {
  if (!service_.is_wanted() || handed_over_ || start_failed_) return;
  ServiceState state = ServiceState::kStarting;
  if (phase_ == Phase::kRunning) {
    state = reload_->is_idle() ? ServiceState::kReady : ServiceState::kReloading;
  } else if (phase_ >= Phase::kDraining) {
    state = ServiceState::kStopping;
  }
  if (state == service_state_) return;
  service_state_ = state;
  Result<void> told;
  if (state == ServiceState::kReady) {
    const ReloadOutcome& last = reload_->last().outcome;
    told = service_.ready(getpid(),
                          fmt::format("generation {} serves{}", supervisor_->current()->number,
                                      last.error.empty() ? "" : "; the last reload was refused"));
  } else if (state == ServiceState::kReloading) {
    told = service_.reloading(monotonic_now(), "reloading");
  } else if (state == ServiceState::kStopping) {
    told = service_.stopping("stopping");
  }
  if (!told) GH_LOG(kWarn, "{}", told.error().message);
}

int run_master(MasterStart start, SharedMemory& shared, const MasterCalls& calls) {
  std::optional<DaemonStart> daemon;
  // A master that takes over is in the background already, if the old one was.
  if (start.plan.daemon && !start.handover) {
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
  Master master(std::move(start), shared, calls, std::move(daemon), std::move(*signals));
  return master.run();
}

}  // namespace gatehouse
