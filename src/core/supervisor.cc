// Starting, reaping and commanding workers. See supervisor.h. What carries a generation into them
// is in supervisor_generations.cc.
#include "core/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/metrics.h"
#include "core/process_worker.h"

namespace gatehouse {
namespace {

// How soon an order that found a full channel is tried again.
constexpr Duration kOrderRetry{50};
// A worker that was told to go and does not is killed: after this, or after this beyond the
// drain_timeout, which it keeps itself.
constexpr Duration kLeaveTimeout{5'000};
constexpr Duration kLeaveGrace{1'000};
// A replacement that is not ready this soon is killed, and another one tried.
constexpr Duration kStartTimeout{60'000};
// Descriptors of a worker besides connections, listeners and logs: standard streams, epoll,
// channel, shared segment, and what its modules open.
constexpr uint32_t kDescriptorsAside = 64;

}  // namespace

Supervisor::Supervisor(MasterGenerationPtr first, CertificateBundlePtr certificates,
                       SharedMemory& shared, const ListenSockets& sockets, const LogSet& logs,
                       const MasterCalls& calls, std::vector<uint32_t> rows_taken, bool hold)
    : current_(std::move(first)),
      certificates_(std::move(certificates)),
      last_edition_(certificates_ ? certificates_->edition : 0),
      shared_(shared),
      sockets_(sockets),
      logs_(logs),
      calls_(calls),
      holding_(hold) {
  for (const uint32_t row : rows_taken) {
    if (row >= rows_.size()) rows_.resize(row + 1);
    rows_[row].taken = true;
  }
  for (const PoolPlan& pool : current_->plan.pools) {
    for (uint32_t index = 0; index < pool.workers; ++index) {
      slot_of(pool.name, index).start_at = Moment{0};
    }
  }
}

Supervisor::~Supervisor() {
  each_worker([this](WorkerProcess& worker) {
    kill_process(worker.pid);
    release(worker);
  });
}

void Supervisor::turn(Moment now) {
  each_worker([](WorkerProcess& worker) {
    // Before the reaping, so that a worker that was ready and died is known to have been ready.
    if (worker.channel) (void)worker.read_channel();
    if (!worker.orders.empty()) worker.send_orders();
  });
  for (const auto& slot : slots_) {
    if (slot->worker && slot->worker->state == WorkerState::kReady) slot->ever_ready = true;
    if (slot->worker && hangs_in_start(*slot->worker, now)) kill(slot->worker->pid, SIGKILL);
    reap(*slot, now);
    if (restarting_ && slot->start_at && *slot->start_at <= now) start(*slot, now);
  }
  reap_leaving(now);
  if (restarting_) {
    continue_replacing(now);
    stop_idle_parked();
  }
}

// One that a reload waits for has that reload's time instead.
bool Supervisor::hangs_in_start(const WorkerProcess& worker, Moment now) const {
  return worker.state == WorkerState::kStarting && !worker.waits &&
         now - worker.started >= kStartTimeout;
}

template <typename Do>
void Supervisor::each_worker(Do what) const {
  for (const auto& slot : slots_) {
    if (slot->worker) what(*slot->worker);
    if (slot->incoming) what(*slot->incoming);
  }
  for (const auto& worker : leaving_) what(*worker);
}

// ---- Life and death -----------------------------------------------------------------------------

Supervisor::Slot& Supervisor::slot_of(const std::string& pool, uint32_t index) {
  for (const auto& slot : slots_) {
    if (slot->pool == pool && slot->index == index) return *slot;
  }
  auto slot = std::make_unique<Slot>();
  slot->pool = pool;
  slot->index = index;
  slots_.push_back(std::move(slot));
  return *slots_.back();
}

// The row that this place had before, so that its counters go on; else one that nobody is known to
// have had (a predecessor's workers left it) or a new one; else, where the segment has no room for
// more, any that is free.
Result<uint32_t> Supervisor::take_row(const std::string& pool, uint32_t index) {
  const std::string name = fmt::format("{}/{}", pool, index);
  const auto find_free = [this](const auto& fits) {
    return static_cast<size_t>(
        std::find_if(rows_.begin(), rows_.end(),
                     [&fits](const Row& row) { return !row.taken && fits(row); }) -
        rows_.begin());
  };
  size_t row = find_free([&name](const Row& free) { return free.last == name; });
  if (row == rows_.size()) row = find_free([](const Row& free) { return free.last.empty(); });
  if (row == rows_.size()) {
    const Result<void> grown = calls_.make_rows(static_cast<uint32_t>(rows_.size() + 1));
    if (grown) {
      rows_.emplace_back();
    } else {
      row = find_free([](const Row&) { return true; });
      if (row == rows_.size()) return grown.error();
    }
  }
  rows_[row] = {true, name};
  return static_cast<uint32_t>(row);
}

Result<std::unique_ptr<WorkerProcess>> Supervisor::fork_worker(const Slot& slot,
                                                               const MasterGeneration& generation,
                                                               bool waits, Moment now) {
  Result<ChannelPair> channel = make_channel();
  if (!channel) return channel.error();
  const PoolPlan* place = place_of(slot, generation);
  const Result<uint32_t> row = take_row(slot.pool, slot.index);
  if (!row) return row.error();
  auto worker = std::make_unique<WorkerProcess>(slot.pool, slot.index, *row,
                                                make_of(slot, generation), waits);
  WorkerContext context;
  context.pool = slot.pool;
  context.index = slot.index;
  context.row = worker->row;
  context.rows = static_cast<uint32_t>(rows_.size());
  context.config_fd = generation.config.get();
  const CertificateBundlePtr& certificates =
      &generation == next_.get() ? next_certificates_ : certificates_;
  if (certificates) {
    context.certificates_fd = certificates->fd.get();
    worker->certificates = certificates->edition;
  }
  context.plan = plan_of(slot, generation);
  context.wait_for_switch = waits;
  context.channel_fd = channel->worker.get();
  context.shared = &shared_;
  WorkerSetup setup{.nofile_wanted = descriptors_wanted(*place, context.plan.sockets.size(),
                                                        context.plan.logs.size()),
                    .let_go_of_streams = generation.plan.daemon,
                    .run_as = generation.run_as};
  worker->gave(context.plan);

  std::fflush(nullptr);  // or the worker would print again what is still in the buffers
  const pid_t pid = fork();
  if (pid == 0) become_worker(std::move(context), setup, calls_.worker_main);
  if (pid < 0) {
    const int error = errno;
    rows_[worker->row].taken = false;
    return errno_error("cannot fork", error);
  }
  worker->pid = pid;
  worker->channel = std::move(channel->master);
  worker->started = now;
  if (swap_) prepare_certificates_of(*worker);
  GH_LOG(kInfo, "{}: started as process {}", worker->name(), pid);
  return worker;
}

void Supervisor::start(Slot& slot, Moment now) {
  slot.start_at.reset();
  Result<std::unique_ptr<WorkerProcess>> worker = fork_worker(slot, *current_, holding_, now);
  if (!worker) return start_failed(slot, now, worker.error());
  slot.worker = std::move(*worker);
  if (next_) prepare_worker(slot);
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
  if (slot.incoming) {
    if (const std::optional<ProcessEnd> end = reap_process(slot.incoming->pid)) {
      GH_LOG(kError, "{}: process {}, which was to replace {}, {}; the old one carries on",
             name_of(slot), slot.incoming->pid, slot.worker ? slot.worker->pid : 0, end->text());
      release(*slot.incoming);
      slot.incoming.reset();
      for (const auto& other : slots_) other->replace = false;
    }
  }
  if (!slot.worker) return;
  if (const std::optional<ProcessEnd> end = reap_process(slot.worker->pid)) bury(slot, now, *end);
}

void Supervisor::release(WorkerProcess& worker) {
  if (calls_.on_worker_exit) calls_.on_worker_exit(worker.row);
  rows_[worker.row].taken = false;
}

void Supervisor::bury(Slot& slot, Moment now, const ProcessEnd& how) {
  const std::unique_ptr<WorkerProcess> worker = std::move(slot.worker);
  // What it said last (ready, and died) must not be taken for its successor's word.
  if (worker->channel) (void)worker->read_channel();
  release(*worker);
  const std::string end = how.text();
  if (!restarting_) {
    if (how.is_clean()) {
      GH_LOG(kInfo, "{}: process {} {}", worker->name(), worker->pid, end);
    } else {
      GH_LOG(kError, "{}: process {} {} while stopping", worker->name(), worker->pid, end);
    }
    return;
  }
  if (next_ && (!slot.parked || place_of(slot, *next_) != nullptr)) {
    deaths_.push_back(
        fmt::format("{} {} while the configuration was being prepared", worker->name(), end));
  }
  if (slot.incoming) {
    // Its successor is on the way already.
    slot.worker = std::move(slot.incoming);
    slot.replace = false;
    GH_LOG(kError, "{}: process {} {}", worker->name(), worker->pid, end);
    return;
  }
  if (slot.parked) {
    GH_LOG(kError, "{}: process {} {}", worker->name(), worker->pid, end);
    return;
  }
  if (!slot.ever_ready) failed_early_ = true;
  const Duration delay = slot.backoff.next_delay(now - worker->started);
  slot.start_at = now + delay;
  GH_LOG(kError, "{}: process {} {}{}; a replacement starts {}", worker->name(), worker->pid, end,
         slot.ever_ready ? "" : " before it was ready",
         delay.count() == 0 ? "at once" : fmt::format("in {} ms", delay.count()));
}

void Supervisor::leave(std::unique_ptr<WorkerProcess> worker, ChannelVerb verb, uint32_t argument) {
  worker->state = WorkerState::kLeaving;
  worker->leave_within =
      verb == ChannelVerb::kDrain ? current_->plan.drain_timeout + kLeaveGrace : kLeaveTimeout;
  (void)worker->order(verb, argument);
  leaving_.push_back(std::move(worker));
}

void Supervisor::reap_leaving(Moment now) {
  std::erase_if(leaving_, [this, now](const std::unique_ptr<WorkerProcess>& worker) {
    const std::optional<ProcessEnd> end = reap_process(worker->pid);
    if (!end) {
      if (!worker->kill_at) {
        worker->kill_at = now + worker->leave_within;
      } else if (*worker->kill_at <= now) {
        // Until it is dead, which an uninterruptible wait can put off.
        kill(worker->pid, SIGKILL);
        worker->kill_at = now + kLeaveGrace;
      }
      return false;
    }
    if (end->is_clean()) {
      GH_LOG(kInfo, "{}: process {} has finished", worker->name(), worker->pid);
    } else {
      GH_LOG(kError, "{}: process {} {} while it was leaving", worker->name(), worker->pid,
             end->text());
    }
    release(*worker);
    return true;
  });
}

size_t Supervisor::kill_all() {
  size_t count = 0;
  each_worker([&count](const WorkerProcess& worker) {
    // Not reaped yet, so the number cannot have been given to another process.
    if (kill(worker.pid, SIGKILL) == 0) ++count;
  });
  return count;
}

uint32_t Supervisor::descriptors_wanted(const PoolPlan& pool, size_t sockets, size_t logs) const {
  if (pool.nofile > 0) return pool.nofile;
  const uint64_t wanted = uint64_t{pool.connections_max} * 2 + sockets + logs + kDescriptorsAside;
  return static_cast<uint32_t>(std::min<uint64_t>(wanted, INT32_MAX));
}

// ---- Orders -------------------------------------------------------------------------------------

void Supervisor::order_all(ChannelVerb verb, uint32_t argument) {
  each_worker([verb, argument](WorkerProcess& worker) { (void)worker.order(verb, argument); });
}

uint32_t Supervisor::reopen_logs() {
  ++reopen_sequence_;
  each_worker([this](WorkerProcess& worker) {
    // A worker that is being started inherited the old files under the same numbers. One that is
    // leaving has those of the generation that it had last, in that order.
    const std::vector<std::string>& logs = worker.logs();
    for (uint32_t index = 0; index < logs.size(); ++index) {
      const int fd = logs_.descriptor(logs[index]);
      if (fd >= 0) (void)worker.order(ChannelVerb::kReopenLog, index, {fd});
    }
    if (logs_.error_log_is_file()) {
      (void)worker.order(ChannelVerb::kReopenLog, kErrorLogIndex, {log_descriptor()});
    }
    (void)worker.order(ChannelVerb::kReopenSync, reopen_sequence_);
    worker.asked_reopen = reopen_sequence_;
  });
  return reopen_sequence_;
}

bool Supervisor::reopened(uint32_t sequence) const {
  bool all = true;
  each_worker([&all, sequence](const WorkerProcess& worker) {
    // Numbers only grow; one that was started later has the new files from its birth.
    if (worker.asked_reopen != 0 && worker.asked_reopen <= sequence &&
        worker.reopened < worker.asked_reopen) {
      all = false;
    }
  });
  return all;
}

void Supervisor::pass_error_log() {
  each_worker([](WorkerProcess& worker) {
    (void)worker.order(ChannelVerb::kReopenLog, kErrorLogIndex, {log_descriptor()});
  });
}

void Supervisor::drain_all() {
  order_all(ChannelVerb::kDrain);
}

// ---- What the master asks -----------------------------------------------------------------------

std::string Supervisor::name_of(const Slot& slot) const {
  return fmt::format("worker {}/{}", slot.pool, slot.index);
}

bool Supervisor::all_waiting() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) {
    return slot->worker && slot->worker->state == WorkerState::kWaiting;
  });
}

void Supervisor::release() {
  holding_ = false;
  for (const auto& slot : slots_) {
    (void)slot->worker->order(ChannelVerb::kSwitch, current_->number);
  }
}

bool Supervisor::all_ready() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) {
    return slot->parked || (slot->worker && slot->worker->state == WorkerState::kReady);
  });
}

