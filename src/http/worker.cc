// A worker process; see worker.h. The phases of a reload are in worker_reload.cc.
#include "http/worker.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/log.h"
#include "core/log_files.h"
#include "http/variables.h"
#include "http/worker_preparation.h"

namespace gatehouse {

namespace {

// When a full channel is tried again.
constexpr Duration kOutboxRetry = std::chrono::milliseconds(20);

}  // namespace

Worker::Worker(WorkerContext context, std::unique_ptr<EventLoop> loop,
               std::unique_ptr<Metrics> metrics, std::unique_ptr<TrafficTable> traffic,
               const Schema& schema, std::span<const Module* const> modules)
    : context_(std::move(context)),
      loop_(std::move(loop)),
      metrics_(std::move(metrics)),
      traffic_(std::move(traffic)),
      target_states_(*loop_),
      binder_({*loop_, *context_.shared, context_.row, context_.rows, schema, modules}) {
  metrics_->set_worker(context_.row, context_.pool, context_.index, ::getpid(), loop_->wall_us());
  cells_ = &metrics_->worker_cells(context_.row);
  pool_cells_ = &metrics_->cells(context_.row, SeriesKind::kPool, context_.pool);
  // Without the heartbeat's zone no verdict counts.
  Result<AgentHeartbeat*> heartbeat = open_agent_heartbeat(*context_.shared);
  target_states_.share(*traffic_, context_.row, heartbeat ? *heartbeat : nullptr);
}

// Sessions go first, for they use everything else; the helper thread before what its job uses. The
// log writers' destructors write what they hold.
Worker::~Worker() {
  while (!sessions_.empty()) delete &sessions_.front();
  while (!finished_.empty()) delete &finished_.front();
  drop_preparation();
  helper_.reset();
  acceptors_.clear();
  leaving_.clear();
}

int Worker::run(WorkerContext context, const Schema& schema,
                std::span<const Module* const> modules) {
  set_variable_worker(context.pool, context.index);
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
  Result<std::unique_ptr<TrafficTable>> traffic = TrafficTable::open(*context.shared);
  const Result<void> column =
      traffic ? (*traffic)->open_column(context.row) : Result<void>(traffic.error());
  if (!column) {
    GH_LOG(kError, "shared state of targets: {}", column.error().message);
    return 1;
  }
  Worker worker(std::move(context), std::move(*loop), std::move(*metrics), std::move(*traffic),
                schema, modules);
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
  waiting_ = context_.wait_for_switch;
  const Result<void> bound = bind_first_generation();
  if (!bound) {
    // Where others wait for this generation too, its maker wants to know why it is not to be.
    if (waiting_) refuse_preparation(context_.plan.generation, bound.error().message);
    return bound.error();
  }
  tell_master(waiting_ ? ChannelVerb::kPrepared : ChannelVerb::kReady, current_->plan.generation);
  return {};
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
  std::erase_if(worker->leaving_, [](const auto& acceptor) { return acceptor->has_left(); });
  worker->retire_unheld();
  worker->tell_if_idle();
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
        drop_preparation();
        drain();
        return;
      case ChannelStatus::kOk:
        break;
    }
    if (!obey(message)) {
      loop_->stop();
      return;
    }
  }
}

bool Worker::obey(ChannelMessage& message) {
  switch (message.verb) {
    case ChannelVerb::kDrain:
      drain();
      break;
    case ChannelVerb::kStop:
      return false;
    case ChannelVerb::kReopenLog:
      reopen_log(message);
      break;
    case ChannelVerb::kReopenSync:
      // Messages are obeyed in their order: all that came before this is done.
      tell_master(ChannelVerb::kReopened, message.argument);
      break;
    case ChannelVerb::kPrepareFds:
      take_new_fds(message);
      break;
    case ChannelVerb::kPrepare:
      prepare(message);
      break;
    case ChannelVerb::kSwitch:
      switch_to(message.argument);
      break;
    case ChannelVerb::kPrepareCertificates:
      prepare_certificates(message);
      break;
    case ChannelVerb::kSwitchCertificates:
      switch_certificates(message.argument);
      break;
    case ChannelVerb::kDiscardCertificates:
      next_certificates_.reset();
      break;
    case ChannelVerb::kDiscard:
      if (waiting_ && message.argument == current_->plan.generation) return false;
      discard(message.argument);
      break;
    default:
      GH_LOG(kWarn, "unexpected message {} from the master", static_cast<uint32_t>(message.verb));
      break;
  }
  return true;
}

void Worker::reopen_log(ChannelMessage& message) {
  const WorkerPlan& plan = current_->plan;
  const uint32_t index = message.argument;
  const LogFile* file = index < current_->files.size() ? current_->files[index].get() : nullptr;
  for (const BoundLog& log : current_->logs) {
    if (log.file.get() == file) log.writer->flush();
  }
  const Result<void> adopted = adopt_reopened_log(message, plan.logs);
  if (!adopted) {
    GH_LOG(kError, "reopening a log: {}", adopted.error().message);
    return;
  }
  // The descriptor's number stays.
  for (const BoundLog& log : current_->logs) {
    if (log.file.get() == file) log.writer->reopen(log.writer->fd());
  }
}

void Worker::tell_master(ChannelVerb verb, uint32_t argument, UniqueFd fd) {
  ChannelMessage message;
  message.verb = verb;
  message.argument = argument;
  if (fd) message.fds.push_back(std::move(fd));
  outbox_.push_back(std::move(message));
  on_outbox(this);
}

void Worker::on_outbox(void* self) {
  auto* worker = static_cast<Worker*>(self);
  while (!worker->outbox_.empty()) {
    const ChannelMessage& message = worker->outbox_.front();
    std::vector<int> fds;
    for (const UniqueFd& fd : message.fds) fds.push_back(fd.get());
    Error error;
    const ChannelStatus status =
        channel_send(worker->context_.channel_fd, message.verb, message.argument, fds, &error);
    if (status == ChannelStatus::kWouldBlock) {
      worker->loop_->arm(worker->outbox_retry_, kOutboxRetry);
      return;
    }
    // That the master is gone is noticed by reading.
    if (status == ChannelStatus::kFailed) {
      GH_LOG(kError, "cannot tell the master: {}", error.message);
    }
    worker->outbox_.pop_front();
  }
}

void Worker::drain() {
  if (draining_) return;
  draining_ = true;
  const Duration timeout = current_->plan.drain_timeout;
  for (auto& acceptor : std::exchange(acceptors_, {})) leave(std::move(acceptor));
  loop_->arm(drain_deadline_, timeout);
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

void Worker::tell_if_idle() {
  if (!current_->plan.parked || connections_ != 0 || idle_told_) return;
  idle_told_ = true;
  tell_master(ChannelVerb::kIdle, current_->plan.generation);
}

}  // namespace gatehouse
