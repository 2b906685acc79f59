// The life of an HTTP/1 client connection; see h1_session.h. The client's side of an exchange
// (reading the body, sending the response) is in h1_client_side.cc.
#include "http/h1_session.h"

#include <sys/socket.h>

#include <cassert>

#include "core/log.h"
#include "http/generation.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// How much of a request body that nobody wanted is read to keep the connection.
constexpr uint64_t kDiscardMax = 64 * 1024;

// RFC 9113 §3.4.
constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Exchanges to borrow: as many as are under way at once, at most kKept of them at rest.
constexpr uint32_t kKept = 256;
thread_local constinit H1Exchange* free_exchanges = nullptr;
thread_local constinit uint32_t free_count = 0;

H1Exchange* borrow_exchange() {
  if (free_exchanges == nullptr) return new H1Exchange;
  H1Exchange* h1 = free_exchanges;
  free_exchanges = h1->next_free;
  --free_count;
  return h1;
}

void give_back_exchange(H1Exchange* h1) {
  h1->end();
  if (free_count >= kKept) {
    delete h1;
    return;
  }
  h1->body.release();
  h1->next_free = free_exchanges;
  free_exchanges = h1;
  ++free_count;
}

}  // namespace

void start_h1_session(ClientConnection&& connection, Buffer already_read) {
  auto* session = new H1Session(std::move(connection), std::move(already_read));
  session->start();
}

H1Session::H1Session(ClientConnection&& connection, Buffer already_read)
    : connection_(std::move(connection)),
      worker_(connection_.worker()),
      stream_(connection_.stream()),
      // Over TLS it would have been agreed on (ALPN).
      expect_h2_(connection_.acceptor()->listener->conf->http2 && stream_.tls() == nullptr),
      drain_(connection_.acceptor()->closed || worker_.draining()),
      in_(std::move(already_read)) {
  worker_.add_session(*this);
}

H1Session::~H1Session() {
  run_.cancel();
}

void H1Session::start() {
  run_ = run();
  run_.start();
}

void H1Session::drain() {
  drain_ = end_when_idle_ = true;
  // Bytes that have arrived are a request that the client may have sent before it could know.
  // One that lingers after its last response ends by itself.
  if (h1_ == nullptr && !must_linger_ && !stream_.may_read()) worker_.retire_session(*this);
}

void H1Session::cut() {
  if (h1_ != nullptr && h1_->acting()) {
    keep_alive_ = false;
    if (!head_sent_) return h1_->replace_action(Reason::kDraining);
    // The response must not look whole.
    aborted_ = true;
    return h1_->cancel_action(Reason::kDraining);
  }
  if (h1_ != nullptr && !h1_->finished && h1_->active) {
    h1_->exchange.reason = Reason::kDraining;
    h1_->finish();
  }
  worker_.retire_session(*this);
}

Task<void> H1Session::run() {
  for (;;) {
    if (in_.empty()) {
      in_.release();
      if (end_when_idle_ && !stream_.may_read()) break;
      const ListenerConf& conf = *connection_.acceptor()->listener->conf;
      const Duration patience = exchanges_ == 0 ? conf.header_timeout : conf.keepalive_timeout;
      const IoResult ready = co_await stream_.readable(patience);
      if (!ready.ok()) break;
    }
    const bool again = co_await exchange_once();
    if (!again) break;
  }
  if (must_linger_) co_await linger();
  if (hand_over_) start_h2_session(std::move(connection_), std::move(in_));
  worker_.retire_session(*this);
}

