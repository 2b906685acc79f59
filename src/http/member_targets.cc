// See member_targets.h.
#include "http/member_targets.h"

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "http/row_holds.h"
#include "http/target_binding.h"
#include "http/traffic_plan.h"

namespace gatehouse {

MemberTargets::MemberTargets(const Upstream& upstream, MemberTargetsPlace place, HashKey key)
    : upstream_(upstream), place_(std::move(place)), key_(key) {
  handle_.upstream = traffic_name(upstream);
}

void MemberTargets::read() {
  const Result<MemberList> list = place_.lists.read(handle_);
  if (!list) return;  // it changes just now: again with the next choice
  seen_ = list->version;
  if (list->known) {
    apply(*list);
  } else {
    upstream_.discovered.reset();
  }
}

void MemberTargets::apply(const MemberList& list) {
  // Held by the ref from here on: `before` must not go before its targets' states are held anew.
  const TargetSetRef set(*new TargetSet(*place_.states));
  set->version = list.version;
  for (const UpstreamTarget& line : upstream_.configured.targets) {
    if (!line.is_name) {
      add(*set, line);
      continue;
    }
    const uint64_t source = member_source(line.address_text);
    const auto found = std::find_if(list.members.begin(), list.members.end(),
                                    [&](const Member& one) { return one.source == source; });
    if (found != list.members.end() && !found->is_line) continue;  // its targets stand for it
    UpstreamTarget target = line;
    target.resolved = found != list.members.end();
    if (target.resolved) target.address = found->address;
    add(*set, std::move(target));
  }
  for (const Member& member : list.members) {
    if (member.is_line) continue;
    const UpstreamTarget* line = nullptr;
    for (const UpstreamTarget& one : upstream_.configured.targets) {
      if (member.source != 0 && member_source(one.address_text) == member.source) line = &one;
    }
    UpstreamTarget target = made_of(member, line);
    const bool known =
        std::any_of(set->targets.begin(), set->targets.end(),
                    [&target](const UpstreamTarget& other) { return other.name == target.name; });
    if (!known) add(*set, std::move(target));
  }
  upstream_.discovered = set;
}

UpstreamTarget MemberTargets::made_of(const Member& member, const UpstreamTarget* line) const {
  UpstreamTarget target;
  target.address = member.address;
  target.address_text = member.address.format();
  target.name = upstream_.name + "/" + target.address_text;
  target.host = line != nullptr ? line->host : target.address_text;
  target.weight = member.weight;
  target.backup = member.backup || (line != nullptr && line->backup);
  target.max_connections =
      line != nullptr ? line->max_connections : upstream_.conf->max_connections;
  target.transport = line != nullptr ? line->transport : upstream_.transport;
  target.origin = line != nullptr ? line->origin : upstream_.origin;
  return target;
}

// Binds the target to the worker. One for which there is no row is left out.
void MemberTargets::add(TargetSet& set, UpstreamTarget target) {
  TrafficTable* const table = place_.states->table();
  RowHolds rows;
  if (!upstream_.plain) {
    rows = RowHolds(*table, place_.row);
    if (Result<void> bound = bind_target(upstream_, target, rows, key_); !bound) {
      GH_LOG(kError, "upstream {}, target {}: {}", upstream_.name, target.address_text,
             bound.error().message);
      return;
    }
    // The first worker to have a target that came later begins its slow start.
    if (upstream_.discovered && table->sum(target.row_index, &TrafficCell::holds) == 1) {
      target.row->up_since_ms.store(static_cast<uint64_t>(upstream_.state->loop().now().us / 1000),
                                    std::memory_order_relaxed);
    }
  }
  target.cells = &place_.metrics->cells(place_.row, SeriesKind::kTarget, target.name);
  // From here on the state holds the row.
  target.state = &place_.states->hold(TargetStates::key_of(target), target, upstream_.state);
  set.targets.push_back(std::move(target));
}

}  // namespace gatehouse
