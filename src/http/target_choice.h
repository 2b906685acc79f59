// Choosing a target for a try.
//
//   ChoiceContext context(exchange);
//   Choice choice = choose_target(upstream, context);
//   if (choice.busy) {
//     TargetWait wait(upstream, context);  // http/target_queue.h
//     choice = co_await wait;
//   }
//   if (!choice.lease) exchange.refuse(choice.why);
//   …
//   context.mark_tried(choice.lease);  // before the next choice: not this one again
//
// Candidates are the targets that have an address, were not tried, and that neither the operator
// nor health nor a breaker keeps out:
//
//   operator   drained: only clients whose sticky cookie names it; disabled: nobody
//   health     the agent's verdict, while the agent lives; passive ejection. Where fewer than
//              `panic` of the targets are healthy neither counts. An ejection never keeps out the
//              last that is left.
//   backup     only where no other target is a candidate
//   capacity   fewer in flight, over all workers, than max_connections. With a queue, all others
//              having their fill means to wait, not to use a backup.
//
// Among the candidates the balancer decides (http/balancer). Nothing is allocated.
#pragma once

#include <cstdint>
#include <string_view>

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
  // The hash of the key, once it was needed.
  uint64_t key = 0;
  enum class KeyState : uint8_t { kUnknown, kAbsent, kKnown } key_state = KeyState::kUnknown;
  std::string_view sticky_field;  // the Set-Cookie that was added
};

struct Choice {
  TargetLease lease;               // empty: there is none, and why
  Reason why = Reason::kNoTarget;  // where the lease is empty
  bool busy = false;               // all have their fill, and there is room to wait
};

// The next target, counted as in flight there.
Choice choose_target(const Upstream& upstream, ChoiceContext& context);
// For the queue: the same for whoever is the first in it.
Choice choose_waiting(const Upstream& upstream, ChoiceContext& context);

}  // namespace gatehouse
