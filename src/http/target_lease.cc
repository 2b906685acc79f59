// Counting a try, and what is learnt of it; see target_lease.h.
#include "http/target_lease.h"

#include "http/target_states.h"

namespace gatehouse {

void TargetLease::settle(const TryOutcome&) {}

void TargetLease::give_back() {
  TargetState* const state = std::exchange(state_, nullptr);
  --state->leases_;
  if (state->unused() && state->states_ != nullptr) state->states_->leave(*state);
}

}  // namespace gatehouse
