// The event loop of one worker: libevent behind a few verbs, and the timing wheel.
//
// One thread, one loop. Descriptors are watched through Watch, timeouts through Timer, work for
// later in the same turn through Deferred. Time is read once per turn of the loop. libevent keeps
// a single timer of its own, set to the wheel's next moment: a Timer fires within two ticks of its
// moment, never before. Every Watch must be closed before its loop is destroyed; Timers and
// Deferreds that are left are cancelled.
#pragma once

#include <event2/event_struct.h>

#include <cstdint>
#include <memory>

#include "core/result.h"
#include "core/timing_wheel.h"
#include "core/units.h"

struct event_base;

namespace gatehouse {

class EventLoop;

// What a Watch reports; any number of them at once.
enum IoReady : uint8_t {
  kIoReadable = 1,
  kIoWritable = 2,
  kIoPeerClosed = 4,  // the peer has shut down its sending side
};

enum class WatchMode : uint8_t {
  kEdge,   // both directions, edge-triggered: registered once for the descriptor's life
  kLevel,  // reading only, level-triggered: listening sockets, channels, signalfd
};

// A descriptor registered with the loop. The owner embeds it; closing or destroying it
// unregisters. It does not own the descriptor, which must outlive the registration.
class Watch {
 public:
  using Callback = void (*)(void* owner, uint8_t ready);

  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { close(); }

  // The callback may close or destroy the Watch. Fails where the kernel refuses (ENOSPC, ENOMEM).
  Result<void> open(EventLoop& loop, int fd, WatchMode mode, Callback callback, void* owner);
  void close();
  bool is_open() const { return open_; }

 private:
  static void dispatch(int fd, short what, void* self);

  struct event event_;
  Callback callback_ = nullptr;
  void* owner_ = nullptr;
  bool open_ = false;
};

// Work to be done once, after the callbacks of this turn. Destroying it cancels it. Work deferred
// by other such work runs in the same turn, so work that always defers itself would stop the loop.
class Deferred {
 public:
  using Callback = void (*)(void* owner);
  Deferred(Callback callback, void* owner) : callback_(callback), owner_(owner) {}
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
  ~Deferred() { cancel(); }
  void cancel();
  bool scheduled() const { return next_ != nullptr; }

 private:
  friend class EventLoop;
  Deferred() = default;
  Deferred* next_ = nullptr;
  Deferred* previous_ = nullptr;
  Callback callback_ = nullptr;
  void* owner_ = nullptr;
};

class EventLoop {
 public:
  // Fails where epoll cannot be had.
  static Result<std::unique_ptr<EventLoop>> create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  // The monotonic time of this turn; read from the clock at most once a turn.
  Moment now() {
    if (stale_) refresh();
    return now_;
  }
  // Wall-clock time of this turn in microseconds since the epoch.
  int64_t wall_us() { return now().us + wall_offset_us_; }

  void arm(Timer& timer, Moment when) {
    wheel_.arm(timer, when);
    if (when < wake_) wake_at(when);
  }
  void arm(Timer& timer, Duration after) { arm(timer, now() + after); }
  void defer(Deferred& work);

  // Runs until stop() is called from within. May be called again after it returned.
  void run();
  // One turn: waits for at most one round of events, also for none if `block` is false.
  void turn(bool block);
  void stop() { stopping_ = true; }

  // For libevent's own protocols (evhttp), which want to register with it themselves.
  event_base* base() { return base_; }

 private:
  friend class Watch;
  explicit EventLoop(event_base* base);
  void refresh();
  void wake_at(Moment when);
  void run_timers();
  void run_deferred();
  static void on_wake(int fd, short what, void* self);

  event_base* base_;
  Moment now_;
  int64_t wall_offset_us_ = 0;
  bool stale_ = true;
  bool stopping_ = false;
  TimingWheel wheel_;
  Moment wake_ = TimingWheel::kNever;  // when wake_event_ fires
  struct event wake_event_;
  Deferred deferred_;  // list head
};

}  // namespace gatehouse
