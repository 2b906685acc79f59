// The timing wheel; see timing_wheel.h for what it promises.
#include "core/timing_wheel.h"

#include <algorithm>
#include <bit>

namespace gatehouse {

TimingWheel::TimingWheel(Moment now) : tick_(now.us / kTickUs) {
  for (auto& level : slots_) {
    for (Timer& head : level) head.next_ = head.previous_ = &head;
  }
}

TimingWheel::~TimingWheel() {
  for (auto& level : slots_) {
    for (Timer& head : level) {
      while (head.next_ != &head) head.next_->cancel();
      head.next_ = head.previous_ = nullptr;
    }
  }
}

void TimingWheel::arm(Timer& timer, Moment when) {
  timer.cancel();
  // Rounded up, and never into a tick that has been run: a timer must not fire early.
  const int64_t us = std::min(when.us, kNever.us - kTickUs);
  timer.tick_ = std::max((us + kTickUs - 1) / kTickUs, tick_ + 1);
  insert(timer);
}

void TimingWheel::insert(Timer& timer) {
  const int64_t delta = timer.tick_ - tick_;
  unsigned level = 0;
  while (level + 1 < kLevels && delta >= (int64_t{1} << (kSlotBits * (level + 1)))) ++level;
  int64_t tick = timer.tick_;
  constexpr int64_t kSpan = int64_t{1} << (kSlotBits * kLevels);
  // Beyond the span: wait in the last slot of the top level, to be inserted again from there.
  if (delta >= kSpan) tick = tick_ + kSpan - 1;
  const unsigned slot = static_cast<unsigned>(tick >> (kSlotBits * level)) & (kSlots - 1);
  Timer& head = slots_[level][slot];
  timer.next_ = &head;
  timer.previous_ = head.previous_;
  head.previous_->next_ = &timer;
  head.previous_ = &timer;
  occupied_[level] |= uint64_t{1} << slot;
}

// Spreads the timers of the slot of `level` that begins at tick_ over the levels below.
void TimingWheel::cascade(unsigned level) {
  const unsigned slot = static_cast<unsigned>(tick_ >> (kSlotBits * level)) & (kSlots - 1);
  if (slot == 0 && level + 1 < kLevels) cascade(level + 1);
  Timer& head = slots_[level][slot];
  occupied_[level] &= ~(uint64_t{1} << slot);
  if (head.next_ == &head) return;
  // The whole list is taken off first: a timer beyond the span may return to this very slot.
  Timer pending;
  pending.next_ = head.next_;
  pending.previous_ = head.previous_;
  pending.next_->previous_ = &pending;
  pending.previous_->next_ = &pending;
  head.next_ = head.previous_ = &head;
  while (pending.next_ != &pending) {
    Timer& timer = *pending.next_;
    timer.cancel();
    insert(timer);
  }
  pending.next_ = pending.previous_ = nullptr;
}

void TimingWheel::advance(Moment now) {
  const int64_t target = now.us / kTickUs;
  while (tick_ < target) {
    if ((occupied_[0] | occupied_[1] | occupied_[2] | occupied_[3]) == 0) {
      tick_ = target;
      return;
    }
    // Ticks with nothing to run or spread are skipped up to the next boundary of level 0.
    if (occupied_[0] == 0) {
      const int64_t boundary = (tick_ | (kSlots - 1));
      tick_ = std::min(boundary, target - 1);
    }
    ++tick_;
    const unsigned slot = static_cast<unsigned>(tick_) & (kSlots - 1);
    if (slot == 0) cascade(1);
    if ((occupied_[0] & (uint64_t{1} << slot)) == 0) continue;
    occupied_[0] &= ~(uint64_t{1} << slot);
    Timer& head = slots_[0][slot];
    // A callback that arms a timer puts it at tick_ + 1 or later, never into this list.
    while (head.next_ != &head) {
      Timer& timer = *head.next_;
      timer.cancel();
      timer.callback_(timer.owner_);
    }
  }
}

Moment TimingWheel::next_due() const {
  int64_t best = INT64_MAX;
  for (unsigned level = 0; level < kLevels; ++level) {
    while (occupied_[level] != 0) {
      const unsigned shift = kSlotBits * level;
      const int64_t current = tick_ >> shift;
      const unsigned from = static_cast<unsigned>(current + 1) & (kSlots - 1);
      const int distance = std::countr_zero(std::rotr(occupied_[level], static_cast<int>(from)));
      const unsigned slot = (from + static_cast<unsigned>(distance)) & (kSlots - 1);
      if (slot_empty(level, slot)) {  // its timers were cancelled
        occupied_[level] &= ~(uint64_t{1} << slot);
        continue;
      }
      best = std::min(best, (current + 1 + distance) << shift);
      break;
    }
  }
  return best == INT64_MAX ? kNever : Moment{best * kTickUs};
}

}  // namespace gatehouse
