// A worker process; see worker.h.
#include "http/worker.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "core/log.h"
#include "core/log_conf.h"
#include "core/log_files.h"
#include "http/router.h"
#include "http/variables.h"

namespace gatehouse {

namespace {

// Connections accepted in one go before other events get their turn.
constexpr int kAcceptBatch = 16;
// And before the listening socket is given up: a flood must not hold up the end.
constexpr int kAcceptBatchesAtEnd = 1024;
// How long accepting rests after the system had no descriptor or memory to give.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

// Sent as it is to a connection over connections_max: nothing is allocated for it.
constexpr std::string_view kOverLimit =
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/problem+json\r\n"
    "Content-Length: 70\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
    "{\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"connection_limit\"}";

}  // namespace

// A listening socket of this worker.
class Worker::Acceptor {
 public:
  Acceptor(Worker& worker, const WorkerSocket& listener) : listener_(listener) {
    state_.worker = &worker;
  }

  const std::string& listener_name() const { return listener_.listener; }
  void set_listener(const Listener* listener) { state_.listener = listener; }

  Result<void> open() {
    return watch_.open(state_.worker->loop(), listener_.fd, WatchMode::kLevel, &Acceptor::on_ready,
                       this);
  }
  // Takes the connections that wait, and no more. Where the master has let go of the socket too,
  // the kernel refuses whoever comes later.
  void close() {
    for (int batch = 0; batch < kAcceptBatchesAtEnd && accept_some(); ++batch) {
    }
    watch_.close();
    resume_.cancel();
    ::close(listener_.fd);
  }

 private:
  static void on_ready(void* self, uint8_t) { static_cast<Acceptor*>(self)->accept_some(); }
  static void on_resume(void* self) {
    const Result<void> opened = static_cast<Acceptor*>(self)->open();
    if (!opened) GH_LOG(kAlert, "cannot accept again: {}", opened.error().message);
  }

