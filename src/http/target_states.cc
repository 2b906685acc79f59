// See target_states.h.
#include "http/target_states.h"

#include <unistd.h>

#include <utility>

#include "http/target_transport.h"

namespace gatehouse {

UpstreamState::~UpstreamState() {
  if (row_ != nullptr) states_.table()->release(states_.worker_row(), row_index_);
}

TargetStates::TargetStates(EventLoop& loop)
    : loop_(loop),
      dice_(static_cast<uint64_t>(loop.now().us) ^ static_cast<uint64_t>(::getpid()) << 32) {}

void TargetStates::share(TrafficTable& table, uint32_t worker_row,
                         const AgentHeartbeat* heartbeat) {
  table_ = &table;
  worker_row_ = worker_row;
  heartbeat_ = heartbeat;
}

std::string TargetStates::key_of(const UpstreamTarget& target) {
  std::string key = target.name + " " + target.address.format();
  if (target.transport != nullptr) key += target.transport->key;
  return key;
}

TargetState& TargetStates::hold(const std::string& key, const UpstreamTarget& target,
                                UpstreamState* upstream) {
  std::unique_ptr<TargetState>& state = states_[key];
  if (state == nullptr) state = std::make_unique<TargetState>(loop_, key, *target.cells, this);
  ++state->holders_;
  // One that was of a plain upstream gets its row later.
  if (target.row != nullptr && state->row_ == nullptr) {
    state->row_ = target.row;
    state->row_index_ = target.row_index;
    state->cell_ = &table_->cell(worker_row_, target.row_index);
    state->cell_->holds.fetch_add(1, std::memory_order_seq_cst);
  }
  if (upstream != nullptr && state->upstream_ == nullptr) {
    state->upstream_ = upstream;
    ++upstream->holders_;
  }
  return *state;
}

void TargetStates::release(TargetState& state) {
  if (--state.holders_ > 0) return;
  state.close_idle();
  if (state.unused()) leave(state);
}

UpstreamState& TargetStates::hold_upstream(const std::string& name, const uint32_t* row_index) {
  std::unique_ptr<UpstreamState>& state = upstreams_[name];
  if (state == nullptr) state = std::make_unique<UpstreamState>(*this, loop_, name);
  ++state->holders_;
  if (row_index != nullptr && state->row_ == nullptr) {
    state->row_index_ = *row_index;
    state->row_ = &table_->row(*row_index);
    state->cell_ = &table_->cell(worker_row_, *row_index);
    state->cell_->holds.fetch_add(1, std::memory_order_seq_cst);
    state->queue_.set_cell(state->cell_);
  }
  return *state;
}

void TargetStates::release(UpstreamState& state) {
  if (--state.holders_ == 0) upstreams_.erase(std::string(state.key_));
}

void TargetStates::leave(TargetState& state) {
  if (std::exchange(state.leaving_, true)) return;
  leaving_.push_back(&state);
  loop_.defer(sweep_);
}

void TargetStates::sweep(void* self) {
  auto* states = static_cast<TargetStates*>(self);
  for (TargetState* state : std::exchange(states->leaving_, {})) {
    state->leaving_ = false;
    if (state->unused()) states->states_.erase(std::string(state->key_));
  }
}

bool TargetStates::verdicts_count() {
  const Moment now = loop_.now();
  if (now == looked_) return verdicts_count_;
  looked_ = now;
  verdicts_count_ = false;
  if (heartbeat_ != nullptr && heartbeat_->pid.load(std::memory_order_relaxed) != 0) {
    const int64_t age = loop_.wall_us() - heartbeat_->beat_us.load(std::memory_order_relaxed);
    verdicts_count_ = age < kVerdictsCountUs;
  }
  return verdicts_count_;
}

}  // namespace gatehouse
