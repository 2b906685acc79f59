// TargetQueue: exchanges that wait in this worker until a target of their upstream has room.
//
// First come, first served. A place that one of this worker's own tries leaves is given on at the
// end of the turn; a place that another worker leaves is noticed by looking every few milliseconds,
// for as long as anybody waits. Whoever comes while others wait waits behind them. An exchange that
// is cancelled leaves the queue at once, from wherever it stands.
//
//   TargetWait wait(upstream, context);
//   choice = co_await wait;
#pragma once

#include <coroutine>
#include <cstdint>

#include "core/event_loop.h"
#include "http/target_choice.h"

namespace gatehouse {

struct TrafficCell;
class TargetQueue;

// One that waits. Awaiting it gives a lease, or why there is none: kQueueTimeout, or what
// choose_target() says that can change no more by waiting.
class TargetWait {
 public:
  // REQUIRES: choose_target() has just said busy.
  TargetWait(const Upstream& upstream, ChoiceContext& context)
      : upstream_(upstream), context_(context) {}
  ~TargetWait();
  TargetWait(const TargetWait&) = delete;
  TargetWait& operator=(const TargetWait&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> awaiting);
  Choice await_resume() { return std::move(choice_); }

 private:
  friend class TargetQueue;
  static void on_timeout(void* self);
  void leave();
  void resume() { awaiting_.resume(); }

  const Upstream& upstream_;
  ChoiceContext& context_;
  TargetQueue* queue_ = nullptr;  // while it stands in it
  TargetWait* ahead_ = nullptr;
  TargetWait* behind_ = nullptr;
  std::coroutine_handle<> awaiting_;
  Choice choice_;
  Timer timeout_{&TargetWait::on_timeout, this};
};

class TargetQueue {
 public:
  explicit TargetQueue(EventLoop& loop) : loop_(loop) {}
  ~TargetQueue();
  TargetQueue(const TargetQueue&) = delete;
  TargetQueue& operator=(const TargetQueue&) = delete;

  bool empty() const { return first_ == nullptr; }
  uint32_t size() const { return size_; }
  // Where others see how many wait; null: nowhere.
  void set_cell(TrafficCell* cell) { cell_ = cell; }
  // A place may have become free.
  void wake() {
    if (first_ != nullptr) loop_.defer(serve_);
  }

 private:
  friend class TargetWait;
  static void serve(void* self);
  static void look(void* self);
  void join(TargetWait& wait);
  void remove(TargetWait& wait);

  EventLoop& loop_;
  TrafficCell* cell_ = nullptr;
  TargetWait* first_ = nullptr;
  TargetWait* last_ = nullptr;
  uint32_t size_ = 0;
  Deferred serve_{&TargetQueue::serve, this};
  Timer look_{&TargetQueue::look, this};
};

}  // namespace gatehouse
