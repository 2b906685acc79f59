// One exchange over HTTP/2; see h2_stream.h.
#include "http/h2_stream.h"

#include <cassert>
#include <utility>

#include "http/generation.h"
#include "http/h2_session.h"
#include "http/h2_stream_waits.h"
#include "http/h2_websocket.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// How much of a request body that nobody wants is let come.
constexpr uint64_t kDiscardMax = 64 * 1024;

// Streams to borrow: as many as are under way at once, at most kKept of them at rest.
constexpr uint32_t kKept = 256;
thread_local constinit H2Stream* free_streams = nullptr;
thread_local constinit uint32_t free_count = 0;

}  // namespace

// ---- From the free list and back ----------------------------------------------------------------

H2Stream& H2Stream::borrow(H2Session& session, int32_t id) {
  H2Stream* stream = free_streams;
  if (stream == nullptr) {
    stream = new H2Stream;
  } else {
    free_streams = stream->next_;
    --free_count;
  }
  stream->next_ = nullptr;
  stream->session_ = &session;
  stream->id_ = id;
  stream->open_ = true;
  stream->run_.begin(session.connection(), *stream, session.loop().now());
  return *stream;
}

// REQUIRES: over_, no longer open_, in no list of the session.
void H2Stream::give_back() {
  assert(over_ && !open_ && !queued_ && !unsent_listed_);
  serve_.cancel();
  session_ = nullptr;
  starting_ = body_complete_ = continue_pending_ = head_sent_ = deferred_ = end_queued_ = false;
  end_sent_ = no_body_ = over_ = malformed_ = tunnel_ = length_known_ = false;
  refusal_ = reset_why_ = Reason::kNone;
  body_left_ = wire_bytes_ = sent_bytes_ = sent_mark_ = discarded_ = 0;
  write_timer_.cancel();
  body_.clear();
  taken_ = 0;
  trailers_.reset();
  priority_ = {};
  websocket_key_ = pending_ = {};
  last_fields_ = nullptr;
  last_count_ = 0;
  if (free_count >= kKept) {
    delete this;
    return;
  }
  next_ = free_streams;
  free_streams = this;
  ++free_count;
}

EventLoop& H2Stream::loop() {
  return session_->loop();
}

// ---- What arrives -------------------------------------------------------------------------------

void H2Stream::head_arrived(const H2Fault& fault, const H2RequestReader& reader, bool end) {
  Request& request = run_.exchange.request;
  refusal_ = fault.reason;
  malformed_ = fault.malformed;
  body_complete_ = end;
  if (refusal_ == Reason::kNone) {
    const BodyLength& body = request.facts.body;
    length_known_ = body.kind == BodyLength::Kind::kLength;
    if (length_known_) body_left_ = body.length;
    continue_pending_ = request.facts.expect_continue;
    if (!end) request.fields.drop(FieldId::kExpect);
    if (reader.websocket()) websocket_key_ = add_websocket_key(run_.exchange);
    if (!reader.priority().empty() && update_priority(reader.priority(), priority_)) {
      session_->set_priority(id_, priority_);
    }
  }
  starting_ = true;
  session_->wake(*this);
}

bool H2Stream::body_arrived(std::string_view bytes) {
  if (length_known_) {
    if (bytes.size() > body_left_) return false;
    body_left_ -= bytes.size();
  }
  if (over_ || refusal_ != Reason::kNone) {
    // Nobody will read it: the connection's window is for the others.
    session_->consume_connection(bytes.size());
    discarded_ += bytes.size();
    if (over_ && discarded_ > kDiscardMax) stop_body();
    return true;
  }
  body_.append(bytes);
  if (reader_ != nullptr) session_->wake(*this);
  return true;
}

void H2Stream::stop_body() {
  write_timer_.cancel();
  body_complete_ = true;
  session_->submit_reset(id_, NGHTTP2_NO_ERROR);
}

bool H2Stream::end_arrived() {
  body_complete_ = true;
  if (reader_ != nullptr) session_->wake(*this);
  return !length_known_ || body_left_ == 0;
}

FieldList& H2Stream::trailers() {
  if (trailers_ == nullptr) trailers_ = std::make_unique<FieldList>();
  return *trailers_;
}

void H2Stream::closed() {
  open_ = false;
  session_->consume_connection(body_.size());
  session_->wake(*this);
}

void H2Stream::fail(Reason why) {
  if (reset_why_ == Reason::kNone) reset_why_ = why;
}