bool Supervisor::none_alive() const {
  bool none = true;
  each_worker([&none](const WorkerProcess&) { none = false; });
  return none;
}

std::string Supervisor::unready() const {
  std::string names;
  for (const auto& slot : slots_) {
    if (slot->parked || (slot->worker && slot->worker->state == WorkerState::kReady)) continue;
    if (!names.empty()) names += ", ";
    names += name_of(*slot);
  }
  return names;
}

std::vector<Supervisor::View> Supervisor::view() const {
  std::vector<View> views;
  for (const auto& slot : slots_) {
    views.push_back({slot->worker.get(), slot->pool, slot->index, slot->start_at.has_value()});
    if (slot->incoming) {
      views.push_back({slot->incoming.get(), slot->pool, slot->index, false});
    }
  }
  for (const auto& worker : leaving_) {
    views.push_back({worker.get(), worker->pool, worker->index, false});
  }
  return views;
}

std::vector<uint32_t> Supervisor::rows_in_use() const {
  std::vector<uint32_t> rows;
  for (uint32_t row = 0; row < rows_.size(); ++row) {
    if (rows_[row].taken) rows.push_back(row);
  }
  return rows;
}

void Supervisor::free_rows(const std::vector<uint32_t>& rows) {
  for (const uint32_t row : rows) {
    if (row < rows_.size()) rows_[row].taken = false;
  }
}

void Supervisor::add_descriptors(std::vector<pollfd>& list) const {
  each_worker([&list](const WorkerProcess& worker) {
    if (worker.channel) {
      list.push_back({.fd = worker.channel.get(), .events = POLLIN, .revents = 0});
    }
  });
}

std::optional<Moment> Supervisor::next_deadline(Moment now) const {
  std::optional<Moment> next;
  const auto consider = [&next](Moment moment) {
    if (!next || moment < *next) next = moment;
  };
  for (const auto& slot : slots_) {
    if (restarting_ && slot->start_at) consider(*slot->start_at);
    if (slot->incoming) consider(slot->incoming->started + current_->plan.reload_timeout);
    if (slot->worker && slot->worker->state == WorkerState::kStarting && !slot->worker->waits) {
      consider(slot->worker->started + kStartTimeout);
    }
  }
  for (const auto& worker : leaving_) consider(worker->kill_at.value_or(now));
  each_worker([&](const WorkerProcess& worker) {
    if (!worker.orders.empty()) consider(now + kOrderRetry);
  });
  return next;
}

}  // namespace gatehouse
