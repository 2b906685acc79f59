// TargetStates: what a worker keeps of targets and upstreams, across the generations that name
// them.
//
// A target's is found by its name and address: a name that means another address now begins anew.
// Each generation, and each set made at run time, holds the states of its targets once. When the
// last one lets go, the idle connections are closed at once; the state itself goes with the last
// connection or try, at the end of that turn. An upstream's is found by its name, and goes with the
// last of its targets' states and of the generations that have it. All of it happens on the loop's
// thread.
//
// Also here is what choosing needs of the worker: the table of shared rows, whether the agent's
// verdicts count at the moment, and random bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/agent_heartbeat.h"
#include "core/event_loop.h"
#include "core/metrics.h"
#include "core/traffic_table.h"
#include "http/balancer.h"
#include "http/target_set.h"
#include "http/upstream_connection.h"
#include "http/upstream_state.h"

namespace gatehouse {

// How old the agent's last beat may be for its verdicts to count.
inline constexpr int64_t kVerdictsCountUs = 10'000'000;

class TargetStates {
 public:
  explicit TargetStates(EventLoop& loop);
  TargetStates(const TargetStates&) = delete;
  TargetStates& operator=(const TargetStates&) = delete;

  // What workers share; without it no target has a row. REQUIRES: the column of `worker_row` is
  // open; both outlive this. `heartbeat` null: no agent, no verdicts.
  void share(TrafficTable& table, uint32_t worker_row, const AgentHeartbeat* heartbeat);
  TrafficTable* table() { return table_; }
  uint32_t worker_row() const { return worker_row_; }

  static std::string key_of(const UpstreamTarget& target);

  // The state of that key, made where there is none, with the row that `target` is bound to; of
  // that upstream (null: a plain one). REQUIRES: release() once for each hold(); target.cells.
  TargetState& hold(const std::string& key, const UpstreamTarget& target, UpstreamState* upstream);
  void release(TargetState& state);

  // The state of the upstream, with its row; null: none. REQUIRES: release() once for each.
  UpstreamState& hold_upstream(const std::string& name, const uint32_t* row_index);
  void release(UpstreamState& state);

  // Nothing needs the state any more: it goes at the end of this turn, unless it is held by then.
  void leave(TargetState& state);

  size_t size() const { return states_.size(); }

  // Whether the agent's verdicts count in this turn of the loop.
  bool verdicts_count();
  BalancerRandom& dice() { return dice_; }
  // Room for the candidates of one choice.
  std::vector<Candidate>& candidates() { return candidates_; }

 private:
  static void sweep(void* self);

  EventLoop& loop_;
  TrafficTable* table_ = nullptr;
  uint32_t worker_row_ = 0;
  const AgentHeartbeat* heartbeat_ = nullptr;
  Moment looked_{-1};  // at the heartbeat
  bool verdicts_count_ = false;
  BalancerRandom dice_;
  std::vector<Candidate> candidates_;
  std::unordered_map<std::string, std::unique_ptr<UpstreamState>> upstreams_;
  std::unordered_map<std::string, std::unique_ptr<TargetState>> states_;
  std::vector<TargetState*> leaving_;
  Deferred sweep_{&TargetStates::sweep, this};
};

}  // namespace gatehouse
