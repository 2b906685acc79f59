// Stream: a connected, non-blocking socket that coroutines read from and write to.
//
// The descriptor is registered once, edge-triggered, for both directions. The stream remembers
// what it knows of the socket: a read that came back short has emptied it, so the next read waits
// for an event instead of asking the kernel again; a write is tried at once. At most one coroutine
// reads at a time; writes that meet one under way go out after it, in the order of their calls. A
// write that times out or is cancelled half done is the last: all others fail with EPIPE, since
// their bytes would be read as the rest of it. Every wait has a timeout; destroying a waiting
// coroutine undoes its wait. Destroying the Stream closes the socket; nobody may be waiting on it
// then.
//
// With start_tls() a TlsLayer takes the place of recv and send in here; callers do not see which it
// is. Then "readable" means that decrypted bytes are there: records that carry none (tickets, key
// updates) wake nobody.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/event_loop.h"
#include "core/io_result.h"
#include "core/result.h"
#include "core/tls_layer.h"
#include "core/units.h"

namespace gatehouse {

class Stream {
 public:
  // Parts of one gathered write.
  static constexpr size_t kMaxParts = 6;

  // Takes ownership of `fd`, which must be non-blocking.
  Stream(EventLoop& loop, int fd) : loop_(loop), fd_(fd) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  // Registers the descriptor. To be called once before any wait.
  Result<void> open();

  EventLoop& loop() { return loop_; }
  int fd() const { return fd_; }

  // From here on the connection speaks TLS: await handshake() next. REQUIRES: nobody waits.
  void start_tls(std::unique_ptr<TlsLayer> layer);
  // Null on a plain connection.
  TlsLayer* tls() { return tls_.get(); }
  const TlsLayer* tls() const { return tls_.get(); }

  class ReadAwaiter;
  class WriteAwaiter;

  // The TLS handshake, all of it within `timeout`: kOk, kError or kTimeout. REQUIRES: tls().
  ReadAwaiter handshake(Duration timeout);
  // Reads at least one byte into `into`; kEof, kError or kTimeout end the direction.
  // A `timeout` of zero means none.
  ReadAwaiter read(std::span<char> into, Duration timeout);
  // Waits until a read would find something (bytes, the end or an error) without reading. May say
  // so once too often: after a read that filled its span there need not be more (not with TLS).
  ReadAwaiter readable(Duration timeout);
  // Writes all of it, or says why not; the timeout begins anew whenever bytes move.
  WriteAwaiter write(std::string_view bytes, Duration timeout);
  // Gathers at most kMaxParts parts, sent as if they were one. They are copied, the bytes not.
  WriteAwaiter write(std::span<const iovec> parts, Duration timeout);
  // Waits for the outcome of a connect() under way: kOk, kError or kTimeout. To be awaited right
  // after open(): the event that tells comes once.
  WriteAwaiter connected(Duration timeout);

  // Reads what is there without waiting: kTimeout where nothing is.
  IoResult read_now(std::span<char> into);

  // False where nothing is known to be there to read. True also after a read that filled its span.
  bool may_read() { return readable_ && (tls_ == nullptr || find_decrypted()); }
  // True once the peer's end was seen by the kernel (unread bytes may come before it).
  bool peer_closed() const { return peer_closed_; }

  // Calls `callback(owner, reset)` when the peer closes its side or resets the connection while
  // no coroutine is reading. `reset` tells a connection that is gone both ways from a half-close.
  // At most once per call of watch_peer; nullptr stops it. What was seen before the call is not
  // told again: peer_closed() knows of it.
  using PeerCallback = void (*)(void* owner, bool reset);
  void watch_peer(PeerCallback callback, void* owner) {
    peer_callback_ = callback;
    peer_owner_ = owner;
  }
  // Calls `callback(owner)` on bytes or the end while nobody reads: for idle upstream connections.
  using ActivityCallback = void (*)(void* owner);
  void watch_activity(ActivityCallback callback, void* owner) {
    activity_callback_ = callback;
    activity_owner_ = owner;
  }

  // Ends the sending direction (with TLS after a close_notify), as soon as all that was written
  // has left.
  void shutdown_write();

  // Bytes moved since the stream was made; with TLS those inside of it.
  uint64_t bytes_in() const { return bytes_in_; }
  uint64_t bytes_out() const { return bytes_out_; }
  // When bytes were last written; for idle rules that look at progress.
  Moment last_write() const { return last_write_; }

 private:
  static void on_ready(void* self, uint8_t ready);
  void handle_ready(uint8_t ready);
  // True where the connection has failed; asks the kernel without consuming bytes.
  bool is_reset();
  void note_error(int error);
  IoResult receive(std::span<char> into);

  // With TLS only; in stream_tls.cc.
  IoResult shake_hands();
  // A client speaks first; a server waits for that.
  bool begins_handshake() const { return !tls_->is_server(); }
  IoResult receive_decrypted(std::span<char> into);
  // REQUIRES: readable_. True where a read would not have to wait.
  bool find_decrypted();
  void note_ready(uint8_t ready);
  IoResult flush_encrypted();
  // True where the end of the sending direction has to wait.
  bool end_encrypted();

