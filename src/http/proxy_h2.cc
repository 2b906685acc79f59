// A try over a stream of an HTTP/2 connection: the same as over a connection of its own, in other
// frames. See proxy.h.
//
// The request goes up and the answer comes down at the same time, whichever begins or ends first;
// trailers go both ways. A piece of the answer's body gives its room in the stream's window back
// when the client has it. Whatever ends the try before its answer is whole resets the stream, by
// the end of the call's life, and leaves the connection to the others.
#include <algorithm>
#include <chrono>

#include "core/log.h"
#include "http/connect_target.h"
#include "http/generation.h"
#include "http/h2_field_lines.h"
#include "http/h2_pool.h"
#include "http/proxy.h"
#include "http/proxy_exchange.h"
#include "http/route.h"
#include "http/upstream_tls.h"

namespace gatehouse {

namespace {

// How often a request is sent again that targets have not looked at.
constexpr uint8_t kRefusalsMax = 3;

Reason reason_of(H2Transfer::End end) {
  switch (end) {
    case H2Transfer::End::kUnprocessed:
      return Reason::kUpstreamRefused;
    case H2Transfer::End::kMalformed:
      return Reason::kUpstreamBadResponse;
    case H2Transfer::End::kHeadTooLarge:
      return Reason::kUpstreamHeadTooLarge;
    default:
      return Reason::kUpstreamReset;
  }
}

}  // namespace

Task<Reason> Proxy::reach(UpstreamTarget& target, std::unique_ptr<UpstreamConnection>& connection,
                          std::unique_ptr<H2Call>& call) {
  const TargetTransport& transport = *target.transport;
  const CertificateHolder& certificates = exchange_.generation->certificates();
  const Moment until = loop_.now() + connect_patience();
  const bool shares = may_share(target);
  while (shares) {
    H2Pool& pool = target.state->h2();
    call = pool.reserve(exchange_.arena);
    if (call != nullptr) co_return Reason::kNone;
    if (pool.target_prefers_http1()) break;
    const auto left = std::chrono::duration_cast<Duration>(until - loop_.now());
    if (left <= Duration::zero()) co_return Reason::kUpstreamConnectTimeout;
    H2Pool::Wait room(pool, target, certificates, left);
    const Reason why = co_await room;
    if (why != Reason::kNone) co_return why;
    connection = room.take_connection();
    if (connection != nullptr) co_return Reason::kNone;
  }
  std::unique_ptr<TlsLayer> tls;
  if (transport.tls != nullptr) {
    Result<std::unique_ptr<TlsLayer>> made = make_tls_layer(target, certificates, !shares);
    if (!made) {
      GH_LOG(kError, "upstream {}, target {}: {}", upstream_.name, target.address_text,
             made.error().message);
      co_return Reason::kUpstreamTlsFailed;
    }
    tls = std::move(*made);
  }
  const auto left =
      std::max(std::chrono::duration_cast<Duration>(until - loop_.now()), Duration(1));
  Task<Reason> connecting = connect_target(loop_, *target.state, target.address, left,
                                           proxy_header_, std::move(tls), connection);
  const Reason why = co_await connecting;
  if (why != Reason::kNone || !shares || !chose_h2(*connection)) co_return why;
  // It has changed its mind since.
  call = target.state->h2().adopt(std::move(connection), target.transport, exchange_.arena);
  co_return call != nullptr ? Reason::kNone : Reason::kUpstreamConnectFailed;
}

// Sends the head of the request.
bool Proxy::open_call(const UpstreamTarget& target, H2Call& call, std::string_view authority) {
  std::string scratch;
  H2FieldLines lines;
  write_h2_request(exchange_, authority, target.transport->tls != nullptr, scratch, lines);
  return call.open(lines.all(), !exchange_.request.facts.body.empty());
}

bool Proxy::call_was_refused() const {
  return call_ != nullptr && refusals_ < kRefusalsMax && !answer_begun_ &&
         call_->end() == H2Transfer::End::kUnprocessed && repeatable(true);
}

Task<Reason> Proxy::attempt_call() {
  if (!open_call(lease_.target(), *call_, request_host())) co_return Reason::kUpstreamRefused;
  request_sent_ = true;
  const Moment started = loop_.now();
  Duration patience = conf_.response_timeout;
  if (policy_ != nullptr) [[unlikely]] {
    if (may_hedge()) {
      const Reason lost = co_await race();
      if (lost != Reason::kNone) co_return lost;
      if (call_ == nullptr) {
        const Reason failure = co_await attempt();
        co_return failure;
      }
    }
    patience = answer_patience(started);
  }
  const Reason failure = co_await take_call_answer(patience, started);
  co_return failure;
}

// Reads the answer and sends it on. No upload is under way.
Task<Reason> Proxy::take_call_answer(Duration patience, Moment started) {
  const Reason failure = co_await read_call_head(patience, started);
  if (failure != Reason::kNone) co_return failure;
  if (policy_ != nullptr && is_to_be_dropped()) [[unlikely]] {
    drop_answer();
    co_return Reason::kNone;
  }
  co_await relay_call();
  settle_connection();
  co_return Reason::kNone;
}

Task<Reason> Proxy::wait_for_call(H2Call& call, Duration patience) {
  while (!call.has_interim() && !call.has_head()) {
    if (call.end() != H2Transfer::End::kOpen) co_return reason_of(call.end());
    const IoStatus news = co_await call.changed(patience);
    if (news == IoStatus::kTimeout) co_return Reason::kUpstreamTimeout;
  }
  co_return Reason::kNone;
}

// May be cancelled and begun anew, as read_head().
Task<Reason> Proxy::read_call_head(Duration timeout, Moment started) {
  const Moment deadline = started + timeout;
  for (;;) {
    while (call_->has_interim()) {
      answer_begun_ = true;
      const H2Transfer::Head interim = call_->take_interim();
      if (!take_lines(interim.status, interim.lines)) {
        co_return bad_response(Reason::kUpstreamBadResponse);
      }
      const Reason why = interpret_head();
      if (why != Reason::kNone) co_return bad_response(why);
      if (interim.status != 100 && !exchange_.client->head_sent()) {
        const bool there =
            co_await exchange_.client->send_interim(interim.status, exchange_.response.fields);
        if (!there) {
          client_lost_ = true;
          co_return Reason::kClientGone;
        }
      }
    }
    const H2Transfer::End end = call_->end();
    const bool no_good =
        end == H2Transfer::End::kMalformed || end == H2Transfer::End::kHeadTooLarge;
    if (call_->has_head() && !no_good) {
      answer_begun_ = true;
      const H2Transfer::Head head = call_->head();
      if (!take_lines(head.status, head.lines)) {
        co_return bad_response(Reason::kUpstreamBadResponse);
      }
      co_return accept_head();
    }
    if (end != H2Transfer::End::kOpen) co_return reason_of(end);
    Duration left = timeout;
    if (timeout != Duration::zero()) {
      left = std::chrono::duration_cast<Duration>(deadline - loop_.now());
      if (left <= Duration::zero()) left = Duration(1);
    }
    const IoStatus news = co_await call_->changed(left);
    if (news == IoStatus::kTimeout) {
      call_->suspect_connection();
      co_return Reason::kUpstreamTimeout;
    }
  }
}

// The lines of a head become the response's fields.
bool Proxy::take_lines(uint16_t status, std::string_view lines) {
  exchange_.upstream_bytes_in += lines.size();
  head_ = {status, 1, {}, 0};
  exchange_.response.fields.clear();
  FieldSectionParser section;
  section.reset(0);
  fields_kept_ = true;  // the lines are in the arena
  return section.parse(lines, conf_.fields_max, exchange_.response.fields) ==
         ParseStatus::kComplete;
}

// The trailer fields of an answer that is whole; null where there are none.
const FieldList* Proxy::call_trailers() {
  if (call_->trailers().empty()) return nullptr;
  trailers_ = std::make_unique<FieldList>();
  FieldSectionParser section;
  section.reset(0);
  if (section.parse(call_->trailers(), conf_.fields_max, *trailers_) != ParseStatus::kComplete) {
    return nullptr;
  }
  for (Field& field : *trailers_) {
    if (!trailer_allowed(field)) field.dropped = true;
  }
  return trailers_->empty() ? nullptr : trailers_.get();
}

// The answer's head has been accepted.
Task<void> Proxy::relay_call() {
  ClientSide& client = *exchange_.client;
  BodyLength& length = exchange_.response.body;
  const bool bodiless = facts_.body.empty();
  const bool whole_now = call_->end() == H2Transfer::End::kWhole;
  // The end is known: the client may know it, too.
  if (!bodiless && whole_now && length.kind == BodyLength::Kind::kUntilClose &&
      call_->trailers().empty()) {
    length = {BodyLength::Kind::kLength, call_->body_size()};
  }
  bool head_sent = false;
  for (;;) {
    in_.release();
    if (call_->body_size() != 0) in_ = call_->take_body();
    const std::string_view data = in_.view();
    const bool ended = call_->body_size() == 0 && call_->end() == H2Transfer::End::kWhole;
    const bool last = bodiless || ended;
    if (bodiless && !data.empty()) {
      co_await give_up(bad_response(Reason::kUpstreamBadResponse));
      co_return;
    }
    const FieldList* trailers = ended ? call_trailers() : nullptr;
    exchange_.upstream_bytes_in += data.size();
    if (!head_sent) {
      head_sent = true;
      const bool all = last && trailers == nullptr;
      const bool there = co_await client.send_head(data, all);
      if (!there || all) co_return;
    } else if (!data.empty()) {
      const bool there = co_await client.send_body(data);
      if (!there) co_return;
    }
    if (last) {
      (void)co_await client.send_end(trailers);
      co_return;
    }
    call_->release(data.size());
    if (call_->body_size() != 0) continue;
    if (call_->end() == H2Transfer::End::kWhole) continue;  // with or without trailers
    in_.release();                                          // a body at rest holds no buffer
    while (call_->body_size() == 0 && call_->end() == H2Transfer::End::kOpen) {
      const IoStatus news = co_await call_->changed(conf_.read_timeout);
      if (news == IoStatus::kTimeout) {
        call_->suspect_connection();
        co_await give_up(Reason::kUpstreamTimeout);
        co_return;
      }
    }
    if (call_->body_size() == 0 && call_->end() != H2Transfer::End::kWhole) {
      co_await give_up(call_->end() == H2Transfer::End::kReset ? Reason::kUpstreamTruncated
                                                               : Reason::kUpstreamBadResponse);
      co_return;
    }
  }
}

// Sends the head and the body. A client that fails is told of in piece_.why.
Task<UploadEnd> Proxy::upload_call() {
  ClientSide& client = *exchange_.client;
  const BodyLength& body = exchange_.request.facts.body;
  const bool counted = body.kind == BodyLength::Kind::kLength;
  if (!open_call(lease_.target(), *call_, request_host())) co_return UploadEnd::kUpstreamFailed;
  if (extra_ && !extra_->kept.empty()) {
    const IoStatus sent = co_await call_->send(extra_->kept, false, nullptr, conf_.write_timeout);
    if (sent != IoStatus::kOk) co_return UploadEnd::kUpstreamFailed;
    exchange_.upstream_bytes_out += extra_->kept.size();
  }
  for (bool again = piece_at_hand_;; again = false) {
    if (!again) {
      keep_piece();
      piece_ = co_await client.read_body();
      if (piece_.status == BodyPiece::Status::kFailed) co_return UploadEnd::kClientFailed;
      piece_at_hand_ = true;
      ++pieces_;
      body_read_ += piece_.bytes.size();
    }
    const bool end = piece_.status == BodyPiece::Status::kEnd;
    const bool last = end || (counted && body_read_ == body.length);
    const FieldList* trailers = end ? client.body_trailers() : nullptr;
    const std::string_view bytes = end ? std::string_view() : piece_.bytes;
    const IoStatus sent = co_await call_->send(bytes, last, trailers, conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || call_->sent();
    if (sent != IoStatus::kOk) co_return UploadEnd::kUpstreamFailed;
    exchange_.upstream_bytes_out += bytes.size();
    if (last) break;
  }
  request_sent_ = true;
  co_return UploadEnd::kComplete;
}

}  // namespace gatehouse
