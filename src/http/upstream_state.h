// UpstreamState: what a worker keeps of an upstream across generations.
//
// Its row in shared memory and the queue of those that wait for one of its targets. Found by the
// upstream's name (http/target_states); held by the generations that have it and by the states of
// its targets.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/event_loop.h"
#include "core/traffic_table.h"
#include "http/target_queue.h"

namespace gatehouse {

class TargetStates;

class UpstreamState {
 public:
  UpstreamState(TargetStates& states, EventLoop& loop, std::string key)
      : states_(states), loop_(loop), key_(std::move(key)), queue_(loop) {}
  ~UpstreamState();
  UpstreamState(const UpstreamState&) = delete;
  UpstreamState& operator=(const UpstreamState&) = delete;

  TargetStates& states() { return states_; }
  EventLoop& loop() { return loop_; }
  TargetQueue& queue() { return queue_; }

  // The row of the kind kUpstream and this worker's part of it; null in tests without a table.
  TrafficRow* row() { return row_; }
  TrafficCell* cell() { return cell_; }
  uint32_t row_index() const { return row_index_; }

 private:
  friend class TargetStates;
  TargetStates& states_;
  EventLoop& loop_;
  const std::string key_;
  TargetQueue queue_;
  TrafficRow* row_ = nullptr;
  TrafficCell* cell_ = nullptr;
  uint32_t row_index_ = 0;
  uint32_t holders_ = 0;
};

}  // namespace gatehouse
