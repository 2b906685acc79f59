// See target_queue.h.
#include "http/target_queue.h"

#include <cassert>
#include <chrono>

#include "core/traffic_table.h"
#include "http/upstream.h"
#include "http/upstream_state.h"

namespace gatehouse {

namespace {

// How often a queue looks whether another worker has left a place.
constexpr Duration kLookEvery = std::chrono::milliseconds(5);

}  // namespace

TargetWait::~TargetWait() {
  leave();
}

void TargetWait::await_suspend(std::coroutine_handle<> awaiting) {
  awaiting_ = awaiting;
  UpstreamState& state = *upstream_.state;
  state.queue().join(*this);
  state.loop().arm(timeout_, upstream_.conf->queue_timeout);
}

void TargetWait::leave() {
  if (queue_ != nullptr) queue_->remove(*this);
}

void TargetWait::on_timeout(void* self) {
  auto* wait = static_cast<TargetWait*>(self);
  wait->leave();
  wait->choice_.why = Reason::kQueueTimeout;
  wait->resume();
}

TargetQueue::~TargetQueue() {
  assert(first_ == nullptr);
}

void TargetQueue::join(TargetWait& wait) {
  wait.queue_ = this;
  wait.ahead_ = last_;
  (last_ != nullptr ? last_->behind_ : first_) = &wait;
  last_ = &wait;
  ++size_;
  if (cell_ != nullptr) cell_->waiting.store(size_, std::memory_order_relaxed);
  if (!look_.armed()) loop_.arm(look_, kLookEvery);
}

void TargetQueue::remove(TargetWait& wait) {
  (wait.ahead_ != nullptr ? wait.ahead_->behind_ : first_) = wait.behind_;
  (wait.behind_ != nullptr ? wait.behind_->ahead_ : last_) = wait.ahead_;
  wait.ahead_ = wait.behind_ = nullptr;
  wait.queue_ = nullptr;
  --size_;
  if (cell_ != nullptr) cell_->waiting.store(size_, std::memory_order_relaxed);
}

// Whoever is resumed may end others that wait, or wait again, behind all of them.
void TargetQueue::serve(void* self) {
  auto* queue = static_cast<TargetQueue*>(self);
  while (TargetWait* const wait = queue->first_) {
    Choice choice = choose_waiting(wait->upstream_, wait->context_);
    if (!choice.lease && choice.busy) break;
    queue->remove(*wait);
    wait->timeout_.cancel();
    wait->choice_ = std::move(choice);
    wait->resume();
  }
}

void TargetQueue::look(void* self) {
  auto* queue = static_cast<TargetQueue*>(self);
  if (queue->first_ == nullptr) return;
  queue->loop_.arm(queue->look_, kLookEvery);
  queue->wake();
}

}  // namespace gatehouse
