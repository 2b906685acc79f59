// The life of an HTTP/1 client connection; see h1_session.h. The client's side of an exchange
// (reading the body, sending the response) is in h1_client_side.cc.
#include "http/h1_session.h"

#include <sys/socket.h>

#include <cassert>

#include "core/log.h"
#include "http/exchange_counters.h"
#include "http/generation.h"
#include "http/route.h"
#include "http/router.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// How much of a request body that nobody wanted is read to keep the connection.
constexpr uint64_t kDiscardMax = 64 * 1024;

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
  if (free_count >= kKept) {
    delete h1;
    return;
  }
  h1->exchange.reset();
  h1->tunnel.reset();
  h1->body.release();
  h1->next_free = free_exchanges;
  free_exchanges = h1;
  ++free_count;
}

}  // namespace

// Waits for the action to finish, or to be destroyed because the client is gone.
class H1Session::ActionAwaiter {
 public:
  explicit ActionAwaiter(H1Session& session) : session_(session) {}
  ActionAwaiter(const ActionAwaiter&) = delete;
  ActionAwaiter& operator=(const ActionAwaiter&) = delete;
  ~ActionAwaiter() { session_.action_waiter_ = nullptr; }

  bool await_ready() {
    session_.action_.start();
    return session_.action_.done();
  }
  void await_suspend(std::coroutine_handle<> waiter) {
    session_.action_waiter_ = waiter;
    session_.action_.set_continuation(waiter);
  }
  void await_resume() {}

 private:
  H1Session& session_;
};

void start_h1_session(AcceptorState& acceptor, UniqueFd fd, const SocketAddress& peer) {
  auto* session = new H1Session(acceptor, std::move(fd), peer);
  acceptor.worker->add_session(*session);
  if (!session->start()) acceptor.worker->retire_session(*session);
}

H1Session::H1Session(AcceptorState& acceptor, UniqueFd fd, const SocketAddress& peer)
    : acceptor_(&acceptor),
      worker_(*acceptor.worker),
      stream_(worker_.loop(), fd.release()),
      listener_cells_(*acceptor.listener->cells),
      peer_(peer.ip()),
      peer_port_(peer.port()),
      drain_(acceptor.closed || worker_.draining()) {
  ++acceptor.sessions;
  for (SeriesCells* cells : {&listener_cells_, &worker_.pool_cells()}) {
    cells->connections.add();
    cells->connections_active.add(1);
  }
}

H1Session::~H1Session() {
  for (SeriesCells* cells : {&listener_cells_, &worker_.pool_cells()}) {
    cells->connections_active.add(-1);
  }
  action_.cancel();
  run_.cancel();
  leave_acceptor();
}

// REQUIRES: no exchange needs the acceptor's listener any more.
void H1Session::leave_acceptor() {
  if (acceptor_ == nullptr) return;
  AcceptorState& acceptor = *std::exchange(acceptor_, nullptr);
  if (--acceptor.sessions == 0 && acceptor.closed) worker_.defer_reap();
}

bool H1Session::start() {
  const Result<void> opened = stream_.open();
  if (!opened) {
    GH_LOG(kError, "listener {}: {}", acceptor_->listener->name, opened.error().message);
    return false;
  }
  run_ = run();
  run_.start();
  return true;
}

void H1Session::drain() {
  drain_ = end_when_idle_ = true;
  // Bytes that have arrived are a request that the client may have sent before it could know.
  // One that lingers after its last response ends by itself.
  if (h1_ == nullptr && !must_linger_ && !stream_.may_read()) worker_.retire_session(*this);
}

void H1Session::cut() {
  if (h1_ != nullptr && action_waiter_) {
    keep_alive_ = false;
    if (head_sent_) {
      // The response must not look whole.
      aborted_ = true;
      cancel_action(Reason::kDraining);
      return;
    }
    action_.cancel();
    h1_->exchange.refuse(Reason::kDraining);
    std::exchange(action_waiter_, nullptr).resume();
    return;
  }
  if (h1_ != nullptr && !h1_->finished && h1_->active) {
    h1_->exchange.reason = Reason::kDraining;
    finish_exchange();
  }
  worker_.retire_session(*this);
}

