// Talking to one worker. See worker_process.h.
#include "core/worker_process.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/log.h"
#include "core/sealed_bytes.h"

namespace gatehouse {
namespace {

// Orders that may wait for one worker. One that takes none of them is stuck, and gets no more.
constexpr size_t kOrdersMax = 256;
// The longest text of errors that a worker may send.
constexpr size_t kFailureMax = size_t{1} << 20;

// Ids of sockets and of logs are two rows of numbers.
uint64_t key_of(const WorkerSocket& socket) {
  return socket.id * 2;
}
uint64_t key_of(const WorkerLog& log) {
  return log.id * 2 + 1;
}

std::string reason_in(const ChannelMessage& message) {
  if (message.fds.empty()) return "no reason given";
  const Result<std::string> text = read_sealed(message.fds[0].get(), kFailureMax);
  return text ? *text : text.error().message;
}

}  // namespace

std::string_view worker_state_name(WorkerState state) {
  switch (state) {
    case WorkerState::kStarting:
      return "starting";
    case WorkerState::kWaiting:
      return "waiting";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kParked:
      return "parked";
    case WorkerState::kLeaving:
      return "draining";
  }
  return "?";
}

std::string WorkerProcess::name() const {
  return fmt::format("worker {}/{}", pool, index);
}

bool WorkerProcess::order(ChannelVerb verb, uint32_t argument, const std::vector<int>& fds) {
  if (orders.size() >= kOrdersMax) {
    GH_LOG(kError, "{}: takes no orders, {} are waiting", name(), orders.size());
    return false;
  }
  ChannelMessage message;
  message.verb = verb;
  message.argument = argument;
  for (const int fd : fds) {
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
      GH_LOG(kError, "{}: order {} lost: {}", name(), static_cast<uint32_t>(verb),
             errno_error("cannot copy a descriptor", errno).message);
      return false;
    }
    message.fds.push_back(std::move(copy));
  }
  orders.push_back(std::move(message));
  send_orders();
  return true;
}

void WorkerProcess::send_orders() {
  while (!orders.empty() && channel) {
    const ChannelMessage& next = orders.front();
    std::vector<int> fds;
    for (const UniqueFd& fd : next.fds) fds.push_back(fd.get());
    Error error;
    const ChannelStatus status = channel_send(channel.get(), next.verb, next.argument, fds, &error);
    if (status == ChannelStatus::kWouldBlock) return;
    if (status == ChannelStatus::kFailed) {
      GH_LOG(kError, "{}: order {} lost: {}", name(), static_cast<uint32_t>(next.verb),
             error.message);
    }
    orders.pop_front();
  }
  if (!channel) orders.clear();
}

bool WorkerProcess::order_prepare(WorkerPlan next, int config_fd, int certificates_fd) {
  next_ = belongings_of(next);
  std::vector<int> fresh;
  const auto look_at = [&](auto& entry) {
    entry.is_new = !has_.ids.contains(key_of(entry));
    if (entry.is_new) fresh.push_back(entry.fd);
  };
  for (WorkerSocket& socket : next.sockets) look_at(socket);
  for (WorkerLog& log : next.logs) look_at(log);
  Result<UniqueFd> plan = seal_bytes("gatehouse worker plan", pack_worker_plan(next));
  if (!plan) {
    GH_LOG(kError, "{}: {}", name(), plan.error().message);
    return false;
  }
  for (size_t i = 0; i < fresh.size(); i += kChannelFdsMax) {
    const std::vector<int> some(
        fresh.begin() + static_cast<std::ptrdiff_t>(i),
        fresh.begin() + static_cast<std::ptrdiff_t>(std::min(fresh.size(), i + kChannelFdsMax)));
    if (!order(ChannelVerb::kPrepareFds, next.generation, some)) return false;
  }
  std::vector<int> fds = {config_fd, plan->get()};
  if (certificates_fd >= 0) fds.push_back(certificates_fd);
  return order(ChannelVerb::kPrepare, next.generation, fds);
}

void WorkerProcess::settle(bool committed) {
  if (committed && next_) has_ = std::move(*next_);
  next_.reset();
}

void WorkerProcess::gave(const WorkerPlan& plan) {
  has_ = belongings_of(plan);
}

WorkerProcess::Belongings WorkerProcess::belongings_of(const WorkerPlan& plan) {
  Belongings belongings;
  for (const WorkerSocket& socket : plan.sockets) belongings.ids.insert(key_of(socket));
  for (const WorkerLog& log : plan.logs) {
    belongings.ids.insert(key_of(log));
    belongings.logs.push_back(log.path);
  }
  return belongings;
}

bool WorkerProcess::read_channel() {
  while (channel) {
    ChannelMessage message;
    Error error;
    switch (channel_receive(channel.get(), message, &error)) {
      case ChannelStatus::kWouldBlock:
        return true;
      case ChannelStatus::kClosed:
        channel.reset();  // its death will be told by waitpid()
        return false;
      case ChannelStatus::kFailed:
        GH_LOG(kError, "{}: {}", name(), error.message);
        return true;
      case ChannelStatus::kOk:
        break;
    }
    switch (message.verb) {
      case ChannelVerb::kReady:
        generation = message.argument;
        if (state == WorkerState::kStarting) state = WorkerState::kReady;
        break;
      case ChannelVerb::kPrepared:
        prepared = message.argument;
        if (waits && state == WorkerState::kStarting) state = WorkerState::kWaiting;
        break;
      case ChannelVerb::kPrepareFailed:
        failed = message.argument;
        failure = reason_in(message);
        break;
      case ChannelVerb::kSwitched:
        generation = message.argument;
        if (state == WorkerState::kWaiting) state = WorkerState::kReady;
        break;
      case ChannelVerb::kCertificatesPrepared:
        certificates_prepared = message.argument;
        break;
      case ChannelVerb::kCertificatesFailed:
        certificates_failed = message.argument;
        certificates_failure = reason_in(message);
        break;
      case ChannelVerb::kCertificatesSwitched:
        certificates = message.argument;
        break;
      case ChannelVerb::kReopened:
        reopened = message.argument;
        break;
      case ChannelVerb::kIdle:
        idle = true;
        break;
      default:
        GH_LOG(kWarn, "{}: unexpected message {} on the channel", name(),
               static_cast<uint32_t>(message.verb));
        break;
    }
  }
  return false;
}

}  // namespace gatehouse