  EventLoop& loop_;
  int fd_;
  bool readable_ = false;
  bool peer_closed_ = false;
  bool cut_ = false;            // a write ended in its middle
  bool end_when_sent_ = false;  // shutdown_write was called while TLS had something to send
  int error_ = 0;               // what the connection failed with; see note_error
  ReadAwaiter* reader_ = nullptr;
  WriteAwaiter* writer_ = nullptr;  // the first of those that wait
  bool* destroyed_ = nullptr;       // set while handle_ready runs, to learn of our destruction
  PeerCallback peer_callback_ = nullptr;
  void* peer_owner_ = nullptr;
  ActivityCallback activity_callback_ = nullptr;
  void* activity_owner_ = nullptr;
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;
  Moment last_write_;
  Watch watch_;
  std::unique_ptr<TlsLayer> tls_;

  friend class ReadAwaiter;
  friend class WriteAwaiter;
};

class Stream::ReadAwaiter {
 public:
  enum class Goal : uint8_t { kBytes, kReadable, kHandshake };

  ReadAwaiter(Stream& stream, std::span<char> into, Duration timeout, Goal goal)
      : stream_(stream), into_(into), timeout_(timeout), goal_(goal) {}
  ReadAwaiter(const ReadAwaiter&) = delete;
  ReadAwaiter& operator=(const ReadAwaiter&) = delete;
  ~ReadAwaiter() {
    if (stream_.reader_ == this) stream_.reader_ = nullptr;
  }

  bool await_ready() {
    return (stream_.readable_ || (goal_ == Goal::kHandshake && stream_.begins_handshake())) &&
           attempt();
  }
  void await_suspend(std::coroutine_handle<> awaiting);
  IoResult await_resume() const { return result_; }

 private:
  friend class Stream;
  // True where the wait is over and result_ is set.
  bool attempt();
  // The same, without an event to go by.
  bool probe();
  void finish();
  static void on_timeout(void* self);

  Stream& stream_;
  std::span<char> into_;
  Duration timeout_;
  Goal goal_;
  bool probe_ = false;  // the timer stands for one attempt, not for the timeout
  IoResult result_;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&ReadAwaiter::on_timeout, this};
};

class Stream::WriteAwaiter {
 public:
  WriteAwaiter(Stream& stream, std::span<const iovec> parts, Duration timeout, bool connecting);
  WriteAwaiter(Stream& stream, std::string_view bytes, Duration timeout)
      : stream_(stream), count_(bytes.empty() ? 0 : 1), connecting_(false), timeout_(timeout) {
    parts_[0] = {const_cast<char*>(bytes.data()), bytes.size()};
  }
  WriteAwaiter(const WriteAwaiter&) = delete;
  WriteAwaiter& operator=(const WriteAwaiter&) = delete;
  ~WriteAwaiter() {
    if (stream_.writer_ != nullptr) leave();
  }

  bool await_ready() { return connecting_ || stream_.writer_ != nullptr ? false : attempt(); }
  void await_suspend(std::coroutine_handle<> awaiting);
  IoResult await_resume() const { return result_; }

 private:
  friend class Stream;
  bool attempt();
  // The same through TLS.
  bool attempt_encrypted();
  // `bytes` of the parts are gone.
  void note_progress(size_t bytes);
  // Those that wait are given their whole time again.
  void note_movement();
  void finish();
  // Gives up the place among those that wait, where there is one.
  void leave();
  // True where an earlier write ended in its middle: result_ says so then.
  bool cut_off();
  static void on_timeout(void* self);

  Stream& stream_;
  WriteAwaiter* next_ = nullptr;
  iovec parts_[kMaxParts];
  uint8_t first_ = 0;
  uint8_t count_ = 0;
  bool connecting_;
  Duration timeout_;
  IoResult result_;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&WriteAwaiter::on_timeout, this};
};

inline Stream::ReadAwaiter Stream::read(std::span<char> into, Duration timeout) {
  return ReadAwaiter(*this, into, timeout, ReadAwaiter::Goal::kBytes);
}
inline Stream::ReadAwaiter Stream::readable(Duration timeout) {
  return ReadAwaiter(*this, {}, timeout, ReadAwaiter::Goal::kReadable);
}
inline Stream::ReadAwaiter Stream::handshake(Duration timeout) {
  return ReadAwaiter(*this, {}, timeout, ReadAwaiter::Goal::kHandshake);
}
inline Stream::WriteAwaiter Stream::write(std::string_view bytes, Duration timeout) {
  return WriteAwaiter(*this, bytes, timeout);
}
inline Stream::WriteAwaiter Stream::write(std::span<const iovec> parts, Duration timeout) {
  return WriteAwaiter(*this, parts, timeout, false);
}
inline Stream::WriteAwaiter Stream::connected(Duration timeout) {
  return WriteAwaiter(*this, {}, timeout, true);
}

}  // namespace gatehouse
