// Starting, reaping and commanding workers. See supervisor.h.
#include "core/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/process_worker.h"

namespace gatehouse {
namespace {

// How soon an order that found a full channel is tried again.
constexpr Duration kOrderRetry{50};
// Orders that may wait for one worker. One that takes none of them is stuck, and gets no more.
constexpr size_t kOrdersMax = 256;
// Descriptors of a worker besides connections, listeners and logs: standard streams, epoll,
// channel, shared segment, and what its modules open.
constexpr uint32_t kDescriptorsAside = 64;

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    int signal = WTERMSIG(status);
    const char* name = sigabbrev_np(signal);
    return fmt::format("was killed by signal {} ({}){}", signal, name != nullptr ? name : "?",
                       WCOREDUMP(status) ? ", core dumped" : "");
  }
  return fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace

Supervisor::Supervisor(const ProcessPlan& plan, SharedMemory& shared, const ListenSockets& sockets,
                       const LogSet& logs, const RunAs& run_as, const WorkerMain& worker_main)
    : plan_(plan),
      shared_(shared),
      sockets_(sockets),
      logs_(logs),
      run_as_(run_as),
      worker_main_(worker_main) {
  for (const PoolPlan& pool : plan.pools) {
    for (uint32_t index = 0; index < pool.workers; ++index) {
      Slot slot;
      slot.pool = &pool;
      slot.index = index;
      slot.row = static_cast<uint32_t>(slots_.size());
      slot.start_at = Moment{0};
      slots_.push_back(std::move(slot));
    }
  }
}

Supervisor::~Supervisor() {
  kill_all();
  for (Slot& slot : slots_) {
    if (slot.pid < 0) continue;
    while (waitpid(slot.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (plan_.on_worker_exit) plan_.on_worker_exit(slot.row);
  }
}

void Supervisor::turn(Moment now) {
  for (Slot& slot : slots_) {
    // Before the reaping, so that a worker that was ready and died is known to have been ready.
    if (slot.channel) read_channel(slot);
    if (slot.pid >= 0) reap(slot, now);
    if (restarting_ && slot.start_at && *slot.start_at <= now) start(slot, now);
    if (!slot.orders.empty()) send_orders(slot);
  }
}

// ---- Life and death -----------------------------------------------------------------------------

void Supervisor::start(Slot& slot, Moment now) {
  slot.start_at.reset();
  Result<ChannelPair> channel = make_channel();
  if (!channel) return start_failed(slot, now, channel.error());

  WorkerContext context;
  context.pool = slot.pool->name;
  context.index = slot.index;
  context.row = slot.row;
  context.rows = static_cast<uint32_t>(slots_.size());
  context.config_fd = plan_.config_fd;
  context.plan.generation = plan_.generation;
  context.plan.names = plan_.names;
  context.plan.sockets = sockets_.of_worker(slot.pool->name, slot.index);
  context.channel_fd = channel->worker.get();
  context.shared = &shared_;
  context.plan.logs = logs_.files();
  context.plan.connections_max = slot.pool->connections_max;
  context.plan.drain_timeout = plan_.drain_timeout;
  WorkerSetup setup{.nofile_wanted = descriptors_wanted(*slot.pool, context.plan.sockets.size()),
                    .let_go_of_streams = plan_.daemon,
                    .run_as = run_as_};

  std::fflush(nullptr);  // or the worker would print again what is still in the buffers
  pid_t pid = fork();
  if (pid == 0) become_worker(std::move(context), setup, worker_main_);
  if (pid < 0) {
    return start_failed(slot, now, errno_error("cannot fork", errno));
  }
  slot.pid = pid;
  slot.channel = std::move(channel->master);
  slot.started = now;
  slot.ready = false;
  slot.orders.clear();
  GH_LOG(kInfo, "{}: started as process {}", name_of(slot), pid);
}

void Supervisor::start_failed(Slot& slot, Moment now, const Error& error) {
  Duration delay = slot.backoff.next_delay(Duration{0});
  // Whatever is short (processes, memory, descriptors) will not be there at once.
  delay = std::max(delay, RestartBackoff::kFirstDelay);
  slot.start_at = now + delay;
  GH_LOG(kWarn, "{}: not started, tried again in {} ms: {}", name_of(slot), delay.count(),
         error.message);
}

void Supervisor::reap(Slot& slot, Moment now) {
  int status = 0;
  pid_t result;
  do result = waitpid(slot.pid, &status, WNOHANG);
  while (result < 0 && errno == EINTR);
  if (result == 0) return;
  // ECHILD: somebody else took the status. The worker is gone all the same.
  bury(slot, now, status, result > 0);
}

void Supervisor::bury(Slot& slot, Moment now, int status, bool status_known) {
  pid_t pid = std::exchange(slot.pid, -1);
  // What it said last (ready, and died) must not be taken for its successor's word.
  if (slot.channel) read_channel(slot);
  slot.channel.reset();
  slot.orders.clear();
  slot.ready = false;
  if (plan_.on_worker_exit) plan_.on_worker_exit(slot.row);
  std::string end = status_known ? describe_end(status) : "is gone";
  bool clean = status_known && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!restarting_) {
    if (clean) {
      GH_LOG(kInfo, "{}: process {} {}", name_of(slot), pid, end);
    } else {
      GH_LOG(kError, "{}: process {} {} while stopping", name_of(slot), pid, end);
    }
    return;
  }
  if (!slot.ever_ready) failed_early_ = true;
  Duration delay = slot.backoff.next_delay(now - slot.started);
  slot.start_at = now + delay;
  GH_LOG(kError, "{}: process {} {}{}; a replacement starts {}", name_of(slot), pid, end,
         slot.ever_ready ? "" : " before it was ready",
         delay.count() == 0 ? "at once" : fmt::format("in {} ms", delay.count()));
}

size_t Supervisor::kill_all() {
  size_t count = 0;
  for (const Slot& slot : slots_) {
    // Not reaped yet, so the number cannot have been given to another process.
    if (slot.pid >= 0 && kill(slot.pid, SIGKILL) == 0) ++count;
  }
  return count;
}

uint32_t Supervisor::descriptors_wanted(const PoolPlan& pool, size_t listeners) const {
  if (pool.nofile > 0) return pool.nofile;
  uint64_t wanted =
      uint64_t{pool.connections_max} * 2 + listeners + plan_.log_files.size() + kDescriptorsAside;
  return static_cast<uint32_t>(std::min<uint64_t>(wanted, INT32_MAX));
}

// ---- Channels -----------------------------------------------------------------------------------

void Supervisor::read_channel(Slot& slot) {
  while (slot.channel) {
    ChannelMessage message;
    Error error;
    switch (channel_receive(slot.channel.get(), message, &error)) {
      case ChannelStatus::kWouldBlock:
        return;
      case ChannelStatus::kClosed:
        slot.channel.reset();  // its death will be told by waitpid()
        return;
      case ChannelStatus::kFailed:
        GH_LOG(kError, "{}: {}", name_of(slot), error.message);
        return;
      case ChannelStatus::kOk:
        break;
    }
    if (message.verb == ChannelVerb::kReady) {
      slot.ready = slot.pid >= 0;
      slot.ever_ready = true;
    } else {
      GH_LOG(kWarn, "{}: unexpected message {} on the channel", name_of(slot),
             static_cast<uint32_t>(message.verb));
    }
  }
}

void Supervisor::order_all(ChannelVerb verb, uint32_t argument) {
  for (Slot& slot : slots_) {
    if (slot.pid < 0) continue;
    if (slot.orders.size() >= kOrdersMax) {
      GH_LOG(kError, "{}: takes no orders, {} are waiting", name_of(slot), slot.orders.size());
      continue;
    }
    slot.orders.push_back({verb, argument});
    send_orders(slot);
  }
}

void Supervisor::send_orders(Slot& slot) {
  while (!slot.orders.empty() && slot.channel) {
    const Order& order = slot.orders.front();
    std::vector<int> fds;
    if (order.verb == ChannelVerb::kReopenLog) fds.push_back(logs_.descriptor(order.argument));
    Error error;
    ChannelStatus status =
        channel_send(slot.channel.get(), order.verb, order.argument, fds, &error);
    if (status == ChannelStatus::kWouldBlock) return;
    if (status == ChannelStatus::kFailed) {
      GH_LOG(kError, "{}: order {} lost: {}", name_of(slot), static_cast<uint32_t>(order.verb),
             error.message);
    }
    slot.orders.pop_front();
  }
  if (!slot.channel) slot.orders.clear();
}

// ---- What the master asks -----------------------------------------------------------------------

std::string Supervisor::name_of(const Slot& slot) const {
  return fmt::format("worker {}/{}", slot.pool->name, slot.index);
}

bool Supervisor::all_ready() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.ready; });
}

bool Supervisor::none_alive() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.pid < 0; });
}

std::string Supervisor::unready() const {
  std::string names;
  for (const Slot& slot : slots_) {
    if (slot.ready) continue;
    if (!names.empty()) names += ", ";
    names += name_of(slot);
  }
  return names;
}

void Supervisor::add_descriptors(std::vector<pollfd>& list) const {
  for (const Slot& slot : slots_) {
    if (slot.channel) list.push_back({.fd = slot.channel.get(), .events = POLLIN, .revents = 0});
  }
}

std::optional<Moment> Supervisor::next_deadline(Moment now) const {
  std::optional<Moment> next;
  auto consider = [&next](Moment moment) {
    if (!next || moment < *next) next = moment;
  };
  for (const Slot& slot : slots_) {
    if (restarting_ && slot.start_at) consider(*slot.start_at);
    if (!slot.orders.empty()) consider(now + kOrderRetry);
  }
  return next;
}

}  // namespace gatehouse
