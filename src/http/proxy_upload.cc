// A request with a body on its way to the target, while its answer is listened for. See proxy.h.
#include <chrono>

#include "http/h1_writer.h"
#include "http/proxy_exchange.h"

namespace gatehouse {
namespace {

// How long an answer may take once the upstream has refused the rest of the body.
constexpr Duration kAfterRefusedBody = std::chrono::seconds(2);

}  // namespace

Task<Reason> Proxy::attempt_with_body() {
  request_sent_ = false;
  Task<UploadEnd> uploading = call_ != nullptr ? upload_call() : upload();
  uploading.start();
  // While the body is on its way the answer has all the time that the upload has.
  Task<Reason> answer = read_answer(Duration::zero());
  answer.start();
  if (!uploading.done()) co_await any_done(uploading, answer);
  bool upload_taken = false;
  if (!answer.done()) {
    upload_taken = true;
    const UploadEnd end = uploading.take();
    if (end == UploadEnd::kClientFailed) {
      answer.cancel();
      drop_connection();
      stop_upload_failed();
      co_return piece_.why;
    }
    // Begun anew with a timeout; what has been read of the head is kept.
    answer.cancel();
    const Duration patience = answer_patience(exchange_.times.upstream_started);
    answer = read_answer(end == UploadEnd::kComplete ? patience : kAfterRefusedBody);
    answer.start();
    co_await done(answer);
  }
  const Reason failure = answer.take();
  if (failure != Reason::kNone) co_return failure;
  if (policy_ != nullptr) {
    const bool dropped = is_to_be_dropped();
    if (dropped) {
      uploading.cancel();
      drop_answer();
      co_return Reason::kNone;
    }
  }

  Task<void> relaying = call_ != nullptr ? relay_call() : relay();
  relaying.start();
  if (!upload_taken && !relaying.done()) {
    co_await any_done(uploading, relaying);
    if (!relaying.done()) {
      const UploadEnd end = uploading.take();
      if (end == UploadEnd::kClientFailed) {
        relaying.cancel();
        drop_connection();
        stop_upload_failed();
        co_return piece_.why;
      }
    }
  }
  if (!relaying.done()) co_await done(relaying);
  // An upload that the answer has overtaken ends here, and the connection with it.
  uploading.cancel();
  reusable_ = reusable_ && request_sent_;
  settle_connection();
  co_return Reason::kNone;
}

Task<Reason> Proxy::read_answer(Duration timeout) {
  return call_ != nullptr ? read_call_head(timeout, loop_.now()) : read_head(timeout, loop_.now());
}

// Sends the head and the body. A client that fails is told of in piece_.why.
Task<UploadEnd> Proxy::upload() {
  Buffer head = write_request_head(exchange_, request_host());
  ClientSide& client = *exchange_.client;
  const bool chunked = exchange_.request.facts.body.kind == BodyLength::Kind::kChunked;
  // Where the body's first bytes have arrived with the head they go out with it. A piece that a
  // failed try could not send is still at hand.
  if (extra_ && !extra_->kept.empty()) {
    char chunk_header[kChunkHeaderMax];
    const size_t size = chunked ? write_chunk_header(chunk_header, extra_->kept.size()) : 0;
    const std::string_view end = chunked ? kChunkEnd : std::string_view();
    iovec parts[4] = {{head.data(), head.size()},
                      {chunk_header, size},
                      {extra_->kept.data(), extra_->kept.size()},
                      {const_cast<char*>(end.data()), end.size()}};
    const IoResult sent = co_await stream().write(std::span(parts), conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return UploadEnd::kUpstreamFailed;
    head.clear();
  } else if (pieces_ == 0 && !client.body_ready()) {
    const IoResult sent = co_await stream().write(head.view(), conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return UploadEnd::kUpstreamFailed;
    head.clear();
  }
  for (bool again = piece_at_hand_;; again = false) {
    if (!again) {
      // A body that one piece held stays at hand for another try: its end is not asked for.
      const BodyLength& body = exchange_.request.facts.body;
      if (pieces_ != 0 && !chunked && body_read_ == body.length) break;
      keep_piece();
      piece_ = co_await client.read_body();
      if (piece_.status == BodyPiece::Status::kFailed) co_return UploadEnd::kClientFailed;
      piece_at_hand_ = true;
      ++pieces_;
      body_read_ += piece_.bytes.size();
    }
    const bool end = piece_.status == BodyPiece::Status::kEnd;
    if (end && !chunked && head.empty()) break;
    char chunk_header[kChunkHeaderMax];
    iovec parts[4] = {{head.data(), head.size()}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}};
    Buffer last;
    if (chunked && end) {
      FieldList* trailers = client.body_trailers();
      if (trailers != nullptr) {
        last = write_last_chunk(*trailers);
        parts[1] = {last.data(), last.size()};
      } else {
        parts[1] = {const_cast<char*>(kLastChunk.data()), kLastChunk.size()};
      }
    } else if (!end) {
      if (chunked) {
        parts[1] = {chunk_header, write_chunk_header(chunk_header, piece_.bytes.size())};
        parts[3] = {const_cast<char*>(kChunkEnd.data()), kChunkEnd.size()};
      }
      parts[2] = {const_cast<char*>(piece_.bytes.data()), piece_.bytes.size()};
    }
    const IoResult sent = co_await stream().write(std::span(parts), conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return UploadEnd::kUpstreamFailed;
    head.release();
    if (end) break;
  }
  request_sent_ = true;
  co_return UploadEnd::kComplete;
}

// The request's body cannot be completed, for the reason in piece_.why: a client that is there is
// told, unless the response has begun.
void Proxy::stop_upload_failed() {
  if (piece_.why == Reason::kClientGone || exchange_.client->head_sent()) {
    lose_client(piece_.why);
  } else {
    client_lost_ = true;
    exchange_.refuse(piece_.why);
    fields_kept_ = true;
  }
}

}  // namespace gatehouse
