// Upstreams: groups of targets, the choice among them, and the kept-alive connections to each.
//
// Upstream and UpstreamTarget are part of a generation and immutable once bound to a worker. What
// changes while traffic flows outlives the generation: TargetState (idle connections) is the
// worker's, found by the target's name and address (http/target_states); UpstreamState (where the
// balancer stands) is handed on from one generation's upstream to the next one's of that name.
//
// A worker's idle connections to one target are a stack: the one used last is used next, so that
// the others grow old and are closed. Each is watched: one that the target closes, or that says
// something unasked, is dropped at once and not met by a request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/metrics.h"
#include "core/sockets.h"
#include "core/stream.h"
#include "http/upstream_conf.h"

namespace gatehouse {

class TargetState;
class TargetStates;
struct UpstreamState;

// One server of an upstream.
struct UpstreamTarget {
  std::string name;          // "users/127.0.0.1:8080": the metric series
  std::string address_text;  // "127.0.0.1:8080": in logs
  SocketAddress address;
  std::string host;  // for a Host field where the request has none
  uint32_t weight = 1;
  bool resolved = true;  // false: down, its name means no address
  Origin origin;
  // Bound to a worker; null before.
  TargetState* state = nullptr;
  SeriesCells* cells = nullptr;
};

// A group of targets.
struct Upstream {
  std::string name;
  Origin origin;
  const UpstreamConf* conf = nullptr;
  bool is_inline = false;  // made by a route's `upstream = http://…`
  std::vector<UpstreamTarget> targets;
  // Bound to a worker; null before. `own_state` is there for where `state` is not inherited: it was
  // made by the thread that will free it.
  std::shared_ptr<UpstreamState> state;
  std::shared_ptr<UpstreamState> own_state;
};

// A connection to a target, in use or idle. Owned by whoever holds the pointer; while idle by its
// TargetState.
class UpstreamConnection {
 public:
  UpstreamConnection(EventLoop& loop, UniqueFd fd, TargetState& state);
  ~UpstreamConnection();
  UpstreamConnection(const UpstreamConnection&) = delete;
  UpstreamConnection& operator=(const UpstreamConnection&) = delete;

  Stream& stream() { return stream_; }
  TargetState& state() { return state_; }
  bool reused() const { return exchanges_ > 0; }

 private:
  friend class TargetState;
  Stream stream_;
  TargetState& state_;
  Moment opened_;
  Moment idle_since_;
  uint32_t exchanges_ = 0;  // finished over it
  UpstreamConnection* newer_ = nullptr;
  UpstreamConnection* older_ = nullptr;
};

// What a worker keeps about one target across generations. It is held by each generation that
// names the target; its connections keep it too, so that it goes with the last of both.
class TargetState {
 public:
  // `states` is told when nothing needs it any more; null: somebody else sees to that.
  TargetState(EventLoop& loop, std::string key, SeriesCells& cells, TargetStates* states = nullptr)
      : loop_(loop), key_(std::move(key)), cells_(cells), states_(states) {}
  ~TargetState();
  TargetState(const TargetState&) = delete;
  TargetState& operator=(const TargetState&) = delete;

  // An idle connection that is alive as far as is known, or null.
  std::unique_ptr<UpstreamConnection> take_idle();
  // Gives a connection back after an exchange; closes it where the settings say so.
  void give_back(std::unique_ptr<UpstreamConnection> connection, const UpstreamConf& conf);
  void close_idle();
  uint32_t idle_count() const { return idle_count_; }

  SeriesCells& cells() { return cells_; }

 private:
  friend class TargetStates;
  friend class UpstreamConnection;
  bool unused() const { return holders_ == 0 && connections_ == 0; }
  static void on_idle_activity(void* connection);
  static void on_expiry(void* self);
  void unlink(UpstreamConnection& connection);

  EventLoop& loop_;
  const std::string key_;
  SeriesCells& cells_;
  TargetStates* states_;
  uint32_t holders_ = 0;      // generations that name it
  uint32_t connections_ = 0;  // open ones, in use and idle
  bool leaving_ = false;      // on the list of TargetStates
  UpstreamConnection* newest_ = nullptr;
  UpstreamConnection* oldest_ = nullptr;
  uint32_t idle_count_ = 0;
  Duration idle_timeout_{};
  Timer expiry_{&TargetState::on_expiry, this};
};

// Where the weighted round robin of one upstream stands in this worker.
struct UpstreamState {
  std::vector<int64_t> current;  // by target
};

// Gives `upstream` its state: that of `before` where both have the same targets in the same order,
// else its own, which goes on where `before` stands with the targets they share. `before` may be
// null. REQUIRES: own_state has a place for each target.
void inherit_state(Upstream& upstream, const Upstream* before);

// The next target by smooth weighted round robin: over any sum-of-weights picks each target is
// picked exactly weight times, spread evenly. Targets whose bit is set in `tried` and unresolved
// ones are left out. Null where none is left. Targets beyond the 64th are never in `tried`.
UpstreamTarget* choose_target(const Upstream& upstream, uint64_t tried);

}  // namespace gatehouse
