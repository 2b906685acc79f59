// Proxying one exchange to an upstream: choosing, connecting, trying again, and the plain case of a
// request without a body. See proxy.h.
#include "http/proxy.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/log.h"
#include "core/pause.h"
#include "http/connect_target.h"
#include "http/h1_writer.h"
#include "http/h2_pool.h"
#include "http/proxy_exchange.h"
#include "http/proxy_protocol_out.h"
#include "http/target_queue.h"

namespace gatehouse {

namespace {

// Before a target is tried again that has just failed.
constexpr Duration kPauseBeforeRetry = std::chrono::milliseconds(25);

}  // namespace

Task<void> Proxy::run(Exchange& exchange, const Upstream& upstream) {
  Proxy proxy(exchange, upstream);
  bool retried = false;  // over another connection, once
  Reason failure = Reason::kNone;
  const bool has_body = !exchange.request.facts.body.empty();
  if (proxy.extra_) [[unlikely]]
    failure = proxy.enter();
  while (failure == Reason::kNone || proxy.tried_) {
    if (proxy.extra_ && proxy.extra_->next) [[unlikely]] {
      if (std::exchange(proxy.extra_->pause, false)) {
        co_await Pause(proxy.loop_, kPauseBeforeRetry);
      }
      proxy.begin_try(std::move(proxy.extra_->next), retried);
    } else {
      Choice choice = choose_target(upstream, proxy.choices_);
      if (choice.busy) [[unlikely]] {
        TargetWait wait(upstream, proxy.choices_);
        choice = co_await wait;
      }
      if (!choice.lease) {
        if (!proxy.tried_) failure = choice.why;
        break;
      }
      proxy.begin_try(std::move(choice.lease), retried);
    }
    UpstreamTarget& target = proxy.lease_.target();
    if (proxy.connection_ == nullptr && proxy.call_ == nullptr) {
      if (target.transport == nullptr) [[likely]] {
        failure = co_await proxy.connect(target, proxy.connection_);
      } else {
        failure = co_await proxy.reach(target, proxy.connection_, proxy.call_);
      }
      if (failure != Reason::kNone) {
        proxy.count_failure(failure);
        if (proxy.may_connect_elsewhere(failure)) continue;
        break;
      }
    }
    exchange.times.upstream_connected = proxy.loop_.now();
    if (has_body) {
      failure = co_await proxy.attempt_with_body();
    } else if (proxy.call_ != nullptr) {
      failure = co_await proxy.attempt_call();
    } else {
      failure = co_await proxy.attempt();
    }
    if (proxy.extra_ && proxy.extra_->other != nullptr) [[unlikely]] {
      if (!proxy.client_lost_ && (failure != Reason::kNone || proxy.extra_->again)) {
        failure = co_await proxy.try_other(failure);
      }
    }
    if (proxy.client_lost_) co_return;
    if (failure == Reason::kNone) {
      if (!proxy.extra_ || !std::exchange(proxy.extra_->again, false)) co_return;
      retried = false;
      continue;
    }
    const bool refused = proxy.call_was_refused();
    if (refused || (!retried && proxy.met_dying_connection())) {
      if (refused) ++proxy.refusals_;
      retried = retried || !refused;
      target.state->cells().retries.add();
      proxy.drop_connection();
      proxy.lease_.end();
      continue;
    }
    proxy.count_failure(failure);
    const TryOutcome ended = proxy.outcome(failure);
    proxy.lease_.settle(ended);
    const bool again = proxy.extra_ && proxy.plan_retry(ended);
    proxy.drop_connection();
    if (!again) break;
    retried = false;
  }
  if (proxy.extra_) [[unlikely]] {
    proxy.extra_->pass.leave(proxy.outcome(failure), proxy.loop_.now());
    if (proxy.use_fallback(failure)) co_return;
    if (proxy.extra_->fallback != nullptr) {
      // From here on nothing of this upstream is used.
      proxy.extra_->pass.end();
      proxy.lease_.end();
      co_await Proxy::run(exchange, *proxy.extra_->fallback);
      proxy.fields_kept_ = true;
      co_return;
    }
  }
  proxy.fail(failure);
}

// A repeated try gets a new connection: the next kept-alive one may be just as dead.
void Proxy::begin_try(TargetLease&& lease, bool retried) {
  lease_ = std::move(lease);
  UpstreamTarget& target = lease_.target();
  ++exchange_.tries;
  if (conf_.proxy_protocol != ProxyProtocolOut::kOff && proxy_header_.empty()) [[unlikely]]
    proxy_header_ = proxy_header_for(exchange_, conf_.proxy_protocol);
  tried_ = true;
  exchange_.set_target(lease_);
  exchange_.times.upstream_started = loop_.now();
  drop_connection();
  if (!retried) connection_ = target.state->take_idle(proxy_header_);
  // What is left of a connection that was dying has no room.
  if (connection_ == nullptr && may_share(target)) {
    call_ = target.state->h2().reserve(exchange_.arena);
  }
  exchange_.target_reused = connection_ != nullptr || (call_ != nullptr && call_->reused());
  answer_begun_ = accepted_bytes_ = reusable_ = unparsed_ = fields_kept_ = request_sent_ = false;
  in_.release();
  interims_ = 0;
}

// True where the try met a kept-alive connection that was just dying, and may safely be repeated.
bool Proxy::met_dying_connection() const {
  if (answer_begun_) return false;
  if (call_ != nullptr) {
    return call_->reused() && call_->end() == H2Transfer::End::kReset && repeatable(false);
  }
  return connection_ && connection_->reused() && repeatable(!accepted_bytes_);
}

bool Proxy::may_connect_elsewhere(Reason failure) {
  const TryOutcome ended = outcome(failure);
  lease_.settle(ended);
  choices_.mark_tried(lease_);
  if (++connects_failed_ < conf_.connect_tries) {
    if (!extra_) return true;  // the next choice finds one, or none
    Choice choice = choose_target(upstream_, choices_);
    if (choice.lease) {
      extra_->next = std::move(choice.lease);
      return true;
    }
  }
  return extra_ && plan_retry(ended);
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
    case Reason::kUpstreamTlsFailed:
    case Reason::kUpstreamRefused:
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

Duration Proxy::connect_patience() const {
  if (policy_ == nullptr || policy_->conf->try_timeout == Duration::zero()) {
    return conf_.connect_timeout;
  }
  return std::min(conf_.connect_timeout, answer_patience(loop_.now()));
}

Task<Reason> Proxy::connect(UpstreamTarget& target,
                            std::unique_ptr<UpstreamConnection>& connection) {
  return connect_target(loop_, *target.state, target.address, connect_patience(), proxy_header_,
                        nullptr, connection);
}

Reason Proxy::send_failed(const IoResult& result) {
  return result.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout : Reason::kUpstreamReset;
}

Task<Reason> Proxy::attempt() {
  if (!request_sent_) {
    const Buffer head = write_request_head(exchange_, request_host());
    const IoResult sent = co_await stream().write(head.view(), conf_.write_timeout);
    accepted_bytes_ = sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return send_failed(sent);
  }
  request_sent_ = true;
  const Moment started = loop_.now();
  Duration patience = conf_.response_timeout;
  if (policy_ != nullptr) [[unlikely]] {
    if (may_hedge()) {
      const Reason lost = co_await race();
      if (lost != Reason::kNone) co_return lost;
      if (call_ != nullptr) {
        const Reason failure = co_await take_call_answer(answer_patience(started), started);
        co_return failure;
      }
    }
    patience = answer_patience(started);
  }
  // Mostly one read brings the whole response: it takes no coroutine for the head nor for the body.
  in_ = Buffer(BufferClass::kHead);
  const IoResult got = co_await stream().read({in_.tail(), in_.room()}, patience);
  Reason failure = note_read(got);
  if (failure != Reason::kNone) co_return failure;
  if (take_whole_head()) {
    failure = accept_head();
  } else {
    failure = co_await read_head(patience, started);
  }
  if (failure != Reason::kNone) co_return failure;
  if (policy_ != nullptr && is_to_be_dropped()) [[unlikely]] {
    drop_answer();
    co_return Reason::kNone;
  }
  if (whole_response()) {
    const bool there = co_await send_whole();
    (void)there;  // the session knows; the connection to the target is as good as before
  } else {
    co_await relay();
  }
  settle_connection();
  co_return Reason::kNone;
}

void Proxy::drop_connection() {
  connection_.reset();
  call_.reset();
}

void Proxy::settle_connection() {
  call_.reset();
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

Task<void> Proxy::give_up(Reason why) {
  if (!exchange_.client->head_sent()) {
    fail(why);
    co_return;
  }
  reusable_ = false;
  exchange_.reason = why;
  (void)co_await exchange_.client->send_failure(why);
}

Task<void> proxy_action(Exchange& exchange, const void* state) {
  return Proxy::run(exchange, *static_cast<const Upstream*>(state));
}

}  // namespace gatehouse
