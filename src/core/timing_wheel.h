// The timing wheel: every timeout of a worker, with constant-time arm and cancel.
//
// Four levels of 64 slots; a tick is 16 ms, so the levels span about 1 s, 65 s, 70 min and 74 h;
// longer timeouts wait in the top level and are re-armed. A Timer is a node its owner embeds, in a
// doubly linked list of its slot; destroying it cancels it. Timers fire at or up to one tick after
// their moment, never before. The wheel reads no clock: the loop tells it the time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/units.h"

namespace gatehouse {

class TimingWheel;

// One timeout. Calls on_timer(owner) once, unless cancelled or destroyed before. 48 bytes.
class Timer {
 public:
  using Callback = void (*)(void* owner);

  Timer() = default;
  Timer(Callback callback, void* owner) : callback_(callback), owner_(owner) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { cancel(); }

  void set(Callback callback, void* owner) {
    callback_ = callback;
    owner_ = owner;
  }
  bool armed() const { return next_ != nullptr; }
  // Disarms; harmless when not armed. Constant time.
  void cancel() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }

 private:
  friend class TimingWheel;
  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  int64_t tick_ = 0;
  Callback callback_ = nullptr;
  void* owner_ = nullptr;
};

class TimingWheel {
 public:
  static constexpr int64_t kTickUs = 16'000;
  static constexpr unsigned kSlotBits = 6;
  static constexpr unsigned kSlots = 1u << kSlotBits;
  static constexpr unsigned kLevels = 4;

  explicit TimingWheel(Moment now);
  TimingWheel(const TimingWheel&) = delete;
  TimingWheel& operator=(const TimingWheel&) = delete;
  ~TimingWheel();

  // Arms `timer` to fire at `when`, replacing an earlier arming. REQUIRES: a callback is set.
  void arm(Timer& timer, Moment when);

  // Fires everything due at `now`. A callback may arm and cancel any timer, also destroy its own.
  void advance(Moment now);

  // The earliest moment at which advance() may have something to do, or kNever. Never later than
  // the first timer's moment plus one tick; may be earlier (a slot of a higher level to spread).
  static constexpr Moment kNever{INT64_MAX};
  Moment next_due() const;

 private:
  void insert(Timer& timer);
  void cascade(unsigned level);
  bool slot_empty(unsigned level, unsigned slot) const {
    return slots_[level][slot].next_ == &slots_[level][slot];
  }

  int64_t tick_;                  // every slot up to and including this tick has been run
  Timer slots_[kLevels][kSlots];  // list heads
  mutable uint64_t occupied_[kLevels] = {};  // a set bit: the slot may hold timers
};

}  // namespace gatehouse
