// Running an exchange; see exchange_run.h.
#include "http/exchange_run.h"

#include <span>
#include <utility>

#include "http/exchange_counters.h"
#include "http/generation.h"
#include "http/grpc.h"
#include "http/route.h"
#include "http/router.h"
#include "http/worker.h"

namespace gatehouse {

void ExchangeRun::begin(const ClientConnection& connection, ClientSide& client, Moment started) {
  const AcceptorState& acceptor = *connection.acceptor();
  exchange.runner = this;
  exchange.worker = &connection.worker();
  exchange.connection = &connection;
  exchange.generation = acceptor.generation;
  exchange.generation->hold();
  exchange.listener = acceptor.listener;
  exchange.route = acceptor.listener->fallback.get();
  exchange.client = &client;
  exchange.peer = exchange.client_address = connection.source;
  exchange.peer_port = connection.source_port;
  exchange.times.started = started;
  exchange.client_https = connection.stream().tls() != nullptr ||
                          (connection.proxy != nullptr && connection.proxy->tls.used);
  active = finished = cancelled = false;
}

bool ExchangeRun::decide(Reason refusal) {
  bool answered = false;
  // Refused requests are identified too: their replies and log lines name the client and the id.
  for (const Hook& hook : exchange.listener->identify) {
    const Verdict verdict = hook.function(exchange, hook.state);
    if (verdict == Verdict::kAnswered) answered = true;
  }
  if (refusal != Reason::kNone) {
    exchange.refuse(refusal);
    answered = true;
  }
  if (!answered) answered = is_too_early();
  if (!answered) answered = !route();
  active = true;
  exchange.route->cells->requests_active.add(1);
  if (!answered) answered = run_hooks();
  return answered;
}

// RFC 8470: whoever has recorded early data can send it again. What asks for nothing but an answer
// may pass, and the upstream is told; the rest is to come again after the handshake.
bool ExchangeRun::is_too_early() {
  const TlsLayer* tls = exchange.connection->stream().tls();
  if (tls == nullptr || tls->handshake_done()) return false;
  exchange.early_data = true;
  switch (exchange.request.head.method_id) {
    case Method::kGet:
    case Method::kHead:
    case Method::kOptions:
    case Method::kTrace:
      break;
    default:
      exchange.refuse(Reason::kTooEarly);
      return true;
  }
  for (Field& field : exchange.request.fields) {
    if (equal_ignoring_case(field.name, "Early-Data")) field.dropped = true;
  }
  exchange.request.added.push("Early-Data", "1");
  return false;
}

// False where the exchange has been answered already.
bool ExchangeRun::route() {
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
bool ExchangeRun::run_hooks() {
  for (const Hook& hook : exchange.route->before) {
    const Verdict verdict = hook.function(exchange, hook.state);
    if (verdict == Verdict::kAnswered) return true;
  }
  return false;
}

bool ExchangeRun::is_instant() const {
  return exchange.route->action.instant != nullptr;
}

void ExchangeRun::instant_action() {
  const Action& action = exchange.route->action;
  action.instant(exchange, action.state);
}

ExchangeRun::ActionAwaiter ExchangeRun::act() {
  const Action& action = exchange.route->action;
  action_ = action.function(exchange, action.state);
  return ActionAwaiter(*this);
}

void ExchangeRun::cancel_action(Reason why) {
  if (!waiter_) return;
  cancelled = true;
  exchange.reason = why;
  if (!exchange.client->head_sent()) exchange.response.status = reason_info(why).status;
  action_.cancel();
  std::exchange(waiter_, nullptr).resume();
}

void ExchangeRun::replace_action(Reason why) {
  action_.cancel();
  exchange.refuse(why);
  std::exchange(waiter_, nullptr).resume();
}

void ExchangeRun::replace_action(Task<bool> ending) {
  action_.cancel();
  ending_ = std::move(ending);
  ending_.set_continuation(std::exchange(waiter_, nullptr));
  ending_.start();
}

void ExchangeRun::begin_tunnel() {
  const Generation* generation = exchange.generation;
  tunnel = detach_from_generation(exchange);
  generation->release();
}

void ExchangeRun::finish() {
  exchange.times.finished = exchange.worker->loop().now();
  if (active) exchange.route->cells->requests_active.add(-1);
  finished = true;
  exchange.request.wire_bytes += exchange.request.body_bytes;
  if (exchange.grpc_status == kGrpcStatusPending) [[unlikely]]
    conclude_call();
  count_exchange(exchange);
  std::span<const Hook> hooks = exchange.route->log;
  if (tunnel != nullptr) hooks = exchange.worker->generation().log_hooks(exchange.route->name);
  for (const Hook& hook : hooks) (void)hook.function(exchange, hook.state);
}

// A call that ended without a status: the client left, or the upstream never told one.
void ExchangeRun::conclude_call() {
  GrpcStatus status = grpc_status_for(exchange.reason);
  if (exchange.reason == Reason::kNone) status = grpc_status_for_http(exchange.response.status);
  exchange.grpc_status = static_cast<int8_t>(status);
}

void ExchangeRun::end() {
  action_.cancel();
  ending_.cancel();
  const Generation* generation = exchange.generation;
  exchange.reset();
  tunnel.reset();
  if (generation != nullptr) generation->release();
}

}  // namespace gatehouse
