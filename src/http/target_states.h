// TargetStates: what a worker keeps of each target, across the generations that name it.
//
// Found by the target's name and address: a name that means another address now begins anew. Each
// generation, and each set made at run time, holds the states of its targets once. When the last
// one lets go, the idle connections are closed at once; the state itself goes with the last
// connection in use, at the end of that turn. All of it happens on the loop's thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/event_loop.h"
#include "core/metrics.h"
#include "http/target_set.h"
#include "http/upstream_connection.h"

namespace gatehouse {

class TargetStates {
 public:
  explicit TargetStates(EventLoop& loop) : loop_(loop) {}
  TargetStates(const TargetStates&) = delete;
  TargetStates& operator=(const TargetStates&) = delete;

  static std::string key_of(const UpstreamTarget& target);

  // The state of that key, made where there is none. REQUIRES: release() once for each hold().
  TargetState& hold(const std::string& key, SeriesCells& cells);
  void release(TargetState& state);

  // Nothing needs the state any more: it goes at the end of this turn, unless it is held by then.
  void leave(TargetState& state);

  size_t size() const { return states_.size(); }

 private:
  static void sweep(void* self);

  EventLoop& loop_;
  std::unordered_map<std::string, std::unique_ptr<TargetState>> states_;
  std::vector<TargetState*> leaving_;
  Deferred sweep_{&TargetStates::sweep, this};
};

}  // namespace gatehouse
