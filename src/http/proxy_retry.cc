// What follows a try that failed, where the upstream has a policy for it: another try within the
// budget, or the fallback. See proxy.h.
#include <algorithm>
#include <chrono>

#include "http/h1_writer.h"
#include "http/proxy.h"
#include "http/proxy_exchange.h"

namespace gatehouse {
namespace {

// Nothing was sent for these: a fallback can do what would have been done.
bool nothing_was_sent(Reason why) {
  switch (why) {
    case Reason::kNoTarget:
    case Reason::kCircuitOpen:
    case Reason::kTargetsBusy:
    case Reason::kQueueTimeout:
    case Reason::kOverloadUpstream:
    case Reason::kUpstreamConnectFailed:
    case Reason::kUpstreamConnectTimeout:
    case Reason::kUpstreamTlsFailed:
    case Reason::kUpstreamRefused:
      return true;
    default:
      return false;
  }
}

}  // namespace

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

Reason Proxy::enter() {
  policy_->budget.note_request(policy_->conf->retry.budget.hundredths);
  if (policy_->cells.table == nullptr) return Reason::kNone;
  return extra_->pass.enter(*policy_, loop_.now());
}

// `from`: when the wait begins. A try's time includes connecting.
Duration Proxy::answer_patience(Moment from) const {
  if (policy_ == nullptr || policy_->conf->try_timeout == Duration::zero()) {
    return conf_.response_timeout;
  }
  const auto passed = std::chrono::duration_cast<Duration>(from - exchange_.times.upstream_started);
  return std::clamp(policy_->conf->try_timeout - passed, Duration(1), conf_.response_timeout);
}

bool Proxy::repeatable(bool nothing_sent) const {
  if (piece_lost_ || exchange_.client->head_sent()) return false;
  return nothing_sent || is_idempotent(exchange_.request.head.method_id) ||
         (policy_ != nullptr && policy_->conf->retry.non_idempotent);
}

bool Proxy::plan_retry(const TryOutcome& ended) {
  const RetryConf& retry = policy_->conf->retry;
  if (extra_->retries >= retry.times || !is_failure(retry.on, ended)) return false;
  if (!repeatable(ended.kind == TryOutcome::Kind::kConnectFailed)) return false;
  choices_.mark_tried(lease_);
  Choice choice = choose_target(upstream_, choices_);
  const bool same_again = !choice.lease;
  if (same_again) {
    choices_.forget_tried();
    choice = choose_target(upstream_, choices_);
  }
  if (!choice.lease) return false;
  if (!policy_->budget.take(retry.budget_min, loop_.now())) return false;
  extra_->next = std::move(choice.lease);
  extra_->pause = same_again;
  ++extra_->retries;
  lease_.target().cells->retries.add();
  return true;
}

bool Proxy::is_to_be_dropped() {
  const bool other_tries = policy_->conf->retry.times != 0 || extra_->other != nullptr;
  if (!other_tries && policy_->cells.table == nullptr) return false;
  const TryOutcome ended{TryOutcome::Kind::kAnswered, head_.status,
                         exchange_.times.upstream_head - exchange_.times.upstream_started};
  const bool other_may_be_better =
      extra_->other != nullptr &&
      (head_.status >= 500 || is_failure(policy_->conf->retry.on, ended));
  if (!other_may_be_better && !plan_retry(ended)) {
    extra_->other.reset();
    extra_->pass.leave(ended, loop_.now());
    return false;
  }
  extra_->again = true;
  return true;
}

void Proxy::drop_answer() {
  // A whole answer leaves the connection as good as before.
  reusable_ = request_sent_ && facts_.keep_alive && whole_response() &&
              in_.size() == static_cast<size_t>(facts_.body.length);
  exchange_.response.fields.clear();
  exchange_.response.status = 0;
  exchange_.response.phrase = {};
  exchange_.times.upstream_head = {};
  in_.release();
  settle_connection();
}

// The piece at hand is about to make place for the next one.
void Proxy::keep_piece() {
  if (!piece_at_hand_) return;
  piece_at_hand_ = false;
  if (piece_lost_) return;
  if (extra_ && policy_->conf->retry.times != 0) {
    const uint64_t most = policy_->conf->retry_body_max.count;
    if (extra_->kept.size() + piece_.bytes.size() <= most) {
      extra_->kept.append(piece_.bytes);
      return;
    }
    extra_->kept = std::string();
  }
  piece_lost_ = true;
}

bool Proxy::use_fallback(Reason why) {
  const FallbackConf& fallback = policy_->conf->fallback;
  if (!fallback.any() || !nothing_was_sent(why)) return false;
  if (pieces_ != 0 || exchange_.client->head_sent()) return false;
  if (policy_->fallback != nullptr) {
    extra_->fallback = policy_->fallback;
    return false;
  }
  exchange_.reason = why;
  const std::string_view text =
      fallback.text.empty() ? status_phrase(fallback.status) : std::string_view(fallback.text);
  exchange_.answer(fallback.status, "text/plain; charset=utf-8", text);
  if (fallback.status == 503) exchange_.response.fields.push("Retry-After", "1");
  fields_kept_ = true;
  return true;
}

}  // namespace gatehouse
