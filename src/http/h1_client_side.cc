// The client's side of an exchange over HTTP/1: reading the request's body and sending the
// response. Part of H1Session; its life cycle is in h1_session.cc.
#include <cassert>

#include "http/generation.h"
#include "http/h1_session.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// Body bytes up to this size are copied behind the head, to be sent from one piece of memory.
constexpr size_t kCopyMax = 2048;

}  // namespace

BodyPiece H1Session::body_failed(Reason why) {
  keep_alive_ = false;
  BodyPiece piece;
  piece.status = BodyPiece::Status::kFailed;
  piece.why = why;
  return piece;
}

bool H1Session::take_body_piece(Buffer& from, BodyPiece& piece) {
  Exchange& exchange = h1_->exchange;
  const uint64_t body_max = exchange.route->conf->body_max.count;
  if (h1_->body_kind == BodyLength::Kind::kLength) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(from.size(), h1_->body_left));
    if (size == 0) return false;
    piece.status = BodyPiece::Status::kBytes;
    piece.bytes = from.view().substr(0, size);
    from.consume(size);
    h1_->body_left -= size;
    h1_->body_complete = h1_->body_left == 0;
    exchange.request.body_bytes += size;
    return true;
  }
  while (!from.empty()) {
    const ChunkedDecoder::Step step = h1_->decoder.next(from.view());
    from.consume(step.consumed);
    switch (step.status) {
      case ChunkedDecoder::Status::kData:
        piece.status = BodyPiece::Status::kBytes;
        piece.bytes = step.data;
        exchange.request.body_bytes += step.data.size();
        if (exchange.request.body_bytes > body_max) piece = body_failed(Reason::kBodyTooLarge);
        return true;
      case ChunkedDecoder::Status::kDone:
        h1_->body_complete = true;
        piece.status = BodyPiece::Status::kEnd;
        return true;
      case ChunkedDecoder::Status::kRefused:
        piece = body_failed(h1_->decoder.reason());
        return true;
      case ChunkedDecoder::Status::kNeedMore:
        break;
    }
  }
  return false;
}

bool H1Session::body_ready() const {
  return h1_->body_complete || !in_.empty() || !h1_->body.empty();
}

Task<BodyPiece> H1Session::read_body() {
  BodyPiece piece;
  if (h1_->body_complete) co_return piece;
  if (!in_.empty()) {
    if (take_body_piece(in_, piece)) co_return piece;
  }
  const Duration patience = h1_->exchange.route->conf->body_timeout;
  for (;;) {
    Buffer& body = h1_->body;
    if (!body.empty()) {
      if (take_body_piece(body, piece)) co_return piece;
    }
    // Everything read so far has been handed on.
    body.clear();
    if (h1_->continue_pending) {
      h1_->continue_pending = false;
      // Not behind a final response, where it would be taken for a part of that.
      if (!head_sent_) {
        const IoResult result = co_await stream_.write("HTTP/1.1 100 Continue\r\n\r\n", patience);
        if (!result.ok()) co_return body_failed(Reason::kClientGone);
      }
    }
    if (!stream_.may_read()) {
      // No bytes here: an upload at rest holds no buffer.
      body.release();
      const IoResult ready = co_await stream_.readable(patience);
      if (ready.status == IoStatus::kTimeout) co_return body_failed(Reason::kBodyTimeout);
    }
    if (!body || body.size_class() != h1_->body_class) body = Buffer(h1_->body_class);
    size_t room = body.room();
    if (h1_->body_kind == BodyLength::Kind::kLength) {
      room = static_cast<size_t>(std::min<uint64_t>(room, h1_->body_left));
    }
    const IoResult got = co_await stream_.read({body.tail(), room}, patience);
    if (got.status == IoStatus::kTimeout) co_return body_failed(Reason::kBodyTimeout);
    if (got.status == IoStatus::kEof) co_return body_failed(Reason::kClientTruncatedBody);
    if (!got.ok()) co_return body_failed(Reason::kClientGone);
    body.commit(got.bytes);
    // A body that fills its buffer gets a larger one for the next piece.
    if (body.room() == 0 && h1_->body_class != BufferClass::kHuge) {
      h1_->body_class = static_cast<BufferClass>(static_cast<unsigned>(h1_->body_class) + 1);
    }
  }
}

FieldList* H1Session::body_trailers() {
  return h1_->body_kind == BodyLength::Kind::kChunked ? h1_->decoder.trailers() : nullptr;
}

