// The agent's loop: channel, signals, heartbeat, and the settings of the configuration that serves.
// See agent.h.
#include "agent/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/agent_state.h"
#include "core/log.h"
#include "core/log_files.h"

namespace gatehouse {
namespace {

constexpr Duration kTick{1000};
constexpr Duration kSendAgain{20};
constexpr Duration kReopenTimeout{15'000};
constexpr Duration kListenAgain{5'000};
// At first the agent of a master that is being replaced may still have the address.
constexpr Duration kListenSoon{100};
constexpr int64_t kListenPatienceUs = 3'000'000;
constexpr Duration kFinishTimeout{2'000};

bool same_file(int fd, const std::string& path) {
  struct stat a {
  }, b{};
  return fstat(fd, &a) == 0 && stat(path.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

}  // namespace

Agent::Agent(std::unique_ptr<State> state) : state_(std::move(state)) {}

Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::start(AgentParts parts, UniqueFd channel,
                                            SharedMemory& shared) {
  // Before the threads, which inherit the mask: the signals come by the descriptor only.
  Result<SignalIntake> signals = SignalIntake::open();
  if (!signals) return signals.error();
  auto state = std::make_unique<State>(std::move(parts), shared, std::move(*signals));
  Result<void> opened = state->open(std::move(channel));
  if (!opened) return opened.error();
  return std::unique_ptr<Agent>(new Agent(std::move(state)));
}

Result<void> Agent::State::open(UniqueFd channel) {
  Result<std::unique_ptr<EventLoop>> made = EventLoop::create();
  if (!made) return made.error();
  loop = std::move(*made);
  Result<AgentHeartbeat*> zone = open_agent_heartbeat(shared);
  if (!zone) return zone.error();
  heartbeat = *zone;
  for (std::unique_ptr<JobThread>* thread : {&checking, &disk, &packing}) {
    Result<std::unique_ptr<JobThread>> started = JobThread::start(*loop);
    if (!started) return started.error();
    *thread = std::move(*started);
  }
  const int flags = fcntl(channel.get(), F_GETFL);
  if (flags < 0 || fcntl(channel.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return errno_error("cannot use the channel", errno);
  }
  peer = std::make_unique<ControlPeer>(
      std::move(channel), [this](ControlRequest request) { take(std::move(request)); });
  rotator = std::make_unique<LogRotator>(*packing, [this](LogRotator::Reopened done) {
    peer->ask("reopen", {}, {}, loop->now() + kReopenTimeout,
              [this, done = std::move(done)](Result<ControlReply> reply) {
                if (!reply) return done(reply.error());
                if (!reply->ok) return done(Error{reply->error()});
                adopt_error_log(reply->fds);
                done({});
              });
    poke();
  });
  pages_at.http = std::make_unique<HttpStatus>(*loop, pages());
  api_at.http = std::make_unique<HttpStatus>(*loop, pages());
  Result<std::unique_ptr<TrafficDuty>> duty = TrafficDuty::create(*loop, shared);
  if (!duty) return duty.error();
  traffic = std::move(*duty);
  canaries = std::make_unique<CanaryRunner>(*loop, *disk, shared);

  Result<void> watched = channel_watch.open(
      *loop, peer->fd(), WatchMode::kLevel,
      [](void* self, uint8_t) { static_cast<State*>(self)->pump(); }, this);
  if (!watched) return watched;
  watched = signal_watch.open(
      *loop, signals.fd(), WatchMode::kLevel,
      [](void* self, uint8_t) { static_cast<State*>(self)->read_signals(); }, this);
  if (!watched) return watched;
  tick_timer.set([](void* self) { static_cast<State*>(self)->tick(); }, this);
  pump_timer.set([](void* self) { static_cast<State*>(self)->pump(); }, this);

  figures.pid = getpid();
  figures.started_us = wall_us();
  heartbeat->state.store(static_cast<uint32_t>(AgentState::kStarting), std::memory_order_relaxed);
  heartbeat->started_us.store(figures.started_us, std::memory_order_relaxed);
  heartbeat->beat_us.store(figures.started_us, std::memory_order_relaxed);
  heartbeat->pid.store(figures.pid, std::memory_order_release);
  return {};
}

bool Agent::run() {
  State& state = *state_;
  GH_LOG(kInfo, "started");
  state.tick();
  state.loop->run();

  state.heartbeat->state.store(static_cast<uint32_t>(AgentState::kStopping),
                               std::memory_order_relaxed);
  const Moment end = state.loop->now() + kFinishTimeout;
  const auto idle = [&] {
    return state.checking->idle() && state.disk->idle() && state.packing->idle() &&
           state.traffic->idle();
  };
  for (const auto& thread : {&state.checking, &state.disk, &state.packing}) (*thread)->cancel();
  // The tick wakes the loop at least once a second.
  while (!idle() && state.loop->now() < end) state.loop->turn(true);
  // One that came in the last moment must not kill when the mask goes with the intake.
  for (const int late : {SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) {
    ::signal(late, SIG_IGN);
  }
  GH_LOG(kInfo, "ended");
  return idle();
}

void Agent::State::tick() {
  loop->arm(tick_timer, pages_at.waits() || api_at.waits() ? kListenSoon : kTick);
  heartbeat->beat_us.store(wall_us(), std::memory_order_relaxed);
  if (finishing) return;
  rotator->tick(wall_us());
  for (Listening* place : {&pages_at, &api_at}) {
    if (place->waits() && loop->now() >= place->again) listen(*place);
  }
}

void Agent::State::read_signals() {
  while (const std::optional<int> signal = signals.next()) {
    if (*signal == SIGTERM || *signal == SIGINT) finish();
  }
}

void Agent::State::pump() {
  peer->turn(loop->now());
  if (!peer->is_open()) {
    channel_watch.close();
    pump_timer.cancel();
    if (!finishing) GH_LOG(kInfo, "the master is gone: {}", peer->closed_because());
    finishing = true;
    loop->stop();
    return;
  }
  const bool more_to_send = (peer->events() & POLLOUT) != 0;
  if (finishing && !more_to_send) return loop->stop();
  Moment next = peer->next_deadline().value_or(TimingWheel::kNever);
  if (more_to_send) next = std::min(next, loop->now() + kSendAgain);
  if (next == TimingWheel::kNever) {
    pump_timer.cancel();
  } else {
    loop->arm(pump_timer, next);
  }
}

// What has been answered is sent before the loop stops.
void Agent::State::finish() {
  finishing = true;
  poke();
}

void Agent::State::apply(AgentSettings fresh) {
  for (const std::string& warning : fresh.warnings) GH_LOG(kWarn, "{}", warning);
  log_set_level(fresh.error_log_level);
  const bool moved = !settings || settings->state != fresh.state;
  settings = std::move(fresh);
  if (settings->state.empty()) {
    history.reset();
  } else if (moved) {
    History::Options options;
    options.folder = settings->state;
    options.keep = settings->history_keep;
    options.size = settings->history_size;
    for (const uint8_t byte : shared.instance_id()) options.run += fmt::format("{:02x}", byte);
    history = std::make_shared<History>(std::move(options));
    disk->run([kept = history] { (void)kept->open(); });
  } else {
    disk->run([kept = history, keep = settings->history_keep, size = settings->history_size] {
      kept->set_limits(keep, size);
    });
  }
  rotator->set_rules(settings->rotations);
  pages_at.wanted = settings->listen;
  api_at.wanted = settings->api;
  for (Listening* place : {&pages_at, &api_at}) {
    if (place->waits()) listen(*place);
  }
  api_token.clear();
  if (!settings->api_token.empty()) {
    Result<std::string> token = read_token(settings->api_token);
    if (token) {
      api_token = std::move(*token);
    } else {
      GH_LOG(kError, "{}; no registrations at listen", token.error().message);
    }
  }
  heartbeat->state.store(static_cast<uint32_t>(AgentState::kReady), std::memory_order_relaxed);
}

void Agent::State::listen(Listening& place) {
  place.at = SocketAddress();
  const Result<void> listens = place.http->listen(place.wanted);
  if (listens) {
    place.at = place.wanted;
    place.error.clear();
    if (!place.wanted.is_none()) {
      GH_LOG(kNotice, "listening on {}", place.http->address().format());
    }
    return;
  }
  if (loop->wall_us() - figures.started_us < kListenPatienceUs) {
    place.again = loop->now() + kListenSoon;
    return;
  }
  place.again = loop->now() + kListenAgain;
  if (place.error == listens.error().message) return;
  place.error = listens.error().message;
  GH_LOG(kError, "{}; trying again every {} s", place.error, kListenAgain.count() / 1000);
}

// The master hands its new error log over where it has one. Otherwise the agent tries by itself, or
// it would write on into a file that is about to be packed.
void Agent::State::adopt_error_log(std::vector<UniqueFd>& fds) {
  if (!fds.empty()) {
    log_adopt(fds.front().release());
    return;
  }
  if (!settings || settings->error_log.empty()) return;
  if (same_file(log_descriptor(), settings->error_log)) return;
  Result<UniqueFd> fresh = open_log_file(settings->error_log);
  if (fresh) {
    log_adopt(fresh->release());
  } else {
    GH_LOG(kWarn, "error log not reopened: {}", fresh.error().message);
  }
}

}  // namespace gatehouse
