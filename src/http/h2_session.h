// H2Session: an HTTP/2 client connection (RFC 9113).
//
// libnghttp2 does the framing, HPACK, the states and windows of the streams, and orders what is
// sent by priority. The session feeds it and says what it does not: each frame's head is looked at
// before libnghttp2 gets the bytes (http/h2_frames), counted against a budget (http/h2_guard), and
// refused where libnghttp2 would let pass what the RFC does not. What the requests mean is decided
// in http/h2_request; everything about one exchange is in http/h2_stream.
//
//   run ── reads ── feed ── libnghttp2 ── callbacks note what has arrived (h2_callbacks.cc)
//   flush, once at the end of a turn of the loop:
//     wake the streams for which something has become due ── collect frames ── one write
//
// So the frames of all streams that have something to send in a turn leave together, and no handler
// runs inside of libnghttp2. While a write waits for the socket nothing is collected: what one
// connection has to send is one buffer.
//
// Ends: a connection error sends GOAWAY with the code, ends the streams, shuts the sending side
// down and reads on for linger_timeout, so that the GOAWAY is not lost in a reset. A drain
// announces itself (GOAWAY with the highest stream id), says a second later which stream was the
// last, and ends when that one has.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/buffer.h"
#include "core/event_loop.h"
#include "core/task.h"
#include "http/client_connection.h"
#include "http/h2_frames.h"
#include "http/h2_guard.h"
#include "http/h2_priority.h"
#include "http/h2_request.h"
#include "http/session.h"

namespace gatehouse {

class H2Stream;

class H2Session final : public Session {
 public:
  H2Session(ClientConnection&& connection, Buffer already_read);
  ~H2Session() override;

  // Starts the coroutine; the stream is open already.
  void start();
  void drain() override;
  void begin_leaving() override;
  void cut() override;
  const AcceptorState* acceptor() const override { return connection_.acceptor(); }

  // ---- For the streams
  // ---------------------------------------------------------------------------

  const ClientConnection& connection() const { return connection_; }
  EventLoop& loop() const { return connection_.stream().loop(); }
  // Whether a frame of so many bytes can be written now.
  bool has_room(size_t bytes) const { return out_.room() >= bytes; }
  Duration write_timeout() const { return write_timeout_; }
  Duration linger_timeout() const { return linger_timeout_; }
  // The stream's wake() is called before the turn ends.
  void wake(H2Stream& stream);
  // What has been submitted is written before the turn ends.
  void flush_later();
  void list_unsent(H2Stream& stream);
  void remove(H2Stream& stream);
  void tunnel_began();

  void submit_response(H2Stream& stream, std::span<const nghttp2_nv> lines,
                       const nghttp2_data_provider* provider);
  void submit_interim(int32_t id, std::span<const nghttp2_nv> lines);
  void submit_reset(int32_t id, uint32_t code);
  void resume_data(int32_t id);
  void set_priority(int32_t id, const H2Priority& priority);
  // Body bytes have been read: the windows open again.
  void consume(int32_t id, size_t bytes);
  void consume_connection(size_t bytes);

 private:
  friend struct H2Callbacks;

  static constexpr size_t kClosedKept = 32;

  Task<void> run();
  Task<void> linger();
  Task<void> write_out();
  void submit_settings();
  // False where the connection is to be ended: end_code_ and end_why_ say how.
  bool feed(std::string_view bytes);
  bool give_to_library(std::string_view bytes);
  bool judge(const H2FrameHead& head);
  bool judge_padding(const H2FrameHead& head, uint32_t others);
  bool judge_closed(const H2FrameHead& head);
  bool refuse(uint32_t code, Reason why);
  bool note(H2Event event);
  // Says GOAWAY with end_code_, counts and logs why.
  void begin_ending();

  static void on_flush(void* self);
  void flush();
  void wake_due();
  // Takes frames from libnghttp2 into out_, as many as there are or fit.
  void collect();
  void drop_sent();
  void end_if_over();
  // The connection is gone, or cannot be used any more.
  void fail_connection(Reason why);
  void cut_streams(Reason why);
  static void on_idle(void* self);
  static void on_head_timeout(void* self);
  void arm_idle();
  void leave_to_tunnels();

  H2Stream* find(int32_t id) const;
  void add(H2Stream& stream);
  void remember_closed(int32_t id);
  void remember_reset(int32_t id);
  void said_last(uint32_t id);

  ClientConnection connection_;
  bool buffer_lent_ = false;  // see http/h2_memory
  nghttp2_session* ng_ = nullptr;
  Buffer in_;
  H2FrameScanner scanner_;
  H2Guard guard_;
  H2RequestLimits limits_;

  // The field section that is being read; there is one at a time.
  H2RequestReader request_;
  H2TrailerReader trailers_;
  H2Stream* section_ = nullptr;  // whose; null between sections
  bool trailer_section_ = false;
  uint32_t continuations_ = 0;

  H2Stream* streams_ = nullptr;  // all of them
  uint32_t stream_count_ = 0;
  uint32_t tunnels_ = 0;
  uint64_t requests_ = 0;
  uint32_t last_stream_ = 0;  // the highest that the client has begun
  H2Stream* due_ = nullptr;
  H2Stream** due_end_ = &due_;
  H2Stream* unsent_ = nullptr;

  // Streams that are closed, the latest of them: what may still arrive for one depends on how.
  uint32_t closed_[kClosedKept] = {};
  size_t closed_next_ = 0;
  std::vector<uint32_t> reset_;  // by the gateway: the client may not know yet
  size_t reset_next_ = 0;

  Buffer out_;
  Task<void> run_;
  Task<void> writing_;
  Deferred flush_{&H2Session::on_flush, this};
  Timer idle_{&H2Session::on_idle, this};
  Timer head_timer_{&H2Session::on_head_timeout, this};
  Duration write_timeout_;  // of the listener, as of the last request
  Duration linger_timeout_;

  bool leaving_ = false;    // the first GOAWAY has been submitted
  bool last_said_ = false;  // the second
  bool ending_ = false;     // a connection error: nothing is read any more
  bool lingering_ = false;
  bool window_settings_ = false;  // SETTINGS have changed the windows in this turn
  bool over_ = false;             // retired
  uint32_t end_code_ = NGHTTP2_NO_ERROR;
  Reason end_why_ = Reason::kNone;
};

}  // namespace gatehouse