// ---- Life ---------------------------------------------------------------------------------------

void H2Stream::wake() {
  if (starting_) {
    starting_ = false;
    if (malformed_) {
      // Never answered, but counted and logged with the status that an answer would have had.
      (void)run_.decide(refusal_);
      body_complete_ = end_queued_ = end_sent_ = true;
    } else if (!open_) {
      // Reset before it began: not a step is done for it.
      run_.exchange.response.status = reason_info(Reason::kClientGone).status;
    } else {
      serve_ = serve();
      serve_.start();
    }
  } else if (!open_ && !end_sent_ && run_.acting()) {
    run_.cancel_action(reset_why_ != Reason::kNone ? reset_why_ : Reason::kClientGone);
  } else {
    if (sender_ != nullptr && sender_->done()) sender_->resume();
    if (reader_ != nullptr && may_read_body()) reader_->resume();
  }
  finish_if_over();
}

// Everything about the exchange that has to be waited for.
Task<void> H2Stream::serve() {
  Exchange& exchange = run_.exchange;
  const bool answered = run_.decide(refusal_);
  if (!answered) {
    if (run_.is_instant()) {
      run_.instant_action();
    } else {
      co_await run_.act();
    }
  }
  session_->wake(*this);
  if (run_.cancelled || reset_why_ != Reason::kNone || !open_) co_return;
  if (!head_sent_ && exchange.client != this) {
    // Through the filters in front of the client.
    if (exchange.response.status == 0) exchange.refuse(Reason::kInternal);
    const bool there = co_await exchange.client->send_head(exchange.response.content, true);
    (void)there;
  } else if (!head_sent_) {
    send_prepared();
  } else if (!end_queued_ && run_.tunnel != nullptr && exchange.reason == Reason::kNone) {
    shutdown_write();  // both sides have ended in good order
  } else if (!end_queued_) {
    // The handler has left without an end: the response must not look whole. RFC 8441 §5 has a
    // code for a tunnel.
    fail(exchange.reason != Reason::kNone ? exchange.reason : Reason::kInternal);
    reset(run_.tunnel != nullptr ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
  }
}

// exchange.response is whole, and lives as long as the exchange.
void H2Stream::send_prepared() {
  Exchange& exchange = run_.exchange;
  if (exchange.response.status == 0) exchange.refuse(Reason::kInternal);
  submit_head(!exchange.response.content.empty());
  if (no_body_) return;
  pending_ = exchange.response.content;
  exchange.response.body_bytes += pending_.size();
  end_queued_ = true;
}

// The exchange is over when nothing runs and everything has been sent, or the stream is gone.
void H2Stream::finish_if_over() {
  const bool running = serve_ && !serve_.done();
  if (!over_ && !running && (end_sent_ || !open_)) {
    Exchange& exchange = run_.exchange;
    if (!end_sent_ && exchange.reason == Reason::kNone) {
      exchange.reason = reset_why_ != Reason::kNone ? reset_why_ : Reason::kClientGone;
    }
    exchange.response.wire_bytes = wire_bytes_;
    run_.finish();
    over_ = true;
    write_timer_.cancel();
    session_->consume_connection(open_ ? body_.size() : 0);
    body_.clear();
    taken_ = 0;
    serve_.cancel();
    run_.end();
    // What is left of a body that nobody wants: the client need not send it (§8.1). A small rest is
    // mostly under way already; it is not cut off.
    if (open_ && !body_complete_) loop().arm(write_timer_, session_->linger_timeout());
  }
  if (over_ && !open_) {
    session_->remove(*this);
    give_back();
  }
}

void H2Stream::cut(Reason why) {
  open_ = false;
  starting_ = false;
  if (run_.acting()) {
    run_.cancel_action(why);
  } else if (!end_sent_) {
    run_.exchange.reason = why;
  }
  if (serve_ && !serve_.done()) serve_.cancel();
  finish_if_over();
}

void H2Stream::reset(uint32_t code) {
  if (!open_) return;
  pending_ = {};
  session_->submit_reset(id_, code);
}

void H2Stream::abort() {
  if (reset_why_ == Reason::kNone) {
    reset_why_ = run_.exchange.reason != Reason::kNone ? run_.exchange.reason : Reason::kInternal;
  }
  reset(NGHTTP2_INTERNAL_ERROR);
}

}  // namespace gatehouse
