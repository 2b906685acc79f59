// H2Connection: one HTTP/2 connection to a target, shared by the exchanges of a worker; and H2Call,
// one exchange's part of it.
//
//   std::unique_ptr<H2Call> call = pool.reserve(arena);   // http/h2_pool: a connection with room
//   call->open(fields, true);
//   const IoStatus sent = co_await call->send(bytes, true, nullptr, patience);
//   const IoStatus news = co_await call->changed(patience);
//   … call->head(), call->take_body(), call->end()        // http/h2_codec
//
// Two coroutines serve the connection: one reads and feeds the codec, then wakes whoever has got
// something; the other sends. What several calls want to send in one turn of the loop goes out in
// one write. Bytes are framed only as the socket takes them, so a slow target holds up those that
// upload to it, and their clients.
//
// A call that is destroyed before its answer has ended resets its stream and nothing else. A
// connection takes no more calls once the peer has said GOAWAY, it has served its number of
// requests or its time, or nobody wants its target any more; it ends with its last call. One that
// says nothing while an answer is overdue is asked for a sign of life (PING), so that calls to come
// do not wait for a dead one.
#pragma once

#include <coroutine>
#include <memory>
#include <span>
#include <string_view>

#include "core/event_loop.h"
#include "core/stream.h"
#include "core/task.h"
#include "http/h2_codec.h"
#include "http/target_transport.h"
#include "http/upstream_connection.h"

namespace gatehouse {

class H2Connection;
class H2Pool;

class H2Call : public H2Transfer {
 public:
  // REQUIRES: the connection has room.
  H2Call(H2Connection& connection, Arena& arena);
  ~H2Call();

  // Sends the head; `fields` are copied. False: the connection is gone, nothing was sent.
  bool open(std::span<const nghttp2_nv> fields, bool has_body);

  class Changed;
  class Sent;
  // Waits until there is news about the answer (at once where there was since the last wait).
  // kOk or kTimeout; zero: no timeout. One at a time.
  Changed changed(Duration timeout);
  // Sends bytes of the body and, with `last`, its end: kOk once they are framed, kError where the
  // answer has ended before (end() says how), kTimeout where nothing moved. Both stay valid
  // meanwhile. One at a time.
  Sent send(std::string_view bytes, bool last, const FieldList* trailers, Duration timeout);

  // As many bytes of the body were passed on.
  void release(size_t bytes);

  // Another call was there before on this connection.
  bool reused() const { return reused_; }
  // An answer is overdue.
  void suspect_connection();

 private:
  friend class H2Connection;
  void notify();

  H2Connection* connection_;  // null once it is gone
  EventLoop& loop_;
  H2Call* next_ = nullptr;  // in the connection's list
  H2Call* previous_ = nullptr;
  bool opened_ = false;
  bool reused_;
  bool news_ = false;
  Changed* reader_ = nullptr;
  Sent* sender_ = nullptr;
};

class H2Call::Changed {
 public:
  Changed(H2Call& call, Duration timeout) : call_(call), timeout_(timeout) {}
  Changed(const Changed&) = delete;
  Changed& operator=(const Changed&) = delete;
  ~Changed() {
    if (call_.reader_ == this) call_.reader_ = nullptr;
  }
  bool await_ready() { return std::exchange(call_.news_, false) || call_.end() != End::kOpen; }
  void await_suspend(std::coroutine_handle<> awaiting);
  IoStatus await_resume() const { return status_; }

 private:
  friend class H2Call;
  void finish();
  static void on_timeout(void* self);

  H2Call& call_;
  Duration timeout_;
  IoStatus status_ = IoStatus::kOk;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&Changed::on_timeout, this};
};

class H2Call::Sent {
 public:
  Sent(H2Call& call, Duration timeout) : call_(call), timeout_(timeout) {}
  Sent(const Sent&) = delete;
  Sent& operator=(const Sent&) = delete;
  ~Sent();
  bool await_ready() const { return over(); }
  void await_suspend(std::coroutine_handle<> awaiting);
  IoStatus await_resume() const {
    if (call_.taken()) return IoStatus::kOk;
    return status_ == IoStatus::kTimeout ? status_ : IoStatus::kError;
  }

 private:
  friend class H2Call;
  bool over() const { return call_.taken() || call_.end() != End::kOpen; }
  void finish();
  static void on_timeout(void* self);

  H2Call& call_;
  Duration timeout_;
  uint64_t seen_ = 0;  // bytes framed when the timer was set
  IoStatus status_ = IoStatus::kOk;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&Sent::on_timeout, this};
};

class H2Connection {
 public:
  H2Connection(H2Pool& pool, std::unique_ptr<UpstreamConnection> transport,
               std::shared_ptr<const TargetTransport> settings);
  H2Connection(const H2Connection&) = delete;
  H2Connection& operator=(const H2Connection&) = delete;
  ~H2Connection();

  // Begins to read and to write. To be called once.
  void start();

  // Whether another call may be made now.
  bool has_room() const;
  // It will have room, as far as is known, but the peer has not said how much.
  bool is_warming() const { return !dead_ && !closing_ && !retiring_ && !codec_.settings_seen(); }
  bool is_dead() const { return dead_; }
  // Takes no further call; ends after the last one.
  void retire();

 private:
  friend class H2Call;
  class Writable;
  Task<void> read_loop();
  Task<void> write_loop();
  void frame();
  void kick();
  void deliver();
  void look_around();
  void die(std::string_view why);
  void close_now();
  bool is_worn() const;
  void remove(H2Call& call);
  static void on_flush(void* self);
  static void on_idle(void* self);
  static void on_setup_timeout(void* self);
  static void on_silence(void* self);

  H2Pool& pool_;
  std::unique_ptr<UpstreamConnection> transport_;
  const std::shared_ptr<const TargetTransport> settings_;
  EventLoop& loop_;
  H2Codec codec_;
  H2Call* calls_ = nullptr;
  size_t reserved_ = 0;  // calls that have not sent their head
  Moment opened_;
  bool dead_ = false;
  bool closing_ = false;  // ends once what is to be said is sent
  bool retiring_ = false;
  bool ready_ = false;  // the peer's settings have come
  Buffer in_;
  Buffer out_;
  Writable* writer_ = nullptr;
  Deferred flush_{&H2Connection::on_flush, this};
  Timer idle_{&H2Connection::on_idle, this};
  Timer setup_{&H2Connection::on_setup_timeout, this};
  Timer silence_{&H2Connection::on_silence, this};
  // Last: they use all of the above.
  Task<void> reading_;
  Task<void> writing_;
};

inline H2Call::Changed H2Call::changed(Duration timeout) {
  return Changed(*this, timeout);
}

}  // namespace gatehouse
