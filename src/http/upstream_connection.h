// The connections of one worker to one target, and what else it keeps of that target.
//
// A worker's idle connections to a target are a stack: the one used last is used next, so that
// the others grow old and are closed. Each is watched: one that the target closes, or that says
// something unasked, is dropped at once and not met by a request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/event_loop.h"
#include "core/metrics.h"
#include "core/stream.h"
#include "core/tls_client.h"
#include "http/upstream_conf.h"

namespace gatehouse {

class H2Pool;
struct TrafficCell;
struct TrafficRow;
class TargetState;
class TargetStates;
class UpstreamState;

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
  // Before it is closed with nothing under way: over TLS the target is told that this is the end
  // (RFC 8446 §6.1). One that is cut off says nothing.
  void say_goodbye() {
    if (stream_.tls() != nullptr) stream_.shutdown_write();
  }
  // The PROXY header that it began with; empty where there was none.
  void set_header(std::string_view header) { header_ = header; }

 private:
  friend class TargetState;
  Stream stream_;
  TargetState& state_;
  std::string header_;
  Moment opened_;
  Moment idle_since_;
  uint32_t exchanges_ = 0;  // finished over it
  UpstreamConnection* newer_ = nullptr;
  UpstreamConnection* older_ = nullptr;
};

// What a worker keeps about one target across generations. It is held by each generation (or set
// made at run time) that names the target; its connections and leases keep it too, so that it goes
// with the last of them.
class TargetState {
 public:
  // `states` is told when nothing needs it any more; null: somebody else sees to that.
  TargetState(EventLoop& loop, std::string key, SeriesCells& cells, TargetStates* states = nullptr);
  ~TargetState();
  TargetState(const TargetState&) = delete;
  TargetState& operator=(const TargetState&) = delete;

  // An idle connection that is alive as far as is known and began with this PROXY header, or null.
  std::unique_ptr<UpstreamConnection> take_idle(std::string_view header = {});
  // Gives a connection back after an exchange; closes it where the settings say so.
  void give_back(std::unique_ptr<UpstreamConnection> connection, const UpstreamConf& conf);
  // Closes what is idle; connections that several share take no further exchange.
  void close_idle();
  // The connections that exchanges share.
  H2Pool& h2();
  uint32_t idle_count() const { return idle_count_; }

  SeriesCells& cells() { return cells_; }
  // What resumes TLS sessions with the target.
  TlsSessions& tls_sessions() { return tls_sessions_; }
  // "users/127.0.0.1:8080 127.0.0.1:8080": in logs.
  const std::string& key() const { return key_; }

  // The target's row in shared memory and this worker's part of it; null where it has none.
  TrafficRow* row() const { return row_; }
  TrafficCell* cell() const { return cell_; }
  uint32_t row_index() const { return row_index_; }

  // Where the target stands in the weighted round robin: see http/balancer.h.
  int64_t position = 0;

 private:
  friend class TargetChooser;
  friend class TargetLease;
  friend class TargetStates;
  friend class UpstreamConnection;
  bool unused() const { return holders_ == 0 && connections_ == 0 && leases_ == 0; }
  static void on_idle_activity(void* connection);
  static void on_expiry(void* self);
  void unlink(UpstreamConnection& connection);
  // REQUIRES: it is idle.
  void close_rested(UpstreamConnection& connection);

  EventLoop& loop_;
  const std::string key_;
  SeriesCells& cells_;
  TargetStates* states_;
  uint32_t holders_ = 0;      // generations and sets that name it
  uint32_t connections_ = 0;  // open ones, in use and idle
  uint32_t leases_ = 0;       // tries under way
  TrafficRow* row_ = nullptr;
  TrafficCell* cell_ = nullptr;
  uint32_t row_index_ = 0;
  UpstreamState* upstream_ = nullptr;  // held; null of a plain one
  bool leaving_ = false;               // on the list of TargetStates
  UpstreamConnection* newest_ = nullptr;
  UpstreamConnection* oldest_ = nullptr;
  uint32_t idle_count_ = 0;
  Duration idle_timeout_{};
  Timer expiry_{&TargetState::on_expiry, this};
  TlsSessions tls_sessions_;
  std::unique_ptr<H2Pool> h2_;  // null until one is needed
};

}  // namespace gatehouse
