// Carrying a generation into the workers: preparing, switching, discarding, and replacing the
// processes that a new generation cannot change. See supervisor.h.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <set>
#include <utility>

#include "core/log.h"
#include "core/supervisor.h"

namespace gatehouse {
namespace {

void add_line(std::string& text, const std::string& line) {
  if (!text.empty()) text += '\n';
  text += line;
}

std::string trimmed(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

// Null where the generation has no such place.
const PoolPlan* Supervisor::place_of(const Slot& slot, const MasterGeneration& generation) const {
  for (const PoolPlan& pool : generation.plan.pools) {
    if (pool.name == slot.pool) return slot.index < pool.workers ? &pool : nullptr;
  }
  return nullptr;
}

WorkerPlan Supervisor::plan_of(const Slot& slot, const MasterGeneration& generation) const {
  const PoolPlan* place = place_of(slot, generation);
  WorkerPlan plan;
  plan.generation = generation.number;
  plan.parked = place == nullptr;
  plan.connections_max = place != nullptr ? place->connections_max : 0;
  plan.drain_timeout = generation.plan.drain_timeout;
  plan.names = generation.names;
  const bool is_committed = &generation != next_.get() && !holding_;
  plan.sockets = sockets_.of_worker(
      generation.plan, slot.pool, slot.index,
      is_committed ? ListenSockets::Which::kCommitted : ListenSockets::Which::kPrepared);
  plan.logs = logs_.of_plan(generation.plan);
  return plan;
}

WorkerProcess::Make Supervisor::make_of(const Slot& slot,
                                        const MasterGeneration& generation) const {
  WorkerProcess::Make make;
  if (const PoolPlan* place = place_of(slot, generation)) {
    make.connections_max = place->connections_max;
    make.nofile = place->nofile;
  }
  if (generation.run_as.change) {
    make.user = generation.run_as.user;
    make.group = generation.run_as.group;
  }
  return make;
}

void Supervisor::prepare_worker(Slot& slot) {
  WorkerProcess& worker = *slot.worker;
  const int certificates = next_certificates_ ? next_certificates_->fd.get() : -1;
  if (!worker.order_prepare(plan_of(slot, *next_), next_->config.get(), certificates)) {
    deaths_.push_back(worker.name() + " could not be told to prepare the configuration");
  }
}

void Supervisor::prepare(MasterGenerationPtr next, CertificateBundlePtr certificates, Moment now) {
  next_ = std::move(next);
  next_certificates_ = std::move(certificates);
  deaths_.clear();
  for (const auto& slot : slots_) {
    if (slot->worker) prepare_worker(*slot);
  }
  for (const PoolPlan& pool : next_->plan.pools) {
    for (uint32_t index = 0; index < pool.workers; ++index) {
      Slot& slot = slot_of(pool.name, index);
      // A place of the current generation without a worker has one soon.
      if (slot.worker || place_of(slot, *current_) != nullptr) continue;
      slot.parked = true;
      Result<std::unique_ptr<WorkerProcess>> worker = fork_worker(slot, *next_, true, now);
      if (worker) {
        slot.worker = std::move(*worker);
      } else {
        deaths_.push_back(name_of(slot) + " could not be started: " + worker.error().message);
      }
    }
  }
}

Supervisor::Outcome Supervisor::outcome() const {
  if (!deaths_.empty()) return Outcome::kFailed;
  bool all = true;
  for (const auto& slot : slots_) {
    if (!slot->worker) continue;
    if (slot->worker->failed == next_->number) return Outcome::kFailed;
    if (slot->worker->prepared != next_->number) all = false;
  }
  return all ? Outcome::kPrepared : Outcome::kPending;
}

std::string Supervisor::failures() const {
  std::string text;
  for (const std::string& death : deaths_) add_line(text, death);
  // All workers compile the same bytes: what they have to say is mostly the same.
  std::set<std::string> said;
  for (const auto& slot : slots_) {
    if (!slot->worker || slot->worker->failed != next_->number) continue;
    if (said.insert(slot->worker->failure).second) {
      add_line(text, slot->worker->name() +
                         " cannot prepare the configuration: " + trimmed(slot->worker->failure));
    }
  }
  return text;
}

std::string Supervisor::waiting_for() const {
  std::string names;
  for (const auto& slot : slots_) {
    if (!slot->worker || slot->worker->prepared == next_->number) continue;
    if (!names.empty()) names += ", ";
    names += name_of(*slot);
  }
  return names;
}

void Supervisor::commit() {
  current_ = std::exchange(next_, nullptr);
  certificates_ = std::exchange(next_certificates_, nullptr);
  for (const auto& slot : slots_) {
    const bool was_parked = slot->parked;
    slot->parked = place_of(*slot, *current_) == nullptr;
    if (!slot->worker) {
      if (!slot->parked && !slot->start_at) slot->start_at = Moment{0};
      if (slot->parked) slot->start_at.reset();
      continue;
    }
    WorkerProcess& worker = *slot->worker;
    (void)worker.order(ChannelVerb::kSwitch, current_->number);
    worker.certificates = certificates_ ? certificates_->edition : 0;
    worker.settle(true);
    worker.idle = false;
    if (slot->parked) {
      worker.state = WorkerState::kParked;
    } else if (was_parked && worker.state == WorkerState::kParked) {
      worker.state = WorkerState::kReady;
    }
    slot->replace = !slot->parked && worker.make != make_of(*slot, *current_);
  }
  std::erase_if(slots_, [](const auto& slot) { return slot->parked && !slot->worker; });
}

void Supervisor::discard() {
  if (!next_) return;
  for (const auto& slot : slots_) {
    if (!slot->worker) continue;
    if (slot->worker->waits && slot->worker->generation == 0 && slot->parked) {
      leave(std::move(slot->worker), ChannelVerb::kDiscard, next_->number);
      continue;
    }
    (void)slot->worker->order(ChannelVerb::kDiscard, next_->number);
    slot->worker->settle(false);
  }
  std::erase_if(slots_, [](const auto& slot) { return slot->parked && !slot->worker; });
  next_.reset();
  next_certificates_.reset();
  deaths_.clear();
}

bool Supervisor::all_switched() const {
  return std::all_of(slots_.begin(), slots_.end(), [this](const auto& slot) {
    return !slot->worker || slot->worker->generation == current_->number;
  });
}

std::string Supervisor::kill_unswitched() {
  std::string names;
  for (const auto& slot : slots_) {
    if (!slot->worker || slot->worker->generation == current_->number) continue;
    if (!names.empty()) names += ", ";
    names += name_of(*slot);
    kill(slot->worker->pid, SIGKILL);
  }
  return names;
}

bool Supervisor::replacing() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const auto& slot) { return slot->incoming != nullptr; });
}