Task<bool> H1Session::exchange_once() {
  // Gives the exchange back however this coroutine ends.
  struct Scope {
    H1Session& session;
    uint64_t out_before;
    explicit Scope(H1Session& s) : session(s), out_before(s.stream_.bytes_out()) {
      session.h1_ = borrow_exchange();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      session.stream_.watch_peer(nullptr, nullptr);
      session.half_close_.cancel();
      give_back_exchange(std::exchange(session.h1_, nullptr));
    }
  } scope(*this);

  head_sent_ = aborted_ = false;
  framing_ = ClientFraming::kNone;
  Exchange& exchange = h1_->exchange;
  h1_->begin(connection_, *this, stream_.loop().now());

  begin_head();
  if (!take_whole_head()) {
    const bool begun = co_await read_head();
    if (!begun) co_return false;
  }
  ++exchanges_;

  if (refusal_ == Reason::kNone) refusal_ = interpret_head();
  if (refusal_ != Reason::kNone) {
    // Nothing behind a request that has no clear meaning can be trusted.
    keep_alive_ = false;
    h1_->body_complete = false;
  }
  const bool answered = h1_->decide(refusal_);
  if (!answered && h1_->is_instant()) {
    h1_->instant_action();
  } else if (!answered) {
    stream_.watch_peer(&H1Session::on_peer_closed, this);
    if (stream_.peer_closed()) watch_half_close();
    co_await h1_->act();
    stream_.watch_peer(nullptr, nullptr);
    half_close_.cancel();
  }
  if (!h1_->cancelled && !aborted_ && !head_sent_) co_await send_prepared();
  exchange.response.wire_bytes = stream_.bytes_out() - scope.out_before;
  h1_->finish();

  if (h1_->cancelled || aborted_ || !keep_alive_) {
    // What is unread would make close() send a reset, which may overtake the response.
    must_linger_ = !h1_->cancelled && !aborted_ && framing_ != ClientFraming::kTunnel &&
                   (!h1_->body_complete || !in_.empty() || stream_.may_read());
    if (aborted_ && framing_ == ClientFraming::kUntilClose) {
      // Only a reset tells this client that the response is not whole.
      const struct linger hard = {1, 0};
      setsockopt(stream_.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    co_return false;
  }
  if (!h1_->body_complete) {
    const bool discarded = co_await discard_body();
    if (!discarded) co_return false;
  }
  // What was read behind the body is the beginning of the next request.
  if (!h1_->body.empty()) {
    in_ = std::move(h1_->body);
  }
  if (!in_.empty()) in_.compact();
  co_return true;
}

H1Limits H1Session::head_limits() const {
  const ListenerConf& conf = *h1_->exchange.listener->conf;
  return {conf.head_max.count, conf.fields_max, conf.target_max.count};
}

void H1Session::begin_head() {
  h1_->body_complete = true;
  h1_->body_left = 0;
  h1_->continue_pending = false;
  h1_->body_class = BufferClass::kHead;
  if (!in_) in_ = Buffer(BufferClass::kHead);
  refusal_ = Reason::kNone;
}

void H1Session::end_head() {
  Request& request = h1_->exchange.request;
  in_.consume(request.head.length);
  request.wire_bytes = request.head.length;
}

// Mostly one read brings the whole head, which needs no coroutine. Anything else, also what is to
// be refused, is left for read_head to read from its first byte.
bool H1Session::take_whole_head() {
  Request& request = h1_->exchange.request;
  if (in_.empty()) {
    const IoResult got = stream_.read_now({in_.tail(), in_.room()});
    if (!got.ok()) return false;
    in_.commit(got.bytes);
  }
  if (expect_h2_ && h2_preface() != Preface::kNone) [[unlikely]]
    return false;
  h1_->parser.reset();
  const ParseStatus status =
      h1_->parser.parse(in_.view(), head_limits(), request.head, request.fields);
  if (status == ParseStatus::kComplete) {
    end_head();
    return true;
  }
  request.fields.clear();
  return false;
}

H1Session::Preface H1Session::h2_preface() {
  const std::string_view begin = in_.view().substr(0, kH2Preface.size());
  expect_h2_ = kH2Preface.starts_with(begin);
  if (!expect_h2_) return Preface::kNone;
  return begin.size() == kH2Preface.size() ? Preface::kWhole : Preface::kMaybe;
}

Task<bool> H1Session::read_head() {
  Exchange& exchange = h1_->exchange;
  const H1Limits limits = head_limits();
  const Moment deadline = exchange.times.started + exchange.listener->conf->header_timeout;
  h1_->parser.reset();
  for (;;) {
    const Preface preface = expect_h2_ ? h2_preface() : Preface::kNone;
    if (preface == Preface::kWhole) {
      hand_over_ = true;
      co_return false;
    }
    if (!in_.empty() && preface == Preface::kNone) {
      const ParseStatus status =
          h1_->parser.parse(in_.view(), limits, exchange.request.head, exchange.request.fields);
      if (status == ParseStatus::kComplete) {
        end_head();
        co_return true;
      }
      if (status == ParseStatus::kRefused) {
        refusal_ = h1_->parser.reason();
        break;
      }
      if (in_.room() == 0) in_.grow(BufferClass::kBulk);
    }
    const Duration left = std::chrono::duration_cast<Duration>(deadline - stream_.loop().now());
    if (left <= Duration::zero()) {
      refusal_ = Reason::kHeadTimeout;
      break;
    }
    const IoResult got = co_await stream_.read({in_.tail(), in_.room()}, left);
    if (got.ok()) {
      in_.commit(got.bytes);
      continue;
    }
    if (got.status != IoStatus::kTimeout || !h1_->parser.begun()) {
      // The end or an error inside a head, or nothing at all in the time allowed.
      if (!h1_->parser.begun()) co_return false;
      refusal_ = Reason::kClientGone;
      break;
    }
  }
  // A refused head has no meaning: nothing of it is looked at but its size.
  exchange.request.wire_bytes = in_.size();
  exchange.request.head = {};
  exchange.request.fields.clear();
  if (refusal_ == Reason::kClientGone) {
    exchange.reason = refusal_;
    aborted_ = true;
    h1_->finish();
    co_return false;
  }
  co_return true;
}

Reason H1Session::interpret_head() {
  Exchange& exchange = h1_->exchange;
  Request& request = exchange.request;
  Reason why = parse_target(request.head.target, request.head.method_id, TargetOptions{},
                            exchange.arena, request.target);
  if (why != Reason::kNone) return why;
  why = check_request(request.head, request.fields, request.target, exchange.arena, request.facts);
  if (why != Reason::kNone) return why;
  if (request.head.method_id == Method::kConnect || request.head.method_id == Method::kTrace) {
    // CONNECT is a forward proxy's business; TRACE would show what the gateway adds.
    return Reason::kMethodNotAllowed;
  }
  request.authority = request.facts.authority;
  const ListenerConf& conf = *exchange.listener->conf;
  keep_alive_ = request.facts.keep_alive && !drain_ &&
                (conf.keepalive_requests == 0 || exchanges_ < conf.keepalive_requests);
  h1_->body_complete = request.facts.body.empty();
  h1_->body_kind = request.facts.body.kind;
  if (!h1_->body_complete) {
    h1_->continue_pending = request.facts.expect_continue;
    request.fields.drop(FieldId::kExpect);
    if (request.facts.body.kind == BodyLength::Kind::kLength) {
      h1_->body_left = request.facts.body.length;
    } else {
      h1_->decoder.reset();
    }
  }
  return Reason::kNone;
}

Task<bool> H1Session::send_prepared() {
  Exchange& exchange = h1_->exchange;
  if (exchange.response.status == 0) exchange.refuse(Reason::kInternal);
  const bool there = co_await exchange.client->send_head(exchange.response.content, true);
  co_return there;
}

Task<bool> H1Session::discard_body() {
  while (!h1_->body_complete) {
    const BodyPiece piece = co_await read_body();
    if (piece.status == BodyPiece::Status::kFailed) co_return false;
    if (h1_->exchange.request.body_bytes > kDiscardMax) co_return false;
  }
  co_return true;
}

// True where the connection can carry another request after the response about to be sent.
bool H1Session::may_keep_alive() const {
  if (!keep_alive_ || drain_ || aborted_) return false;
  if (framing_ == ClientFraming::kUntilClose || framing_ == ClientFraming::kTunnel) return false;
  if (h1_->body_complete) return true;
  // The rest of the body has to be read first. A client that still waits for 100 (Continue) may
  // send it or not: nobody can tell where the next request begins.
  return !h1_->continue_pending && h1_->body_kind == BodyLength::Kind::kLength &&
         h1_->body_left <= kDiscardMax;
}

Task<void> H1Session::linger() {
  stream_.shutdown_write();
  const Duration patience = connection_.acceptor()->listener->conf->linger_timeout;
  const Moment deadline = stream_.loop().now() + patience;
  Buffer sink(BufferClass::kHead);
  for (;;) {
    const Duration left = std::chrono::duration_cast<Duration>(deadline - stream_.loop().now());
    if (left <= Duration::zero()) break;
    const IoResult got = co_await stream_.read({sink.data(), sink.capacity()}, left);
    if (!got.ok()) break;
  }
}

void H1Session::on_peer_closed(void* self, bool reset) {
  auto* session = static_cast<H1Session*>(self);
  if (reset) {
    session->h1_->cancel_action(Reason::kClientGone);
  } else {
    session->watch_half_close();
  }
}

void H1Session::watch_half_close() {
  const Duration patience = h1_->exchange.listener->conf->half_close_timeout;
  stream_.loop().arm(half_close_, patience);
}

void H1Session::on_half_close_timeout(void* self) {
  auto* session = static_cast<H1Session*>(self);
  const Duration patience = session->h1_->exchange.listener->conf->half_close_timeout;
  const Moment progress_until = session->stream_.last_write() + patience;
  if (session->head_sent_ && progress_until > session->stream_.loop().now()) {
    session->stream_.loop().arm(session->half_close_, progress_until);
    return;
  }
  session->h1_->cancel_action(Reason::kClientGone);
}

}  // namespace gatehouse
