// H1Session: an HTTP/1.0 or HTTP/1.1 client connection (RFC 9112).
//
// One coroutine reads a head, decides, runs the route's action and finishes, again and again:
//
//   run ─┬─ at rest: waits for bytes, holds no buffer
//        └─ exchange_once ─ read_head ─ route ─ hooks ─ action ─ finish (rest of body, log)
//
// The action is a Task of its own. When the client goes away while nobody reads from it, the Task
// is destroyed: the upstream side is torn down by scope exit, and the exchange counted as
// client_gone. A client that only ends its sending side gets its answer as long as bytes go on
// moving within half_close_timeout.
//
// A request that is refused ends the connection after the error response: nothing behind a
// malformed message can be trusted. Closing waits for the client's end (linger_timeout) wherever
// unread bytes would make the kernel reset the connection before the response has arrived.
#pragma once

#include <memory>

#include "core/buffer.h"
#include "core/stream.h"
#include "core/task.h"
#include "http/chunked.h"
#include "http/client_connection.h"
#include "http/exchange_run.h"
#include "http/h1_parser.h"
#include "http/h1_writer.h"
#include "http/session.h"
#include "http/tunnel_end.h"

namespace gatehouse {

// What an exchange over HTTP/1 needs beyond the Exchange itself; borrowed while one lasts.
struct H1Exchange : ExchangeRun {
  H1RequestParser parser;
  ChunkedDecoder decoder;
  Buffer body;  // body bytes read after the head's buffer
  // How the body comes in; what goes on is exchange.request's, which a module may change.
  BodyLength::Kind body_kind = BodyLength::Kind::kNone;
  uint64_t body_left = 0;  // kLength: bytes still to come
  bool body_complete = false;
  bool continue_pending = false;  // the client waits for 100 (Continue)
  BufferClass body_class = BufferClass::kHead;
  H1Exchange* next_free = nullptr;
};

class H1Session final : public Session, private ClientSide {
 public:
  H1Session(ClientConnection&& connection, Buffer already_read);
  ~H1Session() override;

  void start();
  void drain() override;
  void begin_leaving() override { drain_ = true; }
  void cut() override;
  const AcceptorState* acceptor() const override { return connection_.acceptor(); }

 private:
  Task<void> run();
  // One exchange; true where the connection can carry another.
  Task<bool> exchange_once();
  // Makes ready for the next head. Then true where one read has brought all of it.
  void begin_head();
  bool take_whole_head();
  void end_head();
  H1Limits head_limits() const;
  // Reads the head into in_, or sets refusal_. False: nothing to answer (closed, reset, or idle
  // for too long).
  Task<bool> read_head();
  // Fills the request from the parsed head, or says why it is refused.
  Reason interpret_head();
  // Whether the client begins to speak HTTP/2 with prior knowledge (RFC 9113 §3.3).
  enum class Preface : uint8_t { kNone, kMaybe, kWhole };
  Preface h2_preface();
  // Sends exchange.response where the action has left one instead of sending it.
  Task<bool> send_prepared();
  // After the response: reads what is left of a small body. False: it cannot be.
  Task<bool> discard_body();
  Task<void> linger();

  static void on_peer_closed(void* self, bool reset);
  static void on_half_close_timeout(void* self);
  void watch_half_close();

  // ClientSide
  Task<BodyPiece> read_body() override;
  bool body_ready() const override;
  FieldList* body_trailers() override;
  Task<bool> send_interim(uint16_t status, const FieldList& fields) override;
  Task<bool> send_head(std::string_view first, bool last) override;
  Task<bool> send_body(std::string_view bytes) override;
  Task<bool> send_end(const FieldList* trailers) override;
  bool head_sent() const override { return head_sent_; }
  void abort() override;
  ClientTunnel begin_tunnel() override;
  std::string_view tunnel_unread() override;

  BodyPiece body_failed(Reason why);
  // The decoded piece at the front of `from`, if it holds one; consumes it.
  bool take_body_piece(Buffer& from, BodyPiece& piece);
  bool sent(const IoResult& result);
  bool may_keep_alive() const;

  ClientConnection connection_;
  Worker& worker_;
  Stream& stream_;
  bool keep_alive_ = true;
  bool head_sent_ = false;
  bool aborted_ = false;            // the response cannot be completed: cut the connection
  bool must_linger_ = false;        // unread bytes may be left
  bool expect_h2_;                  // what has come so far may be the preface of HTTP/2
  bool hand_over_ = false;          // it is: another session takes the connection
  bool drain_ = false;              // take no other exchange after this or the next one
  bool end_when_idle_ = false;      // not the next one either
  Reason refusal_ = Reason::kNone;  // why the present request's head is refused
  ClientFraming framing_ = ClientFraming::kNone;
  uint32_t exchanges_ = 0;
  H1Exchange* h1_ = nullptr;  // while an exchange lasts
  Buffer in_;                 // the head, and what came behind it
  Task<void> run_;
  Timer half_close_{&H1Session::on_half_close_timeout, this};
};

}  // namespace gatehouse