// One at a time, the new process before the old one goes.
void Supervisor::continue_replacing(Moment now) {
  if (next_) return;
  for (const auto& slot : slots_) {
    if (!slot->incoming) continue;
    if (slot->incoming->state != WorkerState::kReady) {
      // One that hangs would stand in the way of every reload; see reap().
      if (now - slot->incoming->started >= current_->plan.reload_timeout) {
        kill(slot->incoming->pid, SIGKILL);
      }
      return;
    }
    GH_LOG(kNotice, "{}: process {} takes over from {}", name_of(*slot), slot->incoming->pid,
           slot->worker->pid);
    leave(std::move(slot->worker), ChannelVerb::kDrain);
    slot->worker = std::move(slot->incoming);
    slot->replace = false;
  }
  for (const auto& slot : slots_) {
    if (!slot->replace || slot->parked || !slot->worker) continue;
    if (slot->worker->state != WorkerState::kReady) continue;
    Result<std::unique_ptr<WorkerProcess>> worker = fork_worker(*slot, *current_, false, now);
    if (!worker) {
      GH_LOG(kError, "{}: not replaced: {}", name_of(*slot), worker.error().message);
      slot->replace = false;
      continue;
    }
    slot->incoming = std::move(*worker);
    return;
  }
}

void Supervisor::stop_idle_parked() {
  if (next_) return;
  for (const auto& slot : slots_) {
    if (!slot->worker) continue;
    if (!slot->parked) {
      slot->worker->idle = false;
    } else if (slot->worker->idle) {
      leave(std::move(slot->worker), ChannelVerb::kStop);
    }
  }
  std::erase_if(slots_, [](const auto& slot) { return slot->parked && !slot->worker; });
}

}  // namespace gatehouse
