// The answer of a target: its head is read and judged, its body sent on to the client. See proxy.h.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/log.h"
#include "http/proxy.h"
#include "http/proxy_exchange.h"
#include "http/route.h"

namespace gatehouse {

namespace {

// Bytes read of a body at once. More would leave the processor's nearest cache between the read
// and the write, which costs more than the system calls that it saves (t/bench, 1m).
constexpr size_t kRelayMax = 32 * 1024;

}  // namespace
namespace {

// Interim responses before a final one; more are a fault of the upstream.
constexpr unsigned kInterimMax = 16;

}  // namespace

// kNone where bytes have come into in_.
Reason Proxy::note_read(const IoResult& got) {
  if (got.status == IoStatus::kTimeout) return Reason::kUpstreamTimeout;
  if (!got.ok()) return Reason::kUpstreamReset;
  in_.commit(got.bytes);
  exchange_.upstream_bytes_in += got.bytes;
  answer_begun_ = true;
  return Reason::kNone;
}

// True where in_ begins with the head of a final response, which is parsed then. Anything else is
// left for read_head to read from its first byte.
bool Proxy::take_whole_head() {
  parser_.reset();
  exchange_.response.fields.clear();
  const ParseStatus status =
      parser_.parse(in_.view(), head_limits(), head_, exchange_.response.fields);
  if (status == ParseStatus::kComplete && head_.status >= 200) return true;
  parser_.reset();
  exchange_.response.fields.clear();
  unparsed_ = true;
  return false;
}

// Reads the head of the final response into in_; hands interim ones on. May be cancelled and begun
// anew: all it knows is in members.
Task<Reason> Proxy::read_head(Duration timeout, Moment started) {
  const H1Limits limits = head_limits();
  const Moment deadline = started + timeout;
  if (!answer_begun_) {
    parser_.reset();
    exchange_.response.fields.clear();
  }
  for (;;) {
    if (!in_) in_ = Buffer(BufferClass::kHead);
    if (in_.room() == 0) in_.grow(BufferClass::kBulk);
    Duration left = timeout;
    if (answer_begun_ && timeout != Duration::zero()) {
      left = std::chrono::duration_cast<Duration>(deadline - loop_.now());
      if (left <= Duration::zero()) co_return Reason::kUpstreamTimeout;
    }
    if (in_.empty() || !unparsed_) {
      const IoResult got = co_await stream().read({in_.tail(), in_.room()}, left);
      const Reason lost = note_read(got);
      if (lost != Reason::kNone) co_return lost;
    }
    unparsed_ = false;
    const ParseStatus status = parser_.parse(in_.view(), limits, head_, exchange_.response.fields);
    if (status == ParseStatus::kIncomplete) continue;
    if (status == ParseStatus::kRefused) {
      const Reason why = parser_.reason();
      co_return why == Reason::kHeadTooLarge || why == Reason::kTooManyFields
          ? Reason::kUpstreamHeadTooLarge
          : bad_response(why);
    }
    if (head_.status >= 200 || head_.status == 101) co_return accept_head();
    const Reason why = interpret_head();
    if (why != Reason::kNone) co_return bad_response(why);
    in_.consume(head_.length);
    if (++interims_ > kInterimMax) co_return bad_response(Reason::kUpstreamBadResponse);
    // 100 is between the gateway and the upstream; the others are for the client.
    if (head_.status != 100 && !exchange_.client->head_sent()) {
      const bool there =
          co_await exchange_.client->send_interim(head_.status, exchange_.response.fields);
      if (!there) {
        client_lost_ = true;
        co_return Reason::kClientGone;
      }
    }
    exchange_.response.fields.clear();
    in_.compact();
    parser_.reset();
    unparsed_ = !in_.empty();
  }
}

// The final response's head has been parsed.
Reason Proxy::accept_head() {
  const Reason why = interpret_head();
  if (why != Reason::kNone) return bad_response(why);
  in_.consume(head_.length);
  exchange_.times.upstream_head = loop_.now();
  lease_.settle({TryOutcome::Kind::kAnswered, head_.status,
                 exchange_.times.upstream_head - exchange_.times.upstream_started});
  exchange_.response.status = head_.status;
  exchange_.response.phrase = head_.phrase;
  exchange_.response.body = facts_.body;
  if (exchange_.route->keeps_response_fields) {
    copy_texts(exchange_.response.fields, exchange_.arena);
    fields_kept_ = true;
  }
  return Reason::kNone;
}

Reason Proxy::bad_response(Reason why) {
  GH_LOG(kWarn, "upstream {}, target {}: response refused: {} (request {})", upstream_.name,
         exchange_.target->address_text, reason_info(why).code, exchange_.request_id);
  return Reason::kUpstreamBadResponse;
}

Reason Proxy::interpret_head() {
  const Reason why =
      check_response(head_, exchange_.response.fields, exchange_.request.head.method_id, facts_);
  if (why != Reason::kNone) return why;
  if (head_.status == 101) {
    // Nobody switches protocols unasked, or to another one than was offered (RFC 9110 §15.2.2).
    const std::string_view offered = exchange_.request.facts.upgrade;
    if (offered.empty() || !equal_ignoring_case(offered, facts_.upgrade)) {
      return Reason::kUpstreamBadResponse;
    }
  }
  return Reason::kNone;
}

// Sends the response on. The head has been read; in_ holds what came behind it.
Task<void> Proxy::relay() {
  if (facts_.body.kind == BodyLength::Kind::kTunnel) {
    co_await relay_tunnel();
  } else if (whole_response()) {
    const bool there = co_await send_whole();
    (void)there;
  } else {
    co_await relay_pieces();
  }
}

// The common case: nothing more has to be read of the response.
bool Proxy::whole_response() const {
  return facts_.body.empty() ||
         (facts_.body.kind == BodyLength::Kind::kLength && in_.size() >= facts_.body.length);
}

// REQUIRES: whole_response().
Task<bool> Proxy::send_whole() {
  const size_t length = static_cast<size_t>(facts_.body.length);
  const std::string_view body = in_.view().substr(0, length);
  const bool excess = in_.size() > length;
  if (excess) exchange_.reason = Reason::kUpstreamExcess;
  reusable_ = facts_.keep_alive && !excess;
  return exchange_.client->send_head(body, true);
}

Task<void> Proxy::relay_pieces() {
  ClientSide& client = *exchange_.client;
  const BodyLength::Kind kind = facts_.body.kind;
  uint64_t left = facts_.body.length;
  bool head_sent = false;
  BufferClass size_class = BufferClass::kHead;
  if (kind == BodyLength::Kind::kChunked) decoder_.emplace();
  decoded_all_ = false;
  decode_failure_ = Reason::kNone;
  for (;;) {
    std::string_view data = in_.view();
    bool last = false;
    bool excess = false;
    if (kind == BodyLength::Kind::kLength) {
      excess = data.size() > left;
      if (excess) data = data.substr(0, static_cast<size_t>(left));
      left -= data.size();
      last = left == 0;
    } else if (kind == BodyLength::Kind::kChunked) {
      data = gather_chunks();
      if (decode_failure_ != Reason::kNone) {
        (void)bad_response(decode_failure_);
        break;
      }
      last = decoded_all_;
      excess = last && !in_.empty();
    }
    const FieldList* trailers = last ? decoder_trailers() : nullptr;
    if (!head_sent) {
      head_sent = true;
      const bool there = co_await client.send_head(data, last && trailers == nullptr);
      if (!there) co_return;
      if (last && trailers != nullptr) {
        const bool still_there = co_await client.send_end(trailers);
        if (!still_there) co_return;
      }
    } else {
      const bool there = co_await client.send_body(data);
      if (!there) co_return;
      if (last) {
        const bool still_there = co_await client.send_end(trailers);
        if (!still_there) co_return;
      }
    }
    if (last) {
      if (excess) exchange_.reason = Reason::kUpstreamExcess;
      reusable_ = facts_.keep_alive && !excess;
      co_return;
    }
    in_.clear();
    if (!stream().may_read()) {
      in_.release();  // a body at rest holds no buffer
      const IoResult ready = co_await stream().readable(conf_.read_timeout);
      if (!ready.ok()) {
        co_await give_up(Reason::kUpstreamTimeout);
        co_return;
      }
    }
    if (!in_ || in_.size_class() != size_class) in_ = Buffer(size_class);
    const size_t room = std::min(in_.room(), kRelayMax);
    const IoResult got = co_await stream().read({in_.tail(), room}, conf_.read_timeout);
    if (got.status == IoStatus::kEof && kind == BodyLength::Kind::kUntilClose) {
      (void)co_await client.send_end(nullptr);
      co_return;
    }
    if (!got.ok()) {
      co_await give_up(got.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout
                                                        : Reason::kUpstreamTruncated);
      co_return;
    }
    in_.commit(got.bytes);
    exchange_.upstream_bytes_in += got.bytes;
    // A body that fills its buffer gets a larger one for the next piece.
    if (got.bytes == room) size_class = BufferClass::kBulk;
  }
  co_await give_up(Reason::kUpstreamBadResponse);
}

const FieldList* Proxy::decoder_trailers() {
  if (facts_.body.kind != BodyLength::Kind::kChunked) return nullptr;
  const FieldList* trailers = decoder_->trailers();
  return trailers != nullptr && !trailers->empty() ? trailers : nullptr;
}

std::string_view Proxy::gather_chunks() {
  char* const start = in_.data() + in_.begin();
  size_t size = 0;
  while (!in_.empty() && !decoded_all_) {
    const ChunkedDecoder::Step step = decoder_->next(in_.view());
    if (step.status == ChunkedDecoder::Status::kRefused) {
      decode_failure_ = decoder_->reason();
      return {};
    }
    if (!step.data.empty()) {
      std::memmove(start + size, step.data.data(), step.data.size());
      size += step.data.size();
    }
    in_.consume(step.consumed);
    if (step.status == ChunkedDecoder::Status::kDone) decoded_all_ = true;
  }
  return {start, size};
}

Task<void> Proxy::relay_tunnel() {
  ClientSide& client = *exchange_.client;
  const bool there = co_await client.send_head({}, true);
  if (!there) co_return;
  const uint64_t in_before = stream().bytes_in();
  const uint64_t out_before = stream().bytes_out();
  // The last that is asked of the generation: it may be gone before the tunnel is.
  const Duration idle_timeout = exchange_.route->conf->idle_timeout;
  lease_.detach();
  choices_.set.reset();
  if (extra_) extra_->pass.end();
  const ClientTunnel client_end = client.begin_tunnel();
  fields_kept_ = true;
  // The unread bytes of both sides stay where they are until they have been passed on.
  Buffer early = std::move(in_);
  exchange_.reason = co_await run_tunnel(client_end, stream(), client.tunnel_unread(),
                                         early ? early.view() : std::string_view(), idle_timeout);
  exchange_.upstream_bytes_in += stream().bytes_in() - in_before;
  exchange_.upstream_bytes_out += stream().bytes_out() - out_before;
}

}  // namespace gatehouse