  // True where there may be more to accept.
  bool accept_some() {
    Worker& worker = *state_.worker;
    // About as many as came last time: the call that finds the queue empty is mostly saved, and
    // what is left in it is told again in the next turn.
    const int batch = std::exchange(batch_, std::min(batch_ + 1, kAcceptBatch));
    for (int i = 0; i < batch; ++i) {
      sockaddr_storage storage;
      socklen_t size = sizeof(storage);
      const int fd = ::accept4(listener_.fd, reinterpret_cast<sockaddr*>(&storage), &size,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        batch_ = std::max(i, 1);
        failed(errno);
        return false;
      }
      if (worker.connections_ >= worker.context_.plan.connections_max) {
        worker.cells().connections_refused.add();
        (void)!::send(fd, kOverLimit.data(), kOverLimit.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        ::close(fd);
        continue;
      }
      start_h1_session(state_, UniqueFd(fd),
                       SocketAddress::from_kernel(reinterpret_cast<sockaddr*>(&storage), size));
    }
    return true;
  }

  void failed(int error) {
    switch (error) {
      case EAGAIN:
      case EINTR:
        return;
      case ECONNABORTED:
      case EPROTO:
        state_.worker->cells().accept_errors.add();
        return;
      default:
        break;
    }
    // No descriptor or no memory: the connection stays in the queue; spinning on it helps nobody.
    state_.worker->cells().accept_errors.add();
    GH_LOG(kError, "listener {}: cannot accept: {}", listener_.listener, std::strerror(error));
    watch_.close();
    state_.worker->loop().arm(resume_, kAcceptPause);
  }

  WorkerSocket listener_;
  AcceptorState state_;
  int batch_ = 1;  // how many accept_some() tries to take, up to kAcceptBatch
  Watch watch_;
  Timer resume_{&Acceptor::on_resume, this};
};

Worker::Worker(WorkerContext context, std::unique_ptr<EventLoop> loop,
               std::unique_ptr<Metrics> metrics)
    : context_(std::move(context)), loop_(std::move(loop)), metrics_(std::move(metrics)) {
  metrics_->set_worker(context_.row, context_.pool, context_.index, ::getpid(), loop_->wall_us());
  cells_ = &metrics_->worker_cells(context_.row);
  pool_cells_ = &metrics_->cells(context_.row, SeriesKind::kPool, context_.pool);
}

Worker::~Worker() {
  while (!sessions_.empty()) delete &sessions_.front();
  while (!finished_.empty()) delete &finished_.front();
  for (auto& state : target_states_) state.second->close_idle();
  // The writers' destructors write what they hold.
  log_writers_.clear();
}

int Worker::run(WorkerContext context, const Schema& schema,
                std::span<const Module* const> modules) {
  set_variable_worker(context.pool, context.index);
  Result<ConfigSource> source = ConfigSource::from_memfd(context.config_fd);
  if (!source) {
    GH_LOG(kAlert, "{}", source.error().message);
    return 1;
  }
  ConfigErrors errors;
  std::unique_ptr<Generation> generation =
      Generation::build(std::make_shared<const ConfigSource>(std::move(*source)), schema, modules,
                        context.plan.names, errors);
  if (generation == nullptr) {
    // The master compiled these very bytes before it forked.
    GH_LOG(kAlert, "the configuration does not compile in the worker: {}", errors.text());
    return 1;
  }
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  if (!loop) {
    GH_LOG(kError, "{}", loop.error().message);
    return 1;
  }
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(*context.shared, context.rows);
  if (!metrics) {
    GH_LOG(kError, "metrics: {}", metrics.error().message);
    return 1;
  }
  Worker worker(std::move(context), std::move(*loop), std::move(*metrics));
  const Result<void> attached = worker.attach(std::move(generation));
  if (!attached) {
    GH_LOG(kError, "{}", attached.error().message);
    return 1;
  }
  const Result<void> opened = worker.open();
  if (!opened) {
    GH_LOG(kError, "{}", opened.error().message);
    return 1;
  }
  worker.loop().run();
  return 0;
}

Result<void> Worker::open() {
  const Result<void> channel = channel_watch_.open(*loop_, context_.channel_fd, WatchMode::kLevel,
                                                   &Worker::on_channel, this);
  if (!channel) return channel.error();
  for (const auto& acceptor : acceptors_) {
    const Result<void> opened = acceptor->open();
    if (!opened) return opened.error();
  }
  Error error;
  if (channel_send(context_.channel_fd, ChannelVerb::kReady, context_.plan.generation, {},
                   &error) != ChannelStatus::kOk) {
    return Error{"cannot reach the master: " + error.message};
  }
  return {};
}

Result<void> Worker::attach(std::unique_ptr<Generation> generation) {
  for (const auto& upstream : generation->upstreams_) {
    // Registers the name; its figures are the sums of its targets.
    (void)metrics_->cells(context_.row, SeriesKind::kUpstream, upstream->name);
    upstream->state = &upstream_state(*upstream);
    for (UpstreamTarget& target : upstream->targets) {
      target.state = &target_state(target);
    }
  }
  for (const auto& route : generation->routes_) {
    route->cells = &metrics_->cells(context_.row, SeriesKind::kRoute, route->name);
  }
  for (const auto& listener : generation->listeners_) {
    listener->cells = &metrics_->cells(context_.row, SeriesKind::kListener, listener->name);
    listener->fallback->cells =
        &metrics_->cells(context_.row, SeriesKind::kRoute, listener->fallback->name);
  }
  for (const ConfigSection& section : generation->config().sections("log")) {
    const Result<void> added = add_log_writer(section);
    if (!added) return added.error();
  }
  for (const Module* module : generation->modules()) {
    if (module->attach == nullptr) continue;
    const Result<void> attached = module->attach(*generation, *this);
    if (!attached) return attached.error();
  }
  if (acceptors_.empty()) {
    for (const WorkerSocket& listener : context_.plan.sockets) {
      acceptors_.push_back(std::make_unique<Acceptor>(*this, listener));
    }
  }
  for (const auto& acceptor : acceptors_) {
    const Listener* listener = generation->find_listener(acceptor->listener_name());
    if (listener == nullptr) {
      return Error{"no [listener " + acceptor->listener_name() + "] for a socket of that name"};
    }
    acceptor->set_listener(listener);
  }
  generation_ = std::move(generation);
  return {};
}

Result<void> Worker::add_log_writer(const ConfigSection& section) {
  const LogConf& conf = section.get<LogConf>(kLogTable);
  for (const WorkerLog& file : context_.plan.logs) {
    if (file.path != conf.file) continue;
    Result<LogTail*> tail = shared_log_tail(*context_.shared, file.path);
    if (!tail) return tail.error();
    LogWriter::Options options;
    options.buffer = conf.buffer.count;
    options.flush = conf.flush;
    log_writers_[section.name()] = std::make_unique<LogWriter>(
        *loop_, section.name(), file.fd, context_.row + 1, cells_, *tail, options);
    return {};
  }
  return Error{"the master has not opened the log file " + conf.file};
}

LogWriter* Worker::log_writer(std::string_view log_name) {
  const auto found = log_writers_.find(log_name);
  return found == log_writers_.end() ? nullptr : found->second.get();
}

TargetState& Worker::target_state(const UpstreamTarget& target) {
  // The address is part of the key: a name that means another address now begins anew.
  const std::string key = target.name + " " + target.address.format();
  std::unique_ptr<TargetState>& state = target_states_[key];
  if (state == nullptr) {
    state = std::make_unique<TargetState>(
        *loop_, target.name, metrics_->cells(context_.row, SeriesKind::kTarget, target.name));
  }
  return *state;
}

UpstreamState& Worker::upstream_state(const Upstream& upstream) {
  // One that a route's URL made is another than an [upstream] that has that URL for a name.
  const std::string key = (upstream.is_inline ? "http://" : "") + upstream.name;
  std::unique_ptr<UpstreamState>& state = upstream_states_[key];
  if (state == nullptr) state = std::make_unique<UpstreamState>();
  state->current.resize(upstream.targets.size());
  return *state;
}

std::string_view Worker::date() {
  const int64_t second = loop_->wall_us() / 1'000'000;
  if (second != date_second_) {
    date_second_ = second;
    const time_t time = static_cast<time_t>(second);
    tm parts{};
    gmtime_r(&time, &parts);
    constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto result =
        fmt::format_to_n(date_, sizeof(date_), "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
                         kDays[parts.tm_wday], parts.tm_mday, kMonths[parts.tm_mon],
                         parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
    date_size_ = std::min(result.size, sizeof(date_));
  }
  return {date_, date_size_};
}

void Worker::add_session(Session& session) {
  sessions_.push_back(session);
  ++connections_;
}

void Worker::retire_session(Session& session) {
  finished_.push_back(session);
  loop_->defer(reap_);
}

void Worker::reap(void* self) {
  auto* worker = static_cast<Worker*>(self);
  while (!worker->finished_.empty()) {
    delete &worker->finished_.front();
    --worker->connections_;
  }
  worker->stop_if_drained();
}

void Worker::on_channel(void* self, uint8_t) {
  static_cast<Worker*>(self)->handle_channel();
}

void Worker::handle_channel() {
  for (;;) {
    ChannelMessage message;
    Error error;
    switch (channel_receive(context_.channel_fd, message, &error)) {
      case ChannelStatus::kWouldBlock:
        return;
      case ChannelStatus::kFailed:
        GH_LOG(kError, "message from the master: {}", error.message);
        return;
      case ChannelStatus::kClosed:
        // The master is gone: nobody would replace this worker or rotate its logs.
        GH_LOG(kError, "the master is gone; finishing");
        channel_watch_.close();
        drain();
        return;
      case ChannelStatus::kOk:
        break;
    }
    switch (message.verb) {
      case ChannelVerb::kDrain:
        drain();
        break;
      case ChannelVerb::kStop:
        loop_->stop();
        return;
      case ChannelVerb::kReopenLog: {
        for (const auto& writer : log_writers_) writer.second->flush();
        const uint32_t index = message.argument;
        const Result<void> adopted = adopt_reopened_log(message, context_.plan.logs);
        if (!adopted) {
          GH_LOG(kError, "reopening a log: {}", adopted.error().message);
        } else if (index < context_.plan.logs.size()) {
          // A writer keeps its descriptor's number: only those of this file see another file.
          for (const auto& writer : log_writers_) writer.second->reopen(writer.second->fd());
        }
        break;
      }
      default:
        GH_LOG(kWarn, "unexpected message {} from the master", static_cast<uint32_t>(message.verb));
        break;
    }
  }
}

void Worker::drain() {
  if (draining_) return;
  draining_ = true;
  sessions_.for_each([](Session& session) { session.drain(); });
  // Who connected before this moment still gets an answer, one.
  for (const auto& acceptor : acceptors_) acceptor->close();
  loop_->arm(drain_deadline_, context_.plan.drain_timeout);
  loop_->defer(reap_);
}

void Worker::on_drain_deadline(void* self) {
  auto* worker = static_cast<Worker*>(self);
  GH_LOG(kNotice, "drain_timeout is over with {} connections left", worker->connections_);
  worker->loop_->stop();
}

void Worker::stop_if_drained() {
  if (draining_ && connections_ == 0) loop_->stop();
}

}  // namespace gatehouse
