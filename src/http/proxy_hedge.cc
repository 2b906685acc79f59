// Hedging: a target that takes long for an answer gets company. See proxy.h.
//
// Both tries wait for the first byte of an answer side by side; whoever has it is read as any other
// answer, while the other one goes on waiting. A good answer ends the other try: its connection is
// closed, for the answer that may still come belongs to nobody, and its lease learns nothing. A bad
// one (no answer at all, or a status that is a failure) makes way for the other try.
#include <algorithm>
#include <chrono>

#include "core/pause.h"
#include "http/h1_writer.h"
#include "http/h2_pool.h"
#include "http/proxy.h"
#include "http/proxy_exchange.h"

namespace gatehouse {
namespace {

Task<void> pause(EventLoop& loop, Duration duration) {
  co_await Pause(loop, duration);
}

}  // namespace

bool Proxy::may_hedge() const {
  const Duration after = policy_->conf->hedge.after;
  const Request& request = exchange_.request;
  return after != Duration::zero() && !extra_->hedged && request.facts.body.empty() &&
         request.facts.upgrade.empty() && is_idempotent(request.head.method_id);
}

Task<Reason> Proxy::wait_for_answer(UpstreamConnection* connection, H2Call* call,
                                    Duration patience) {
  return call != nullptr ? wait_for_call(*call, patience)
                         : wait_for_bytes(connection->stream(), patience);
}

Task<Reason> Proxy::wait_for_bytes(Stream& stream, Duration patience) {
  const IoResult ready = co_await stream.readable(patience);
  if (ready.ok()) co_return Reason::kNone;
  co_return ready.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout : Reason::kUpstreamReset;
}

Task<Reason> Proxy::ask(HedgedTry& other) {
  UpstreamTarget& target = other.lease.target();
  other.connection = target.state->take_idle(proxy_header_);
  if (other.connection == nullptr && may_share(target)) {
    other.call = target.state->h2().reserve(exchange_.arena);
  }
  other.reused = other.connection != nullptr || (other.call != nullptr && other.call->reused());
  if (other.call == nullptr && other.connection == nullptr) {
    Task<Reason> reaching = target.transport != nullptr
                                ? reach(target, other.connection, other.call)
                                : connect(target, other.connection);
    const Reason failure = co_await reaching;
    if (failure != Reason::kNone) co_return failure;
  }
  const std::string_view host = exchange_.request.authority.text.empty()
                                    ? std::string_view(target.host)
                                    : exchange_.request.authority.text;
  if (other.call != nullptr) {
    if (!open_call(target, *other.call, host)) co_return Reason::kUpstreamRefused;
  } else {
    const Buffer head = write_request_head(exchange_, host);
    const IoResult sent =
        co_await other.connection->stream().write(head.view(), conf_.write_timeout);
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return send_failed(sent);
  }
  const Reason failure = co_await wait_for_answer(other.connection.get(), other.call.get(),
                                                  answer_patience(other.started));
  co_return failure;
}

Task<Reason> Proxy::race() {
  extra_->hedged = true;
  Task<Reason> first =
      wait_for_answer(connection_.get(), call_.get(), answer_patience(loop_.now()));
  first.start();
  Task<void> patience = pause(loop_, policy_->conf->hedge.after);
  patience.start();
  if (!first.done() && !patience.done()) co_await any_done(first, patience);
  if (first.done()) co_return first.take();

  choices_.mark_tried(lease_);
  Choice choice = choose_target(upstream_, choices_);
  if (choice.lease && policy_->budget.take(policy_->conf->retry.budget_min, loop_.now())) {
    extra_->other = std::make_unique<HedgedTry>();
    extra_->other->lease = std::move(choice.lease);
    extra_->other->started = loop_.now();
    ++exchange_.tries;
    extra_->other->lease.target().cells->hedges.add();
    extra_->other->asking = ask(*extra_->other);
    extra_->other->asking.start();
    if (!first.done() && !extra_->other->asking.done())
      co_await any_done(first, extra_->other->asking);
    if (!first.done()) {
      const Reason failure = extra_->other->asking.take();
      if (failure == Reason::kNone) {
        extra_->other->asking = std::move(first);
        change_places();
        co_return Reason::kNone;
      }
      TryOutcome ended = outcome(failure);
      ended.latency = loop_.now() - extra_->other->started;
      extra_->other->lease.settle(ended);
      extra_->other.reset();
    }
  }
  if (!first.done()) co_await done(first);
  co_return first.take();
}

void Proxy::change_places() {
  std::swap(lease_, extra_->other->lease);
  std::swap(connection_, extra_->other->connection);
  std::swap(call_, extra_->other->call);
  std::swap(exchange_.target_reused, extra_->other->reused);
  std::swap(exchange_.times.upstream_started, extra_->other->started);
  exchange_.set_target(lease_);
}

Task<Reason> Proxy::try_other(Reason failure) {
  if (failure != Reason::kNone) {
    count_failure(failure);
    lease_.settle(outcome(failure));
  }
  extra_->again = false;
  drop_connection();
  in_.release();
  answer_begun_ = reusable_ = unparsed_ = fields_kept_ = false;
  interims_ = 0;
  if (!extra_->other->asking.done()) co_await done(extra_->other->asking);
  failure = extra_->other->asking.take();
  change_places();
  extra_->other.reset();
  if (failure != Reason::kNone) co_return failure;
  if (call_ != nullptr) {
    failure = co_await take_call_answer(answer_patience(loop_.now()), loop_.now());
  } else {
    failure = co_await attempt();
  }
  co_return failure;
}

}  // namespace gatehouse
