// The event loop over libevent; see event_loop.h.
#include "core/event_loop.h"

#include <event2/event.h>
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "core/clock.h"
#include "core/log.h"

namespace gatehouse {

namespace {

// libevent's own complaints belong into the error log, not on standard error.
void log_libevent(int severity, const char* message) {
  switch (severity) {
    case EVENT_LOG_DEBUG:
      break;
    case EVENT_LOG_MSG:
      GH_LOG(kInfo, "libevent: {}", message);
      break;
    case EVENT_LOG_WARN:
      GH_LOG(kWarn, "libevent: {}", message);
      break;
    default:
      GH_LOG(kError, "libevent: {}", message);
      break;
  }
}

}  // namespace

Result<void> Watch::open(EventLoop& loop, int fd, WatchMode mode, Callback callback, void* owner) {
  close();
  callback_ = callback;
  owner_ = owner;
  const short what = mode == WatchMode::kEdge
                         ? static_cast<short>(EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST)
                         : static_cast<short>(EV_READ | EV_PERSIST);
  errno = 0;
  if (event_assign(&event_, loop.base_, fd, what, &Watch::dispatch, this) != 0 ||
      event_add(&event_, nullptr) != 0) {
    return errno_error("cannot watch a descriptor", errno != 0 ? errno : ENOMEM);
  }
  open_ = true;
  return {};
}

void Watch::close() {
  if (!open_) return;
  open_ = false;
  event_del_noblock(&event_);
}

void Watch::dispatch(int, short what, void* self) {
  auto* watch = static_cast<Watch*>(self);
  uint8_t ready = 0;
  if ((what & EV_READ) != 0) ready |= kIoReadable;
  if ((what & EV_WRITE) != 0) ready |= kIoWritable;
  if ((what & EV_CLOSED) != 0) ready |= kIoPeerClosed;
  watch->callback_(watch->owner_, ready);
}

void Deferred::cancel() {
  if (next_ == nullptr) return;
  next_->previous_ = previous_;
  previous_->next_ = next_;
  next_ = previous_ = nullptr;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  event_set_log_callback(&log_libevent);
  event_config* config = event_config_new();
  if (config == nullptr) return Error{"out of memory"};
  event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
  event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
  event_base* base = event_base_new_with_config(config);
  event_config_free(config);
  if (base == nullptr) return Error{"cannot create an event loop: epoll is not available"};
  return std::unique_ptr<EventLoop>(new EventLoop(base));
}

EventLoop::EventLoop(event_base* base)
    : base_(base), now_{clock_us(CLOCK_MONOTONIC)}, wheel_(now_) {
  deferred_.next_ = deferred_.previous_ = &deferred_;
  event_assign(&wake_event_, base_, -1, 0, &EventLoop::on_wake, this);
}

EventLoop::~EventLoop() {
  while (deferred_.next_ != &deferred_) deferred_.next_->cancel();
  deferred_.next_ = deferred_.previous_ = nullptr;
  event_del(&wake_event_);
  event_base_free(base_);
}

void EventLoop::refresh() {
  now_ = Moment{clock_us(CLOCK_MONOTONIC)};
  wall_offset_us_ = clock_us(CLOCK_REALTIME) - now_.us;
  stale_ = false;
}

void EventLoop::wake_at(Moment when) {
  wake_ = when;
  // libevent's own timer is only a wake-up: the wheel decides what is due.
  const int64_t us = std::max<int64_t>(when.us - now().us, 0) + TimingWheel::kTickUs;
  const timeval after{static_cast<time_t>(us / 1'000'000),
                      static_cast<suseconds_t>(us % 1'000'000)};
  event_add(&wake_event_, &after);
}

void EventLoop::on_wake(int, short, void* self) {
  auto* loop = static_cast<EventLoop*>(self);
  loop->wake_ = TimingWheel::kNever;
  loop->run_timers();
}

void EventLoop::run_timers() {
  wheel_.advance(now());
  const Moment due = wheel_.next_due();
  if (due < wake_) wake_at(due);
}

void EventLoop::defer(Deferred& work) {
  if (work.next_ != nullptr) return;
  work.next_ = &deferred_;
  work.previous_ = deferred_.previous_;
  deferred_.previous_->next_ = &work;
  deferred_.previous_ = &work;
}

void EventLoop::run_deferred() {
  // Work that is deferred by this work runs too: it is still the same turn.
  while (deferred_.next_ != &deferred_) {
    Deferred& work = *deferred_.next_;
    work.cancel();
    work.callback_(work.owner_);
  }
}

void EventLoop::turn(bool block) {
  stale_ = true;
  const bool idle = deferred_.next_ == &deferred_;
  // EVLOOP_NONBLOCK alone would go on for as long as anything is ready, in one turn. With nothing
  // registered a loop that may block sleeps, instead of returning at once for run() to spin.
  event_base_loop(base_, EVLOOP_ONCE | (block && idle ? EVLOOP_NO_EXIT_ON_EMPTY : EVLOOP_NONBLOCK));
  if (deferred_.next_ != &deferred_) run_deferred();
  // Whoever asks for the time between turns must not be told that of a turn long past.
  stale_ = true;
}

void EventLoop::run() {
  stopping_ = false;
  while (!stopping_) turn(true);
}

}  // namespace gatehouse
