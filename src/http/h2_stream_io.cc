// What an exchange over HTTP/2 sends and reads: response, request body, tunnel. Part of H2Stream;
// its life is in h2_stream.cc.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "http/generation.h"
#include "http/h2_response.h"
#include "http/h2_session.h"
#include "http/h2_stream.h"
#include "http/h2_stream_waits.h"
#include "http/h2_websocket.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// The end of a response up to this size is copied, so that its handler need not wait.
constexpr size_t kCopyMax = 3072;
// Fewer bytes than this in the time that a client may take none are none.
constexpr uint64_t kProgressMin = 1024;

}  // namespace

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
