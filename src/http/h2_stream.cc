// One exchange over HTTP/2; see h2_stream.h.
#include "http/h2_stream.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "http/generation.h"
#include "http/h2_response.h"
#include "http/h2_session.h"
#include "http/h2_websocket.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// The end of a response up to this size is copied, so that its handler need not wait.
constexpr size_t kCopyMax = 3072;
// How much of a request body that nobody wants is let come.
constexpr uint64_t kDiscardMax = 64 * 1024;
// Fewer bytes than this in the time that a client may take none are none.
constexpr uint64_t kProgressMin = 1024;

// Streams to borrow: as many as are under way at once, at most kKept of them at rest.
constexpr uint32_t kKept = 256;
thread_local constinit H2Stream* free_streams = nullptr;
thread_local constinit uint32_t free_count = 0;

}  // namespace

// ---- Waiting ------------------------------------------------------------------------------------

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

// ---- Sending ------------------------------------------------------------------------------------

std::string_view H2Stream::take(size_t n) {
  const std::string_view bytes = pending_.substr(0, n);
  pending_.remove_prefix(n);
  sent_bytes_ += n;
  if (pending_.empty() && sender_ != nullptr) session_->wake(*this);
  return bytes;
}

void H2Stream::frame_sent(size_t wire_bytes, bool end) {
  wire_bytes_ += wire_bytes;
  if (!end) return;
  end_sent_ = true;
  session_->wake(*this);
}

ssize_t H2Stream::read_data(nghttp2_session* ng, int32_t id, uint8_t*, size_t length,
                            uint32_t* flags, nghttp2_data_source* source, void*) {
  auto* stream = static_cast<H2Stream*>(source->ptr);
  const size_t n = std::min(length, stream->pending_.size());
  if (n == 0 && !stream->end_queued_) {
    stream->deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  // What is written must have gone before there is more (http/h2_memory).
  if (!stream->session_->has_room(n + H2FrameScanner::kHeadSize)) return NGHTTP2_ERR_PAUSE;
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (n == stream->pending_.size() && stream->end_queued_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (stream->last_count_ != 0) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      nghttp2_submit_trailer(ng, id, stream->last_fields_, stream->last_count_);
    }
  }
  return static_cast<ssize_t>(n);
}

void H2Stream::more_to_send() {
  if (!open_) return;
  if (std::exchange(deferred_, false)) session_->resume_data(id_);
  session_->list_unsent(*this);
  session_->flush_later();
}

void H2Stream::watch_unsent() {
  if (!open_ || pending_.empty() || write_timer_.armed()) return;
  sent_mark_ = sent_bytes_;
  loop().arm(write_timer_, tunnel_ ? tunnel_patience_ : session_->write_timeout());
}

void H2Stream::on_write_timeout(void* self) {
  auto* stream = static_cast<H2Stream*>(self);
  if (!stream->open_) return;
  if (stream->over_) {
    if (!stream->body_complete_) stream->stop_body();
    return;
  }
  if (stream->pending_.empty()) return;
  if (stream->sent_bytes_ - stream->sent_mark_ >= kProgressMin) {
    stream->watch_unsent();
    return;
  }
  stream->fail(Reason::kWriteTimeout);
  stream->reset(NGHTTP2_CANCEL);
}

// Decides the framing and hands the head over. `with_body`: more comes behind it.
void H2Stream::submit_head(bool with_body) {
  Exchange& exchange = run_.exchange;
  for (const Hook& hook : exchange.route->respond) (void)hook.function(exchange, hook.state);
  const ClientFraming framing = client_framing(exchange);
  head_sent_ = true;
  no_body_ = exchange.request.head.method_id == Method::kHead || framing == ClientFraming::kNone;
  const std::span<const nghttp2_nv> lines =
      H2Fields::response(exchange, framing, exchange.worker->date());
  nghttp2_data_provider provider{};
  provider.source.ptr = this;
  provider.read_callback = &H2Stream::read_data;
  const bool body = framing == ClientFraming::kTunnel || (with_body && !no_body_);
  if (!body) {
    no_body_ = true;
    end_queued_ = true;
  }
  if (exchange.response.fields.has(FieldId::kOther)) {
    const Field* const field = exchange.response.fields.find("Priority");
    if (field != nullptr && !field->dropped && update_priority(field->value, priority_)) {
      session_->set_priority(id_, priority_);
    }
  }
  session_->submit_response(*this, lines, body ? &provider : nullptr);
}

Task<bool> H2Stream::send_interim(uint16_t status, const FieldList& fields) {
  if (!open_) co_return false;
  session_->submit_interim(id_, H2Fields::interim(status, fields));
  co_return true;
}

// RFC 8441 §5: a status of 2xx, once the upstream has proved that it speaks the protocol.
bool H2Stream::accepted_tunnel() {
  if (run_.exchange.response.body.kind != BodyLength::Kind::kTunnel) return true;
  return !websocket_key_.empty() &&
         accepts_websocket(run_.exchange.response.fields, websocket_key_);
}