// True where the bytes are on their way; otherwise notes why the client is lost.
bool H1Session::sent(const IoResult& result) {
  if (result.ok()) return true;
  // What had gone wrong before is the better explanation.
  if (h1_->exchange.reason == Reason::kNone) {
    h1_->exchange.reason =
        result.status == IoStatus::kTimeout ? Reason::kWriteTimeout : Reason::kClientGone;
  }
  abort();
  return false;
}

void H1Session::abort() {
  aborted_ = true;
  keep_alive_ = false;
}

Task<bool> H1Session::send_interim(uint16_t status, const FieldList& fields) {
  // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
  if (h1_->exchange.request.head.minor_version == 0) co_return true;
  const Buffer head = write_interim_head(status, fields);
  const IoResult result =
      co_await stream_.write(head.view(), h1_->exchange.listener->conf->write_timeout);
  co_return sent(result);
}

Task<bool> H1Session::send_head(std::string_view first, bool last) {
  assert(!head_sent_);
  Exchange& exchange = h1_->exchange;
  for (const Hook& hook : exchange.route->respond) (void)hook.function(exchange, hook.state);
  framing_ = client_framing(exchange);
  keep_alive_ = may_keep_alive();
  ResponseHeadOptions options;
  options.framing = framing_;
  options.close = !keep_alive_;
  options.date = worker_.date();
  head_sent_ = true;
  if (exchange.request.head.method_id == Method::kHead || framing_ == ClientFraming::kNone) {
    first = {};
  }
  exchange.response.body_bytes += first.size();

  const bool chunked = framing_ == ClientFraming::kChunked;
  const bool copy = first.size() <= kCopyMax;
  Buffer head =
      write_response_head(exchange, options, copy ? first.size() + kChunkHeaderMax + 16 : 0);
  const Duration patience = exchange.listener->conf->write_timeout;
  char chunk_header[kChunkHeaderMax];
  const size_t chunk_header_size =
      chunked && !first.empty() ? write_chunk_header(chunk_header, first.size()) : 0;
  std::string_view end = chunked && !first.empty() ? kChunkEnd : std::string_view();
  if (chunked && last) end = first.empty() ? kLastChunk : std::string_view("\r\n0\r\n\r\n");
  if (copy && head.room() >= first.size() + chunk_header_size + end.size()) {
    head.append({chunk_header, chunk_header_size});
    head.append(first);
    head.append(end);
    const IoResult result = co_await stream_.write(head.view(), patience);
    co_return sent(result);
  }
  const iovec parts[] = {{head.data(), head.size()},
                         {chunk_header, chunk_header_size},
                         {const_cast<char*>(first.data()), first.size()},
                         {const_cast<char*>(end.data()), end.size()}};
  const IoResult result = co_await stream_.write(std::span(parts), patience);
  co_return sent(result);
}

Task<bool> H1Session::send_body(std::string_view bytes) {
  Exchange& exchange = h1_->exchange;
  if (bytes.empty() || framing_ == ClientFraming::kNone ||
      exchange.request.head.method_id == Method::kHead) {
    co_return true;
  }
  exchange.response.body_bytes += bytes.size();
  const Duration patience = exchange.listener->conf->write_timeout;
  if (framing_ != ClientFraming::kChunked) {
    const IoResult result = co_await stream_.write(bytes, patience);
    co_return sent(result);
  }
  char chunk_header[kChunkHeaderMax];
  const size_t chunk_header_size = write_chunk_header(chunk_header, bytes.size());
  const iovec parts[] = {{chunk_header, chunk_header_size},
                         {const_cast<char*>(bytes.data()), bytes.size()},
                         {const_cast<char*>(kChunkEnd.data()), kChunkEnd.size()}};
  const IoResult result = co_await stream_.write(std::span(parts), patience);
  co_return sent(result);
}

Task<bool> H1Session::send_end(const FieldList* trailers) {
  if (framing_ != ClientFraming::kChunked) co_return true;
  const Duration patience = h1_->exchange.listener->conf->write_timeout;
  if (trailers == nullptr || trailers->empty()) {
    const IoResult result = co_await stream_.write(kLastChunk, patience);
    co_return sent(result);
  }
  const Buffer last = write_last_chunk(*trailers);
  const IoResult result = co_await stream_.write(last.view(), patience);
  co_return sent(result);
}

ClientTunnel H1Session::begin_tunnel() {
  stream_.watch_peer(nullptr, nullptr);
  half_close_.cancel();
  h1_->begin_tunnel();
  connection_.leave_acceptor();
  return {.connection = &stream_};
}

std::string_view H1Session::tunnel_unread() {
  const std::string_view unread = in_.view();
  in_.consume(unread.size());
  return unread;
}

}  // namespace gatehouse
