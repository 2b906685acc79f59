// Waiting for a time in a coroutine: `co_await Pause(loop, duration);`. Cancelled by destruction,
// as every wait is.
#pragma once

#include <coroutine>

#include "core/event_loop.h"
#include "core/units.h"

namespace gatehouse {

class Pause {
 public:
  Pause(EventLoop& loop, Duration duration) : loop_(loop), duration_(duration) {}
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

  bool await_ready() const { return duration_ <= Duration::zero(); }
  void await_suspend(std::coroutine_handle<> awaiting) {
    awaiting_ = awaiting;
    loop_.arm(timer_, duration_);
  }
  void await_resume() const {}

 private:
  static void on_timer(void* self) { static_cast<Pause*>(self)->awaiting_.resume(); }

  EventLoop& loop_;
  Duration duration_;
  std::coroutine_handle<> awaiting_;
  Timer timer_{&Pause::on_timer, this};
};

}  // namespace gatehouse
