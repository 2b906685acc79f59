// H2Stream: one request and its response over an HTTP/2 connection.
//
// The session tells it what arrives (a head, pieces of body, the end, a reset) while libnghttp2
// reads a batch of frames; the stream only notes it and asks to be woken. When the batch is read,
// the session wakes each such stream: then the exchange begins, the handler's wait for a body or
// for room ends, or the action is destroyed because the stream is gone. So no handler ever runs
// inside of libnghttp2.
//
// Sending: libnghttp2 asks for bytes when the windows and the priorities let the stream send. A
// handler that sends a piece waits until it has been taken over, but for the end of a small
// response, which is copied into the arena: its handler is done at once. Receiving: bytes wait here
// (as many as the window allows) until the handler reads; the window opens again as it does.
//
// Streams come from a free list of the worker's thread.
#pragma once

#include <nghttp2/nghttp2.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/task.h"
#include "core/timing_wheel.h"
#include "http/exchange_run.h"
#include "http/h1_writer.h"
#include "http/h2_body.h"
#include "http/h2_priority.h"
#include "http/h2_request.h"
#include "http/tunnel_end.h"

namespace gatehouse {

class H2Session;

class H2Stream final : private ClientSide, private TunnelEnd {
 public:
  // From the free list, for a stream that the client has just begun.
  static H2Stream& borrow(H2Session& session, int32_t id);
  H2Stream(const H2Stream&) = delete;
  H2Stream& operator=(const H2Stream&) = delete;

  int32_t id() const { return id_; }
  Exchange& exchange() { return run_.exchange; }
  bool tunnel() const { return tunnel_; }
  // What the client has sent on it was wrong.
  bool failed() const { return reset_why_ != Reason::kNone; }

  // ---- What arrives; called by the session while libnghttp2 reads
  // --------------------------------

  // The head is complete, and means what `fault` says.
  void head_arrived(const H2Fault& fault, const H2RequestReader& reader, bool end);
  // False where there are more bytes than were announced: malformed.
  bool body_arrived(std::string_view bytes);
  // False where there are fewer.
  bool end_arrived();
  // Fields behind the body go here.
  FieldList& trailers();
  // libnghttp2 has forgotten the stream.
  void closed();
  // The session resets it for what the client did.
  void fail(Reason why);

  // ---- Sending; called by the session while libnghttp2 writes
  // ------------------------------------

  size_t unsent() const { return pending_.size(); }
  // The next `n` bytes, which are on their way then. REQUIRES: n <= unsent().
  std::string_view take(size_t n);
  // A frame of the stream has been written; `end`: its last.
  void frame_sent(size_t wire_bytes, bool end);

  // ---- Called by the session when libnghttp2 does neither
  // ----------------------------------------

  // Does what has become due. The stream may be gone afterwards.
  void wake();
  // The exchange ends at once, for `why`. The stream is gone afterwards.
  void cut(Reason why);
  // Watches that the client takes what waits to be sent.
  void watch_unsent();

 private:
  friend class H2Session;
  class SendWait;
  class BodyWait;

  H2Stream() = default;
  ~H2Stream() override = default;
  void give_back();
  void reset(uint32_t code);
  void stop_body();
  Task<void> serve();
  void send_prepared();
  void finish_if_over();
  void submit_head(bool with_body);
  void more_to_send();
  bool may_read_body() const { return !body_.empty() || body_complete_ || !open_; }
  void consume_taken();
  BodyPiece body_failed(Reason why);
  bool send_continue();
  bool accepted_tunnel();
  static ssize_t read_data(nghttp2_session* ng, int32_t id, uint8_t* buffer, size_t length,
                           uint32_t* flags, nghttp2_data_source* source, void* session);
  static void on_write_timeout(void* self);

  // ClientSide
  Task<BodyPiece> read_body() override;
  bool body_ready() const override { return may_read_body(); }
  FieldList* body_trailers() override { return trailers_.get(); }
  Task<bool> send_interim(uint16_t status, const FieldList& fields) override;
  Task<bool> send_head(std::string_view first, bool last) override;
  Task<bool> send_body(std::string_view bytes) override;
  Task<bool> send_end(const FieldList* trailers) override;
  bool head_sent() const override { return head_sent_; }
  void abort() override;
  ClientTunnel begin_tunnel() override;
  std::string_view tunnel_unread() override { return {}; }

  // TunnelEnd
  Task<IoResult> readable(Duration timeout) override;
  IoResult read_now(std::span<char> into) override;
  Task<IoResult> write(std::string_view bytes, Duration timeout) override;
  void shutdown_write() override;
  EventLoop& loop() override;

  H2Session* session_ = nullptr;
  int32_t id_ = 0;
  ExchangeRun run_;
  Task<void> serve_;

  bool open_ = false;           // libnghttp2 knows the stream
  bool queued_ = false;         // in the session's list of those to wake
  bool starting_ = false;       // the head has arrived, the exchange has not begun
  bool body_complete_ = false;  // nothing more arrives
  bool continue_pending_ = false;
  bool head_sent_ = false;
  bool deferred_ = false;    // libnghttp2 waits for more_to_send()
  bool end_queued_ = false;  // nothing comes behind pending_ but the trailers
  bool end_sent_ = false;
  bool no_body_ = false;  // the response can have none
  bool over_ = false;     // the exchange is finished
  bool tunnel_ = false;
  Reason refusal_ = Reason::kNone;
  bool malformed_ = false;
  Reason reset_why_ = Reason::kNone;  // why the session has reset the stream
  bool length_known_ = false;         // Content-Length was there
  uint64_t body_left_ = 0;            // of it
  uint64_t discarded_ = 0;            // of a body that nobody reads
  uint64_t wire_bytes_ = 0;
  H2Body body_;
  size_t taken_ = 0;  // of body_.front(): handed out, not consumed
  std::unique_ptr<FieldList> trailers_;
  H2Priority priority_;
  std::string_view websocket_key_;
  std::string_view pending_;
  nghttp2_nv* last_fields_ = nullptr;  // trailers of the response, in the arena
  size_t last_count_ = 0;
  SendWait* sender_ = nullptr;
  BodyWait* reader_ = nullptr;
  uint64_t sent_bytes_ = 0;
  uint64_t sent_mark_ = 0;  // sent_bytes_ when the timer was armed
  Duration tunnel_patience_{};
  Timer write_timer_{&H2Stream::on_write_timeout, this};
  H2Stream* next_ = nullptr;      // in the session's list of all, or the free list
  H2Stream* previous_ = nullptr;  // in the list of all
  H2Stream* next_due_ = nullptr;  // in the list of those to wake
  bool unsent_listed_ = false;
  H2Stream* next_unsent_ = nullptr;
};

}  // namespace gatehouse
