// Choosing a target for a try; see target_choice.h.
#include "http/target_choice.h"

#include "http/exchange.h"
#include "http/upstream.h"
#include "http/upstream_connection.h"

namespace gatehouse {

namespace {

size_t index_of(const TargetSet& set, const UpstreamTarget& target) {
  return static_cast<size_t>(&target - set.targets.data());
}

}  // namespace

// Smooth weighted round robin: over any sum-of-weights choices each target is chosen exactly weight
// times, spread evenly.
class TargetChooser {
 public:
  TargetChooser(const Upstream& upstream, ChoiceContext& context)
      : upstream_(upstream), context_(context) {}

  Choice choose() {
    follow_set();
    TargetSet& set = *context_.set;
    if (upstream_.plain) {
      if (!usable(set, 0)) return {};
      return lease(set.targets[0]);
    }
    int64_t total = 0;
    UpstreamTarget* best = nullptr;
    for (size_t i = 0; i < set.targets.size(); ++i) {
      if (!usable(set, i)) continue;
      UpstreamTarget& target = set.targets[i];
      total += target.weight;
      target.state->position += target.weight;
      if (best == nullptr || target.state->position > best->state->position) best = &target;
    }
    if (best == nullptr) return {};
    best->state->position -= total;
    return lease(*best);
  }

 private:
  bool usable(const TargetSet& set, size_t i) const {
    return set.targets[i].resolved && (i >= 64 || (context_.tried >> i & 1) == 0);
  }

  // Chooses from the set of this moment; what was tried of another one is left out here too.
  void follow_set() {
    TargetSet& now = upstream_.targets();
    TargetSet* const before = context_.set.get();
    if (before == &now) return;
    if (before != nullptr && context_.tried != 0) {
      uint64_t tried = 0;
      for (size_t i = 0; i < now.targets.size() && i < 64; ++i) {
        for (size_t j = 0; j < before->targets.size() && j < 64; ++j) {
          const bool same = now.targets[i].state == before->targets[j].state;
          if (same && (context_.tried >> j & 1) != 0) tried |= uint64_t{1} << i;
        }
      }
      context_.tried = tried;
    }
    context_.set = TargetSetRef(now);
  }

  Choice lease(UpstreamTarget& target) {
    Choice choice;
    choice.lease.upstream_ = &upstream_;
    choice.lease.target_ = &target;
    choice.lease.set_ = context_.set;
    if (!upstream_.plain) {
      choice.lease.state_ = target.state;
      ++target.state->leases_;
    }
    return choice;
  }

  const Upstream& upstream_;
  ChoiceContext& context_;
};

void ChoiceContext::mark_tried(const TargetLease& lease) {
  if (&lease.set() != set.get()) return;
  const size_t i = index_of(*set, lease.target());
  if (i < 64) tried |= uint64_t{1} << i;
}

Choice choose_target(const Upstream& upstream, ChoiceContext& context) {
  return TargetChooser(upstream, context).choose();
}

}  // namespace gatehouse
