// H2Pool: the HTTP/2 connections of a worker to one target.
//
// A call goes to the first connection that has room, so that the others fall idle and are closed.
// Where none has any, one more connection is made, and all that want one meanwhile wait for it: a
// burst makes as few connections as the target's stream limit allows. A new connection serves its
// first call at once, the others when the target's settings have said how many it takes.
//
// The connection is made by the pool, not by an exchange: one that gives up takes nothing from
// those that wait for the same.
#pragma once

#include <coroutine>
#include <memory>
#include <vector>

#include "core/event_loop.h"
#include "core/task.h"
#include "core/tls_layer.h"
#include "http/h2_connection.h"
#include "http/reason.h"
#include "http/target_transport.h"

namespace gatehouse {

class CertificateHolder;
class TargetState;
struct UpstreamTarget;

class H2Pool {
 public:
  H2Pool(EventLoop& loop, TargetState& state) : loop_(loop), state_(state) {}
  H2Pool(const H2Pool&) = delete;
  H2Pool& operator=(const H2Pool&) = delete;
  ~H2Pool();

  // A call on a connection with room; null where there is none. The caller opens it before it
  // waits for anything. `arena` outlives it.
  std::unique_ptr<H2Call> reserve(Arena& arena);

  // Makes a connection of the pool's of one that speaks HTTP/2, and a call on it.
  std::unique_ptr<H2Call> adopt(std::unique_ptr<UpstreamConnection> transport,
                                std::shared_ptr<const TargetTransport> settings, Arena& arena);
  // The target was asked last for what it prefers, and chose HTTP/1.1: there is nothing to share.
  bool target_prefers_http1() const { return prefers_http1_; }

  class Wait;
  // No connection takes further calls; they end with those that they have.
  void retire();

  size_t size() const { return connections_.size(); }

 private:
  friend class H2Connection;
  void want(const UpstreamTarget& target, const CertificateHolder& certificates);
  Task<void> dial(SocketAddress address, std::shared_ptr<const TargetTransport> settings,
                  std::unique_ptr<TlsLayer> tls);
  void start(std::unique_ptr<UpstreamConnection> transport,
             std::shared_ptr<const TargetTransport> settings);
  // There may be room. Later in this turn those that wait look for it.
  void wake();
  bool is_wanted() const { return first_ != nullptr; }
  // A connection is dead; `failed`: before it was of any use.
  void bury(bool failed);
  void finish_all(Reason why);
  static void on_wake(void* self);
  static void on_bury(void* self);

  EventLoop& loop_;
  TargetState& state_;
  std::vector<std::unique_ptr<H2Connection>> connections_;
  Wait* first_ = nullptr;
  Wait* last_ = nullptr;
  uint64_t turn_ = 0;                    // of finish_all()
  Reason dial_failure_ = Reason::kNone;  // of the connection that was being made
  bool dialled_ = false;                 // the task is over
  bool prefers_http1_ = false;
  std::unique_ptr<UpstreamConnection> http1_;  // what was made, where the target chose HTTP/1.1
  bool lost_new_ = false;                      // one died before it was of use
  Deferred wake_{&H2Pool::on_wake, this};
  Deferred bury_{&H2Pool::on_bury, this};
  Task<void> dialling_;
};

// Waits for room: kNone means to look again, anything else why there is none.
class H2Pool::Wait {
 public:
  Wait(H2Pool& pool, const UpstreamTarget& target, const CertificateHolder& certificates,
       Duration timeout)
      : pool_(pool), target_(target), certificates_(certificates), timeout_(timeout) {}
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  ~Wait() { leave(); }
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> awaiting);
  Reason await_resume() const { return why_; }
  // With kNone: a connection for HTTP/1.1, where that is what has come of it; else null.
  std::unique_ptr<UpstreamConnection> take_connection() { return std::move(connection_); }

 private:
  friend class H2Pool;
  void leave();
  void finish(Reason why);
  static void on_timeout(void* self);

  H2Pool& pool_;
  const UpstreamTarget& target_;
  const CertificateHolder& certificates_;
  Duration timeout_;
  Wait* next_ = nullptr;
  Wait* previous_ = nullptr;
  bool waiting_ = false;
  uint64_t since_ = 0;  // turn of finish_all()
  Reason why_ = Reason::kNone;
  std::unique_ptr<UpstreamConnection> connection_;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&Wait::on_timeout, this};
};

}  // namespace gatehouse
