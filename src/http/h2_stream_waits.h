// What the handlers of an H2Stream wait for. Part of H2Stream (h2_stream.cc, h2_stream_io.cc).
#pragma once

#include <coroutine>

#include "core/event_loop.h"
#include "http/h2_stream.h"

namespace gatehouse {

// Until pending_ has been taken over: true; or the stream is gone: false.
class H2Stream::SendWait {
 public:
  explicit SendWait(H2Stream& stream) : stream_(stream) {}
  SendWait(const SendWait&) = delete;
  SendWait& operator=(const SendWait&) = delete;
  ~SendWait() {
    if (stream_.sender_ != this) return;
    stream_.sender_ = nullptr;
    // The handler is gone, and with it the bytes.
    stream_.pending_ = {};
  }
  bool await_ready() const { return done(); }
  void await_suspend(std::coroutine_handle<> awaiting) {
    awaiting_ = awaiting;
    stream_.sender_ = this;
  }
  bool await_resume() const { return stream_.pending_.empty() && may_go_on(); }
  bool done() const { return stream_.pending_.empty() || !may_go_on(); }
  void resume() {
    stream_.sender_ = nullptr;
    awaiting_.resume();
  }

 private:
  bool may_go_on() const {
    return (stream_.open_ && stream_.reset_why_ == Reason::kNone) || stream_.end_sent_;
  }

  H2Stream& stream_;
  std::coroutine_handle<> awaiting_;
};

// Until there is something to read of the body: true; or the time is over: false.
class H2Stream::BodyWait {
 public:
  BodyWait(H2Stream& stream, Duration timeout) : stream_(stream), timeout_(timeout) {}
  BodyWait(const BodyWait&) = delete;
  BodyWait& operator=(const BodyWait&) = delete;
  ~BodyWait() {
    if (stream_.reader_ == this) stream_.reader_ = nullptr;
  }
  bool await_ready() const { return stream_.may_read_body(); }
  void await_suspend(std::coroutine_handle<> awaiting) {
    awaiting_ = awaiting;
    stream_.reader_ = this;
    if (timeout_ != Duration::zero()) stream_.loop().arm(timer_, timeout_);
  }
  bool await_resume() const { return stream_.may_read_body(); }

  void resume() {
    stream_.reader_ = nullptr;
    timer_.cancel();
    awaiting_.resume();
  }

 private:
  static void on_timeout(void* self) { static_cast<BodyWait*>(self)->resume(); }

  H2Stream& stream_;
  Duration timeout_;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&BodyWait::on_timeout, this};
};

}  // namespace gatehouse
