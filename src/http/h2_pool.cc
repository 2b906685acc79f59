// See h2_pool.h.
#include "http/h2_pool.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "http/connect_target.h"
#include "http/upstream_connection.h"

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

void H2Pool::want(const SocketAddress& address,
                  const std::shared_ptr<const TargetTransport>& settings) {
  if (dialling_ || dialled_) return;
  for (const auto& connection : connections_) {
    if (connection->is_warming()) return;
  }
  dialling_ = dial(address, settings);
  dialling_.start();
}

// Whoever waits is told when this is over, and its frame with it.
Task<void> H2Pool::dial(SocketAddress address, std::shared_ptr<const TargetTransport> settings) {
  std::unique_ptr<UpstreamConnection> transport;
  dial_failure_ =
      co_await connect_target(loop_, state_, address, settings->connect_timeout, transport);
  if (dial_failure_ == Reason::kNone) {
    connections_.push_back(
        std::make_unique<H2Connection>(*this, std::move(transport), std::move(settings)));
    connections_.back()->start();
  }
  dialled_ = true;
  if (!wake_.scheduled()) loop_.defer(wake_);
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
  pool_.want(address_, settings_);
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
