// See target_states.h.
#include "http/target_states.h"

#include <utility>

namespace gatehouse {

std::string TargetStates::key_of(const UpstreamTarget& target) {
  return target.name + " " + target.address.format();
}

TargetState& TargetStates::hold(const std::string& key, SeriesCells& cells) {
  std::unique_ptr<TargetState>& state = states_[key];
  if (state == nullptr) state = std::make_unique<TargetState>(loop_, key, cells, this);
  ++state->holders_;
  return *state;
}

void TargetStates::release(TargetState& state) {
  if (--state.holders_ > 0) return;
  state.close_idle();
  if (state.unused()) leave(state);
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

}  // namespace gatehouse
