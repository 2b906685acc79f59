// Starting, watching and asking the agent. See agent_process.h.
#include "core/agent_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/process_title.h"
#include "core/process_worker.h"
#include "core/sealed_bytes.h"
#include "core/signals.h"

namespace gatehouse {
namespace {

constexpr std::string_view kProgram = "gatehouse-agent";
// Applied configurations that wait for an agent to keep them.
constexpr size_t kRecordsMax = 64;
// An agent whose heart has not beaten for so long is killed and started anew.
constexpr Duration kHungAfter{10'000};
// How often its heartbeat is looked at.
constexpr Duration kLookEvery{1'000};
constexpr Duration kAnswerTimeout{10'000};
constexpr Duration kStopTimeout{1'000};

// Beside the program that runs, also after another file took its place.
std::string agent_program() {
  const std::string self = program_path();
  const size_t slash = self.rfind('/');
  return (slash == std::string::npos ? "./" : self.substr(0, slash + 1)) + std::string(kProgram);
}

// The agent may not make its folder where only root may write.
void make_state_folder(const std::string& path, const RunAs& run_as) {
  if (path.empty() || mkdir(path.c_str(), 0700) != 0) return;
  if (run_as.change && lchown(path.c_str(), run_as.user, run_as.group) != 0) {
    GH_LOG(kWarn, "cannot give {} to {}: {}", path, run_as.name, std::strerror(errno));
  }
}

}  // namespace

AgentProcess::AgentProcess(SharedMemory& shared, ControlPeer::RequestHandler on_request)
    : shared_(shared), on_request_(std::move(on_request)), program_(agent_program()) {
  Result<AgentHeartbeat*> heartbeat = open_agent_heartbeat(shared);
  if (heartbeat) {
    heartbeat_ = *heartbeat;
  } else {
    GH_LOG(kError, "agent: {}", heartbeat.error().message);
  }
}

AgentProcess::~AgentProcess() {
  if (pid_ < 0) return;
  kill_process(pid_);
}

void AgentProcess::serve(MasterGenerationPtr generation) {
  const bool moved = generation_ && (generation_->plan.agent.user != generation->plan.agent.user ||
                                     generation_->plan.user != generation->plan.user ||
                                     generation_->plan.group != generation->plan.group);
  generation_ = std::move(generation);
  if (stopping_) return;
  if (!generation_->plan.agent.on) {
    records_.clear();
    record_sent_ = 0;
  }
  if (!generation_->plan.agent.on || moved) {
    start_at_.reset();
    // Where it shall run under another user, its end is followed by a new start.
    if (pid_ >= 0) kill(pid_, SIGTERM);
  }
  if (generation_->plan.agent.on && pid_ < 0) start_at_ = Moment{0};
}

void AgentProcess::stop(Moment now) {
  stopping_ = true;
  start_at_.reset();
  if (pid_ < 0) return;
  kill(pid_, SIGTERM);
  kill_at_ = now + kStopTimeout;
}

bool AgentProcess::is_ready() const {
  return ready_ && !hung_;
}

// ---- Life and death -----------------------------------------------------------------------------

void AgentProcess::start(Moment now) {
  start_at_.reset();
  const ProcessPlan& plan = generation_->plan;
  const auto failed = [&](const Error& error) {
    const Duration delay = std::max(backoff_.next_delay(Duration{0}), RestartBackoff::kFirstDelay);
    start_at_ = now + delay;
    GH_LOG(kWarn, "agent: not started, tried again in {} ms: {}", delay.count(), error.message);
  };
  const std::string& user = plan.agent.user.empty() ? plan.user : plan.agent.user;
  Result<RunAs> run_as =
      geteuid() == 0 ? resolve_run_as(user, plan.agent.user.empty() ? plan.group : "") : RunAs();
  if (!run_as) return failed(run_as.error());
  // Opened with the master's rights: the agent's user may not get as far as the file.
  const UniqueFd program(open(program_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!program) return failed(errno_error(program_, errno));
  make_state_folder(plan.agent.state, *run_as);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
    return failed(errno_error("cannot make a channel", errno));
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) become_agent(program.get(), std::move(theirs), *run_as);
  if (pid < 0) return failed(errno_error("cannot fork", errno));
  pid_ = pid;
  started_ = beat_changed_ = now;
  beat_seen_ = 0;
  hello_sent_ = ready_ = hung_ = false;
  record_sent_ = 0;
  told_ = 0;
  ++incarnation_;
  peer_ = std::make_unique<ControlPeer>(std::move(ours), on_request_);
  GH_LOG(kInfo, "agent: started as process {}", pid);
}

void AgentProcess::become_agent(int program, UniqueFd channel, const RunAs& run_as) const {
  reset_signals_in_worker();
  (void)setpriority(PRIO_PROCESS, 0, kPatientNice);
  log_set_identity("agent");
  const auto fail = [](const std::string& what) {
    GH_LOG(kError, "the agent cannot start: {}", what);
    std::_Exit(kWorkerSetupFailed);
  };
  if (log_descriptor() != STDERR_FILENO) dup2(log_descriptor(), STDERR_FILENO);
  const Result<void> closed = close_other_descriptors({program, channel.get(), shared_.fd()});
  if (!closed) fail(closed.error().message);
  for (const int fd : {channel.get(), shared_.fd()}) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) fail(std::strerror(errno));
  }
  const Result<void> dropped = drop_privileges(run_as);
  if (!dropped) fail(dropped.error().message);
  std::string arguments[] = {std::string(kProgram), "--channel", std::to_string(channel.get()),
                             "--shared", std::to_string(shared_.fd())};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  fexecve(program, pointers.data(), environ);
  fail(program_ + ": " + std::strerror(errno));
  std::_Exit(kWorkerSetupFailed);
}

void AgentProcess::died(Moment now, const ProcessEnd& how) {
  const pid_t pid = std::exchange(pid_, -1);
  // Whoever waits for an answer learns that there will be none.
  if (peer_) {
    peer_->turn(now);
    peer_->close("the agent has ended");
    peer_->turn(now);
    peer_.reset();
  }
  ready_ = hung_ = false;
  kill_at_.reset();
  const bool wanted = !stopping_ && generation_->plan.agent.on;
  const std::string end = how.text();
  if (!wanted) {
    GH_LOG(kInfo, "agent: process {} {}", pid, end);
    return;
  }
  // Also after a clean end: a program that ends at once must not be started as fast as it ends.
  const Duration delay = backoff_.next_delay(now - started_);
  start_at_ = now + delay;
  if (how.is_clean()) {
    GH_LOG(kNotice, "agent: process {} {}; a new one starts", pid, end);
  } else {
    GH_LOG(kError, "agent: process {} {}; a replacement starts {}", pid, end,
           delay.count() == 0 ? "at once" : fmt::format("in {} ms", delay.count()));
  }
}

void AgentProcess::watch_heartbeat(Moment now) {
  if (heartbeat_ == nullptr) return;
  const int64_t beat = beat_us();
  if (beat != beat_seen_) {
    beat_seen_ = beat;
    beat_changed_ = now;
    hung_ = false;
    return;
  }
  if (now - beat_changed_ < kHungAfter || hung_) return;
  hung_ = true;
  GH_LOG(kError, "agent: process {} has not stirred for {} s and is killed", pid_,
         kHungAfter.count() / 1000);
  kill(pid_, SIGKILL);
}

// ---- Talking ------------------------------------------------------------------------------------

void AgentProcess::ask(std::string command, nlohmann::json body, std::vector<int> fds,
                       Moment deadline, ControlPeer::AnswerHandler on_answer) {
  if (!peer_) {
    unasked_.push_back(std::move(on_answer));
    return;
  }
  std::vector<UniqueFd> copies;
  for (const int fd : fds) copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  peer_->ask(std::move(command), std::move(body), std::move(copies), deadline,
             std::move(on_answer));
}

void AgentProcess::reply(uint64_t request, ControlReply reply) {
  if (peer_) peer_->reply(request, std::move(reply));
}

void AgentProcess::pass_error_log(Moment now) {
  if (!is_ready()) return;  // one that starts later begins with it
  ask("reopen", {}, {log_descriptor()}, now + kAnswerTimeout, [](Result<ControlReply> reply) {
    if (reply && reply->ok) return;
    GH_LOG(kWarn, "agent: does not take the error log: {}",
           reply ? reply->error() : reply.error().message);
  });
}

void AgentProcess::store(Record record) {
  if (generation_ == nullptr || !generation_->plan.agent.on) return;  // nobody will ask for it
  records_.push_back(std::move(record));
  if (records_.size() > kRecordsMax) {
    GH_LOG(kWarn, "agent: too many configurations wait to be kept; the oldest is not");
    records_.pop_front();
    record_sent_ = 0;
  }
}

void AgentProcess::hello(Moment now) {
  hello_sent_ = true;
  ask("hello", {}, {}, now + kAnswerTimeout,
      [this, incarnation = incarnation_](Result<ControlReply> reply) {
        if (incarnation != incarnation_) return;
        if (reply && reply->ok) {
          ready_ = true;
        } else if (peer_ && peer_->is_open()) {
          // Asked again only where there is somebody who could answer.
          GH_LOG(kWarn, "agent: no greeting: {}", reply ? reply->error() : reply.error().message);
          hello_sent_ = false;
        }
      });
}

void AgentProcess::tell_current(Moment now) {
  told_ = generation_->number;
  std::vector<int> fds{generation_->config.get()};
  // As bytes of their own: they may be longer than a message.
  const Result<UniqueFd> traffic = seal_bytes("gatehouse traffic", generation_->plan.agent.traffic);
  if (traffic) {
    fds.push_back(traffic->get());
  } else {
    GH_LOG(kError, "agent: cannot tell it the upstreams: {}", traffic.error().message);
  }
  ask("current", {{"generation", generation_->number}}, std::move(fds), now + kAnswerTimeout,
      [](Result<ControlReply> reply) {
        if (reply && reply->ok) return;
        GH_LOG(kWarn, "agent: does not take the new configuration: {}",
               reply ? reply->error() : reply.error().message);
      });
}

// One after the other; what the agent refuses (a full disk) is said and not tried again.
void AgentProcess::send_records(Moment now) {
  if (record_sent_ != 0 || records_.empty()) return;
  record_sent_ = ++records_sent_;
  const Record& record = records_.front();
  std::vector<int> fds;
  if (record.bytes) fds.push_back(record.bytes.get());
  ask("store", record.body, fds, now + kAnswerTimeout,
      [this, number = record_sent_](Result<ControlReply> reply) {
        if (number != record_sent_) return;  // that one is gone, or another agent's matter
        record_sent_ = 0;
        if (!reply) return;  // no answer: tried again
        if (!reply->ok) GH_LOG(kWarn, "agent: not in the history: {}", reply->error());
        records_.pop_front();
      });
}

// ---- The master's loop --------------------------------------------------------------------------

void AgentProcess::turn(Moment now) {
  for (ControlPeer::AnswerHandler& handler : std::exchange(unasked_, {})) {
    handler(Error{"the agent does not run"});
  }
  if (peer_) peer_->turn(now);
  if (pid_ >= 0) {
    if (const std::optional<ProcessEnd> end = reap_process(pid_)) died(now, *end);
  }
  if (pid_ < 0) {
    if (start_at_ && *start_at_ <= now) start(now);
    return;
  }
  if (kill_at_ && *kill_at_ <= now) kill(pid_, SIGKILL);
  watch_heartbeat(now);
  if (!hello_sent_) hello(now);
  if (!ready_) return;
  if (told_ != generation_->number) tell_current(now);
  send_records(now);
}

void AgentProcess::add_descriptors(std::vector<pollfd>& list) const {
  if (peer_ && peer_->is_open()) {
    list.push_back({.fd = peer_->fd(), .events = peer_->events(), .revents = 0});
  }
}

std::optional<Moment> AgentProcess::next_deadline(Moment now) const {
  if (!unasked_.empty()) return now;
  if (pid_ < 0) return start_at_;
  Moment next = now + kLookEvery;
  if (kill_at_) next = std::min(next, *kill_at_);
  if (peer_) {
    if (const std::optional<Moment> due = peer_->next_deadline()) next = std::min(next, *due);
  }
  return next;
}

std::string_view AgentProcess::state_name() const {
  if (generation_ && !generation_->plan.agent.on) return pid_ < 0 ? "off" : "stopping";
  if (stopping_) return "stopping";
  if (pid_ < 0) return "waiting";
  if (hung_) return "hung";
  return ready_ ? "ready" : "starting";
}

int64_t AgentProcess::beat_us() const {
  if (heartbeat_ == nullptr || heartbeat_->pid.load(std::memory_order_acquire) != pid_) return 0;
  return heartbeat_->beat_us.load(std::memory_order_relaxed);
}

}  // namespace gatehouse