Task<bool> H2Stream::send_head(std::string_view first, bool last) {
  assert(!head_sent_);
  if (!open_) co_return false;
  Exchange& exchange = run_.exchange;
  if (!accepted_tunnel()) {
    exchange.refuse(Reason::kUpstreamBadResponse);
    send_prepared();
    co_return false;
  }
  submit_head(!last || !first.empty());
  if (no_body_ || exchange.response.body.kind == BodyLength::Kind::kTunnel) co_return true;
  exchange.response.body_bytes += first.size();
  end_queued_ = last;
  if (last && first.size() <= kCopyMax) {
    pending_ = exchange.arena.copy(first);
    co_return true;
  }
  pending_ = first;
  const bool taken = co_await SendWait(*this);
  co_return taken;
}

Task<bool> H2Stream::send_body(std::string_view bytes) {
  if (bytes.empty() || no_body_) co_return open_ || end_sent_;
  if (!open_) co_return false;
  run_.exchange.response.body_bytes += bytes.size();
  pending_ = bytes;
  more_to_send();
  const bool taken = co_await SendWait(*this);
  co_return taken;
}

Task<bool> H2Stream::send_end(const FieldList* trailers) {
  if (end_queued_) co_return open_ || end_sent_;
  end_queued_ = true;
  if (trailers != nullptr && !trailers->empty()) {
    Arena& arena = run_.exchange.arena;
    const std::span<const nghttp2_nv> lines = H2Fields::trailers(*trailers);
    last_fields_ = static_cast<nghttp2_nv*>(
        static_cast<std::pmr::memory_resource&>(arena).allocate(lines.size_bytes() + 1));
    last_count_ = lines.size();
    for (size_t i = 0; i < lines.size(); ++i) {
      nghttp2_nv& line = last_fields_[i];
      line = lines[i];
      const auto keep = [&arena](uint8_t* text, size_t size) {
        const std::string_view kept = arena.copy({reinterpret_cast<char*>(text), size});
        return reinterpret_cast<uint8_t*>(const_cast<char*>(kept.data()));
      };
      line.name = keep(line.name, line.namelen);
      line.value = keep(line.value, line.valuelen);
    }
  }
  more_to_send();
  co_return open_;
}

// ---- The request's body -------------------------------------------------------------------------

BodyPiece H2Stream::body_failed(Reason why) {
  BodyPiece piece;
  piece.status = BodyPiece::Status::kFailed;
  piece.why = why;
  return piece;
}

// What was handed out has been read: the client may send as much again.
void H2Stream::consume_taken() {
  if (taken_ == 0) return;
  body_.consume(taken_);
  // Of a stream that is closed the session has taken care.
  if (open_) session_->consume(id_, taken_);
  taken_ = 0;
}

Task<BodyPiece> H2Stream::read_body() {
  consume_taken();
  if (body_.empty() && !body_complete_ && open_) {
    if (std::exchange(continue_pending_, false) && !head_sent_) {
      session_->submit_interim(id_, H2Fields::interim(100, FieldList()));
    }
    const bool there = co_await BodyWait(*this, run_.exchange.route->conf->body_timeout);
    if (!there) co_return body_failed(Reason::kBodyTimeout);
  }
  BodyPiece piece;
  if (!open_ && !(body_complete_ && end_sent_)) {
    co_return body_failed(reset_why_ != Reason::kNone ? reset_why_ : Reason::kClientGone);
  }
  if (body_.empty()) co_return piece;
  piece.status = BodyPiece::Status::kBytes;
  piece.bytes = body_.front();
  taken_ = piece.bytes.size();
  Exchange& exchange = run_.exchange;
  exchange.request.body_bytes += taken_;
  if (exchange.request.body_bytes > exchange.route->conf->body_max.count) {
    co_return body_failed(Reason::kBodyTooLarge);
  }
  co_return piece;
}

// ---- Tunnels ------------------------------------------------------------------------------------

ClientTunnel H2Stream::begin_tunnel() {
  run_.begin_tunnel();
  tunnel_ = true;
  session_->tunnel_began();
  ClientTunnel tunnel;
  tunnel.stream = this;
  return tunnel;
}

Task<IoResult> H2Stream::readable(Duration timeout) {
  const bool there = co_await BodyWait(*this, timeout);
  IoResult result;
  if (!there) result.status = IoStatus::kTimeout;
  co_return result;
}

IoResult H2Stream::read_now(std::span<char> into) {
  const std::string_view front = body_.front();
  if (front.empty()) {
    if (body_complete_) return {IoStatus::kEof, 0, 0};
    if (!open_) return {IoStatus::kError, ECONNRESET, 0};
    return {IoStatus::kTimeout, 0, 0};
  }
  const size_t n = std::min(front.size(), into.size());
  std::memcpy(into.data(), front.data(), n);
  body_.consume(n);
  if (open_) session_->consume(id_, n);
  run_.exchange.request.body_bytes += n;
  return {IoStatus::kOk, 0, n};
}

Task<IoResult> H2Stream::write(std::string_view bytes, Duration timeout) {
  IoResult result;
  tunnel_patience_ = timeout;
  if (!open_ || end_queued_) {
    result = {IoStatus::kError, EPIPE, 0};
    co_return result;
  }
  if (bytes.empty()) co_return result;
  run_.exchange.response.body_bytes += bytes.size();
  pending_ = bytes;
  more_to_send();
  const bool taken = co_await SendWait(*this);
  if (taken) {
    result.bytes = bytes.size();
  } else {
    result = {IoStatus::kError, EPIPE, 0};
  }
  co_return result;
}

void H2Stream::shutdown_write() {
  if (end_queued_) return;
  end_queued_ = true;
  more_to_send();
}

}  // namespace gatehouse
