// See h2_pool.h.
#include "http/h2_pool.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/log.h"
#include "http/connect_target.h"
#include "http/target_set.h"
#include "http/upstream_connection.h"
#include "http/upstream_tls.h"

namespace gatehouse {

H2Pool::~H2Pool() {
  assert(first_ == nullptr);
}

std::unique_ptr<H2Call> H2Pool::reserve(Arena& arena) {
  for (const auto& connection : connections_) {
    if (connection->has_room()) return std::make_unique<H2Call>(*connection, arena);
  }
  return nullptr;
}

void H2Pool::retire() {
  for (const auto& connection : connections_) connection->retire();
}

// ---- Making one ----

void H2Pool::want(const UpstreamTarget& target, const CertificateHolder& certificates) {
  if (dialling_ || dialled_) return;
  for (const auto& connection : connections_) {
    if (connection->is_warming()) return;
  }
  // The generation is needed for this, and may be gone before the connection is made.
  std::unique_ptr<TlsLayer> tls;
  if (target.transport->tls != nullptr) {
    Result<std::unique_ptr<TlsLayer>> made = make_tls_layer(target, certificates, false);
    if (!made) {
      GH_LOG(kError, "target {}: {}", state_.key(), made.error().message);
      dial_failure_ = Reason::kUpstreamTlsFailed;
      dialled_ = true;
      wake();
      return;
    }
    tls = std::move(*made);
  }
  dialling_ = dial(target.address, target.transport, std::move(tls));
  dialling_.start();
}

// Whoever waits is told when this is over, and its frame with it.
Task<void> H2Pool::dial(SocketAddress address, std::shared_ptr<const TargetTransport> settings,
                        std::unique_ptr<TlsLayer> tls) {
  const bool asks = tls != nullptr;
  std::unique_ptr<UpstreamConnection> transport;
  Task<Reason> connecting = connect_target(loop_, state_, address, settings->connect_timeout, {},
                                           std::move(tls), transport);
  dial_failure_ = co_await connecting;
  if (dial_failure_ == Reason::kNone) {
    if (!asks || chose_h2(*transport)) {
      start(std::move(transport), std::move(settings));
    } else if (settings->may_speak_http1()) {
      prefers_http1_ = true;
      http1_ = std::move(transport);
    } else {
      GH_LOG(kWarn, "target {}: it does not speak HTTP/2", state_.key());
      dial_failure_ = Reason::kUpstreamTlsFailed;
    }
  }
  dialled_ = true;
  if (!wake_.scheduled()) loop_.defer(wake_);
}

void H2Pool::start(std::unique_ptr<UpstreamConnection> transport,
                   std::shared_ptr<const TargetTransport> settings) {
  prefers_http1_ = false;
  connections_.push_back(
      std::make_unique<H2Connection>(*this, std::move(transport), std::move(settings)));
  connections_.back()->start();
}

std::unique_ptr<H2Call> H2Pool::adopt(std::unique_ptr<UpstreamConnection> transport,
                                      std::shared_ptr<const TargetTransport> settings,
                                      Arena& arena) {
  start(std::move(transport), std::move(settings));
  return reserve(arena);
}

void H2Pool::wake() {
  if ((first_ != nullptr || dialled_) && !wake_.scheduled()) loop_.defer(wake_);
}

void H2Pool::on_wake(void* self) {
  auto* pool = static_cast<H2Pool*>(self);
  Reason why = Reason::kNone;
  if (std::exchange(pool->dialled_, false)) {
    pool->dialling_.cancel();
    why = std::exchange(pool->dial_failure_, Reason::kNone);
    // Where nobody is left who wanted it, it is closed.
    std::unique_ptr<UpstreamConnection> made = std::move(pool->http1_);
    if (pool->first_ != nullptr) pool->first_->connection_ = std::move(made);
  }
  pool->finish_all(why);
}

// Those that wait at this moment. Some will wait again.
void H2Pool::finish_all(Reason why) {
  const uint64_t turn = ++turn_;
  while (first_ != nullptr && first_->since_ != turn) first_->finish(why);
}

void H2Pool::bury(bool failed) {
  lost_new_ = lost_new_ || failed;
  if (!bury_.scheduled()) loop_.defer(bury_);
}

void H2Pool::on_bury(void* self) {
  auto* pool = static_cast<H2Pool*>(self);
  std::erase_if(pool->connections_, [](const auto& connection) { return connection->is_dead(); });
  const bool failed = std::exchange(pool->lost_new_, false);
  // Where another one is being made, that one decides.
  if (pool->first_ == nullptr || pool->dialling_) return;
  pool->finish_all(failed ? Reason::kUpstreamConnectFailed : Reason::kNone);
}

// ---- Waiting ----

void H2Pool::Wait::await_suspend(std::coroutine_handle<> awaiting) {
  awaiting_ = awaiting;
  waiting_ = true;
  since_ = pool_.turn_;
  previous_ = pool_.last_;
  (previous_ != nullptr ? previous_->next_ : pool_.first_) = this;
  pool_.last_ = this;
  pool_.loop_.arm(timer_, timeout_);
  pool_.want(target_, certificates_);
}

void H2Pool::Wait::leave() {
  if (!std::exchange(waiting_, false)) return;
  (previous_ != nullptr ? previous_->next_ : pool_.first_) = next_;
  (next_ != nullptr ? next_->previous_ : pool_.last_) = previous_;
  next_ = previous_ = nullptr;
}

void H2Pool::Wait::finish(Reason why) {
  leave();
  timer_.cancel();
  why_ = why;
  awaiting_.resume();
}

void H2Pool::Wait::on_timeout(void* self) {
  static_cast<Wait*>(self)->finish(Reason::kUpstreamConnectTimeout);
}

}  // namespace gatehouse
