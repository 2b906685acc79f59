// Upstream: a group of targets, as a generation knows it.
//
// The choice among the targets is in http/target_choice, what is counted of a choice in
// http/target_lease, the connections in http/upstream_connection. What changes while traffic flows
// outlives the generation: TargetState is the worker's, found by the target's name and address
// (http/target_states).
#pragma once

#include <memory>
#include <string>

#include "core/config.h"
#include "http/target_set.h"
#include "http/upstream_conf.h"
#include "http/upstream_policy.h"

namespace gatehouse {

class MemberTargets;
class UpstreamState;

struct Upstream {
  std::string name;
  Origin origin;
  const UpstreamConf* conf = nullptr;
  bool is_inline = false;  // made by a route's `upstream = http://…`
  bool is_https = false;   // by `upstream = https://…`
  // One target of the configuration and nothing that workers share: it has no row in shared memory,
  // and choosing it costs nothing.
  bool plain = false;
  // What it does about failures; null where its section says nothing of it.
  std::unique_ptr<UpstreamPolicy> policy;
  bool checked = false;      // the agent checks its targets
  bool has_members = false;  // discovery may change them
  TargetSet configured;
  // Of the targets that discovery brings and no line stands for.
  std::shared_ptr<const TargetTransport> transport;
  // Bound to a worker; null before, and of a plain one.
  UpstreamState* state = nullptr;
  TrafficRow* row = nullptr;
  uint32_t row_index = 0;
  // A list made at run time that took its place; empty where there was none. Of the loop's thread.
  mutable TargetSetRef discovered;
  mutable std::unique_ptr<MemberTargets> members;  // what makes them; null without discovery

  Upstream();
  ~Upstream();

  TargetSet& targets() const {
    return discovered ? *discovered : const_cast<TargetSet&>(configured);
  }
};

}  // namespace gatehouse
