// Proxying one exchange to an upstream: choosing, connecting, trying again, and the plain case of a
// request without a body. See proxy.h.
#include "http/proxy.h"

#include "core/log.h"
#include "http/h1_writer.h"
#include "http/proxy_exchange.h"

namespace gatehouse {

namespace {

bool is_idempotent(Method method) {
  switch (method) {
    case Method::kGet:
    case Method::kHead:
    case Method::kPut:
    case Method::kDelete:
    case Method::kOptions:
    case Method::kTrace:
      return true;
    default:
      return false;
  }
}

}  // namespace

Task<void> Proxy::run(Exchange& exchange, const Upstream& upstream) {
  Proxy proxy(exchange, upstream);
  ChoiceContext choices(exchange);
  bool retried = false;
  Reason failure = Reason::kNoTarget;
  const bool has_body = !exchange.request.facts.body.empty();
  for (;;) {
    if (exchange.tries >= proxy.conf_.connect_tries + (retried ? 1 : 0)) break;
    Choice choice = choose_target(upstream, choices);
    if (!choice.lease) {
      if (exchange.tries == 0) failure = choice.why;
      break;
    }
    proxy.begin_try(std::move(choice.lease), retried);
    UpstreamTarget& target = proxy.lease_.target();
    if (proxy.connection_ == nullptr) {
      failure = co_await proxy.connect(target);
      if (failure != Reason::kNone) {
        proxy.count_failure(failure);
        proxy.lease_.settle(proxy.outcome(failure));
        choices.mark_tried(proxy.lease_);
        continue;
      }
    }
    exchange.times.upstream_connected = proxy.loop_.now();
    if (has_body) {
      failure = co_await proxy.attempt_with_body();
    } else {
      failure = co_await proxy.attempt();
    }
    if (failure == Reason::kNone || proxy.client_lost_) co_return;
    if (!retried && proxy.may_retry()) {
      retried = true;
      target.state->cells().retries.add();
      proxy.connection_.reset();
      continue;
    }
    proxy.count_failure(failure);
    proxy.lease_.settle(proxy.outcome(failure));
    proxy.connection_.reset();
    break;
  }
  proxy.fail(failure);
}

// A repeated try gets a new connection: the next kept-alive one may be just as dead.
void Proxy::begin_try(TargetLease lease, bool retried) {
  lease_ = std::move(lease);
  UpstreamTarget& target = lease_.target();
  ++exchange_.tries;
  exchange_.set_target(lease_);
  exchange_.times.upstream_started = loop_.now();
  if (!retried) connection_ = target.state->take_idle();
  exchange_.target_reused = connection_ != nullptr;
  answer_begun_ = accepted_bytes_ = reusable_ = unparsed_ = fields_kept_ = false;
  in_.release();
  interims_ = 0;
}

// True where the try met a kept-alive connection that was just dying, and may safely be repeated.
bool Proxy::may_retry() const {
  if (!connection_ || !connection_->reused() || answer_begun_) return false;
  if (piece_lost_ || exchange_.client->head_sent()) return false;
  return !accepted_bytes_ || is_idempotent(exchange_.request.head.method_id);
}

void Proxy::count_failure(Reason why) {
  const UpstreamTarget& target = *exchange_.target;
  GH_LOG(kWarn, "upstream {}, target {}: {} (request {})", upstream_.name, target.address_text,
         reason_info(why).code, exchange_.request_id);
}

// How a try that failed goes down in the target's record.
TryOutcome Proxy::outcome(Reason failure) const {
  TryOutcome outcome;
  outcome.latency = loop_.now() - exchange_.times.upstream_started;
  switch (failure) {
    case Reason::kUpstreamConnectFailed:
    case Reason::kUpstreamConnectTimeout:
      outcome.kind = TryOutcome::Kind::kConnectFailed;
      break;
    case Reason::kUpstreamTimeout:
      outcome.kind = TryOutcome::Kind::kTimeout;
      break;
    case Reason::kUpstreamReset:
      outcome.kind = TryOutcome::Kind::kReset;
      break;
    case Reason::kUpstreamBadResponse:
    case Reason::kUpstreamHeadTooLarge:
      outcome.kind = TryOutcome::Kind::kBadResponse;
      break;
    default:
      break;
  }
  return outcome;
}

Task<Reason> Proxy::connect(UpstreamTarget& target) {
  ConnectStart start = start_connect(target.address);
  if (start.error != 0 && start.error != EINPROGRESS) co_return Reason::kUpstreamConnectFailed;
  connection_ = std::make_unique<UpstreamConnection>(loop_, std::move(start.fd), *target.state);
  const Result<void> opened = stream().open();
  if (!opened) {
    connection_.reset();
    co_return Reason::kUpstreamConnectFailed;
  }
  if (start.error == 0) co_return Reason::kNone;
  const IoResult result = co_await stream().connected(conf_.connect_timeout);
  if (result.ok()) co_return Reason::kNone;
  connection_.reset();
  co_return result.status == IoStatus::kTimeout ? Reason::kUpstreamConnectTimeout
                                                : Reason::kUpstreamConnectFailed;
}

Reason Proxy::send_failed(const IoResult& result) {
  return result.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout : Reason::kUpstreamReset;
}

Task<Reason> Proxy::attempt() {
  {
    const Buffer head = write_request_head(exchange_, request_host());
    const IoResult sent = co_await stream().write(head.view(), conf_.write_timeout);
    accepted_bytes_ = sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return send_failed(sent);
  }
  request_sent_ = true;
  // Mostly one read brings the whole response: it takes no coroutine for the head nor for the body.
  const Moment started = loop_.now();
  in_ = Buffer(BufferClass::kHead);
  const IoResult got = co_await stream().read({in_.tail(), in_.room()}, conf_.response_timeout);
  Reason failure = note_read(got);
  if (failure != Reason::kNone) co_return failure;
  if (take_whole_head()) {
    failure = accept_head();
  } else {
    failure = co_await read_head(conf_.response_timeout, started);
  }
  if (failure != Reason::kNone) co_return failure;
  if (whole_response()) {
    const bool there = co_await send_whole();
    (void)there;  // the session knows; the connection to the target is as good as before
  } else {
    co_await relay();
  }
  settle_connection();
  co_return Reason::kNone;
}

void Proxy::settle_connection() {
  if (!connection_) return;
  if (reusable_) {
    TargetState& state = connection_->state();
    state.give_back(std::move(connection_), conf_);
  } else {
    connection_.reset();
  }
}

// The client has failed: nothing can be said to it any more.
void Proxy::lose_client(Reason why) {
  exchange_.reason = why;
  exchange_.client->abort();
  client_lost_ = true;
}

// The upstream has failed: the client gets an error reply, or, where the response has begun, must
// see that it is not whole.
void Proxy::fail(Reason why) {
  reusable_ = false;
  if (exchange_.client->head_sent()) {
    exchange_.reason = why;
    exchange_.client->abort();
  } else {
    exchange_.refuse(why);
    fields_kept_ = true;
  }
}

Task<void> proxy_action(Exchange& exchange, const void* state) {
  return Proxy::run(exchange, *static_cast<const Upstream*>(state));
}

}  // namespace gatehouse
