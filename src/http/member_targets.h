// MemberTargets: keeps an upstream's targets as discovery says (core/member_lists).
//
// Each worker looks at the list's version whenever it chooses, which is one relaxed load, and makes
// another TargetSet where it has changed. That is work for the loop, but for a few microseconds a
// target and only when a list changes: it takes the segment's lock for rows and series of targets
// that are new.
//
// A line of the configuration that gives an address is always a target. One that gives a name has
// the address that discovery found for it; or is replaced by all the targets that were found under
// it; or is down where none was. What else was found are targets of their own. As long as nothing
// was published the configuration is valid as it was compiled.
#pragma once

#include <cstdint>
#include <string>

#include "core/keyed_hash.h"
#include "core/member_lists.h"
#include "core/metrics.h"
#include "http/target_states.h"
#include "http/upstream.h"

namespace gatehouse {

// What a worker has for the targets that it makes.
struct MemberTargetsPlace {
  MemberLists lists;
  Metrics* metrics;
  uint32_t row;
  TargetStates* states;
};

class MemberTargets {
 public:
  // REQUIRES: `upstream` is bound, and outlives this; `key`: see sticky_key().
  MemberTargets(const Upstream& upstream, MemberTargetsPlace place, HashKey key);

  // Points the upstream at a new set, where the list has changed.
  void follow() {
    if (place_.lists.version(handle_) != seen_) [[unlikely]]
      read();
  }

 private:
  void read();
  void apply(const MemberList& list);
  void add(TargetSet& set, UpstreamTarget target);
  UpstreamTarget made_of(const Member& member, const UpstreamTarget* line) const;

  const Upstream& upstream_;
  MemberTargetsPlace place_;
  HashKey key_;
  MemberHandle handle_;
  uint64_t seen_ = UINT64_MAX;
};

}  // namespace gatehouse