Task<void> H1Session::run() {
  for (;;) {
    if (in_.empty()) {
      in_.release();
      if (end_when_idle_ && !stream_.may_read()) break;
      const ListenerConf& conf = *acceptor_->listener->conf;
      const Duration patience = exchanges_ == 0 ? conf.header_timeout : conf.keepalive_timeout;
      const IoResult ready = co_await stream_.readable(patience);
      if (!ready.ok()) break;
    }
    const bool again = co_await exchange_once();
    if (!again) break;
  }
  if (must_linger_) co_await linger();
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
      session.action_.cancel();
      const Generation* generation = session.h1_->exchange.generation;
      give_back_exchange(std::exchange(session.h1_, nullptr));
      if (generation != nullptr) generation->release();
    }
  } scope(*this);

  head_sent_ = aborted_ = cancelled_ = false;
  framing_ = ClientFraming::kNone;
  Exchange& exchange = h1_->exchange;
  exchange.worker = &worker_;
  exchange.generation = acceptor_->generation;
  exchange.generation->hold();
  exchange.listener = acceptor_->listener;
  exchange.route = acceptor_->listener->fallback.get();
  exchange.client = this;
  exchange.peer = exchange.client_address = peer_;
  exchange.peer_port = peer_port_;

  begin_head();
  if (!take_whole_head()) {
    const bool begun = co_await read_head();
    if (!begun) co_return false;
  }
  ++exchanges_;

  if (refusal_ == Reason::kNone) refusal_ = interpret_head();
  bool answered = false;
  // Refused requests are identified too: their replies and log lines name the client and the id.
  for (const Hook& hook : exchange.listener->identify) {
    const Verdict verdict = hook.function(exchange, hook.state);
    if (verdict == Verdict::kAnswered) answered = true;
  }
  if (refusal_ != Reason::kNone) {
    // Nothing behind a request that has no clear meaning can be trusted.
    keep_alive_ = false;
    h1_->body_complete = false;
    exchange.refuse(refusal_);
    answered = true;
  }
  if (!answered) answered = !route();
  h1_->active = true;
  exchange.route->cells->requests_active.add(1);
  if (!answered) answered = run_hooks();
  if (!answered) {
    const Action& action = exchange.route->action;
    if (action.instant != nullptr) {
      action.instant(exchange, action.state);
    } else {
      stream_.watch_peer(&H1Session::on_peer_closed, this);
      if (stream_.peer_closed()) watch_half_close();
      action_ = action.function(exchange, action.state);
      co_await ActionAwaiter(*this);
      stream_.watch_peer(nullptr, nullptr);
      half_close_.cancel();
      action_.cancel();
    }
  }
  if (!cancelled_ && !aborted_ && !head_sent_) co_await send_prepared();
  exchange.response.wire_bytes = stream_.bytes_out() - scope.out_before;
  finish_exchange();

  if (cancelled_ || aborted_ || !keep_alive_) {
    // What is unread would make close() send a reset, which may overtake the response.
    must_linger_ = !cancelled_ && !aborted_ && framing_ != ClientFraming::kTunnel &&
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
  h1_->exchange.times.started = stream_.loop().now();
  h1_->active = h1_->finished = false;
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

Task<bool> H1Session::read_head() {
  Exchange& exchange = h1_->exchange;
  const H1Limits limits = head_limits();
  const Moment deadline = exchange.times.started + exchange.listener->conf->header_timeout;
  h1_->parser.reset();
  for (;;) {
    if (!in_.empty()) {
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
    finish_exchange();
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

// False where the exchange has been answered already.
bool H1Session::route() {
  Exchange& exchange = h1_->exchange;
  const Route* route = exchange.listener->router->match(exchange);
  if (route == nullptr) {
    exchange.refuse(Reason::kNoRoute);
    return false;
  }
  exchange.route = route;
  const BodyLength& body = exchange.request.facts.body;
  if (body.kind == BodyLength::Kind::kLength && body.length > route->conf->body_max.count) {
    exchange.refuse(Reason::kBodyTooLarge);
    return false;
  }
  return true;
}

// True where a hook has answered.
bool H1Session::run_hooks() {
  Exchange& exchange = h1_->exchange;
  for (const Hook& hook : exchange.route->before) {
    const Verdict verdict = hook.function(exchange, hook.state);
    if (verdict == Verdict::kAnswered) return true;
  }
  return false;
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
  return !h1_->continue_pending &&
         h1_->exchange.request.facts.body.kind == BodyLength::Kind::kLength &&
         h1_->body_left <= kDiscardMax;
}

void H1Session::finish_exchange() {
  Exchange& exchange = h1_->exchange;
  exchange.times.finished = stream_.loop().now();
  if (h1_->active) exchange.route->cells->requests_active.add(-1);
  h1_->finished = true;
  exchange.request.wire_bytes += exchange.request.body_bytes;
  count_exchange(exchange);
  std::span<const Hook> hooks = exchange.route->log;
  if (h1_->tunnel != nullptr) hooks = worker_.generation().log_hooks(exchange.route->name);
  for (const Hook& hook : hooks) (void)hook.function(exchange, hook.state);
}

Task<void> H1Session::linger() {
  stream_.shutdown_write();
  const Duration patience = acceptor_->listener->conf->linger_timeout;
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
    session->cancel_action(Reason::kClientGone);
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
  session->cancel_action(Reason::kClientGone);
}

void H1Session::cancel_action(Reason why) {
  if (!action_waiter_) return;
  cancelled_ = true;
  h1_->exchange.reason = why;
  if (!head_sent_) h1_->exchange.response.status = reason_info(why).status;
  action_.cancel();
  std::exchange(action_waiter_, nullptr).resume();
}

}  // namespace gatehouse
