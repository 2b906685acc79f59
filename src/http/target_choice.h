// Choosing a target for a try.
//
//   ChoiceContext context{exchange};
//   Choice choice = choose_target(upstream, context);
//   if (!choice.lease) exchange.refuse(choice.why);
//   ...
//   context.mark_tried(choice.lease);  // before the next choice: not this one again
//
// Candidates are the targets that are there and were not tried. Among them the balancer decides
// (http/balancer).
#pragma once

#include <cstdint>

#include "http/reason.h"
#include "http/target_lease.h"
#include "http/target_set.h"

namespace gatehouse {

class Exchange;
struct Upstream;

// What one exchange knows while it looks for targets. Belongs to its action.
struct ChoiceContext {
  explicit ChoiceContext(Exchange& for_exchange) : exchange(for_exchange) {}

  // Leaves the target out of the choices to come. Those beyond the 64th of a set are not kept in
  // mind.
  void mark_tried(const TargetLease& lease);
  // Allows every target again.
  void forget_tried() { tried = 0; }

  Exchange& exchange;
  TargetSetRef set;    // the one that `tried` is about
  uint64_t tried = 0;  // by index in `set`
};

struct Choice {
  TargetLease lease;               // empty: there is none, and why
  Reason why = Reason::kNoTarget;  // where the lease is empty
};

// The next target, counted as in flight there. The exchange holds on to what target() points at.
Choice choose_target(const Upstream& upstream, ChoiceContext& context);

}  // namespace gatehouse
