// What a worker does about an upstream that fails, is slow or is at its limit: the part of an
// Upstream that is there only where its section asks for it.
//
//   UpstreamPass pass;
//   const Reason why = pass.enter(*upstream.policy, now);   // kNone: go ahead
//   ...
//   pass.leave({TryOutcome::Kind::kAnswered, 200, latency}, now);
//
// A pass is one request's place in its upstream: it counts against the adaptive limit until it
// ends, and what leave() says goes to the upstream's breaker. One that ends without has learnt
// nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/adaptive_limit.h"
#include "core/breaker.h"
#include "http/policy_conf.h"
#include "http/reason.h"
#include "http/retry_budget.h"
#include "http/target_lease.h"

namespace gatehouse {

struct Upstream;

struct UpstreamPolicy {
  const UpstreamPolicyConf* conf = nullptr;
  std::string upstream;                // the name, for logs
  const Upstream* fallback = nullptr;  // another upstream; null: a reply, or none
  // The upstream's row in shared memory, bound to a worker; without a table where it needs none.
  BreakerCells cells;
  // Of the loop's thread.
  mutable RetryBudget budget;
  mutable LatencySample latencies;
};

// The policy of the section; null where it says nothing. Its fallback and its cells are still to be
// set.
std::unique_ptr<UpstreamPolicy> make_policy(const UpstreamPolicyConf& conf, std::string upstream);

// Whether a try that ended so counts as a failure of the target. A cancelled one never does.
bool is_failure(const FailureSet& failures, const TryOutcome& outcome);

// One line for a change of state, by the worker that made it. `name`: "users" or
// "users/10.0.0.1:80".
void write_breaker_change(std::string_view name, const BreakerChange& change);
inline void log_breaker_change(std::string_view name, const BreakerChange& change) {
  if (change.changed) [[unlikely]]
    write_breaker_change(name, change);
}

class UpstreamPass {
 public:
  UpstreamPass() = default;
  UpstreamPass(const UpstreamPass&) = delete;
  UpstreamPass& operator=(const UpstreamPass&) = delete;
  ~UpstreamPass() { end(); }

  // kNone, kCircuitOpen or kOverloadUpstream. REQUIRES: not entered before.
  Reason enter(const UpstreamPolicy& policy, Moment now);
  // How the request went, retries included. The first call counts. The place is held on to until
  // the pass ends. REQUIRES: the generation is held.
  void leave(const TryOutcome& outcome, Moment now);
  // Gives back what it holds.
  void end();

 private:
  const UpstreamPolicy* policy_ = nullptr;
  BreakerCells cells_;
  BreakerPass breaker_;
  bool counted_ = false;   // in flight
  bool admitted_ = false;  // by the breaker
};

}  // namespace gatehouse
