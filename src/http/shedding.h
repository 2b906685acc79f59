// LoadShedder: when a worker has too much memory or too little processor time left, it turns new
// requests away before any work is put into them.
//
// What the worker uses is looked at on a timer, a few times a second; a request only looks at one
// number. The timer runs while there is something to guard and requests come, and rests otherwise.
//
//   memory   what the kernel has given to this process alone (resident and not shared). Over the
//            limit free memory is first given back to the kernel; what still is too much turns
//            every request away until it has fallen a twentieth below the limit.
//   cpu      the processor time of the loop's thread as a share of the time that has passed. Above
//            the limit, and also where the loop comes late to its timers (a processor that is
//            shared with others), a growing part of the requests is turned away, evenly among them;
//            below it the part shrinks again.
//
// Nothing is shared between workers: each sheds its own load. Leaves out: limits for all processes
// of a pool together, which is what control groups are for.
#pragma once

#include <cstdint>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "core/units.h"
#include "http/reason.h"

namespace gatehouse {

struct ShedLimits {
  Bytes memory_max;      // 0: no limit
  uint32_t cpu_max = 0;  // in 1/10000 of one processor's time; 0: no limit
  bool any() const { return memory_max.count != 0 || cpu_max != 0; }
  friend bool operator==(const ShedLimits&, const ShedLimits&) = default;
};

// Which part of the requests is to be turned away, from what the processor has to do.
class CpuPressure {
 public:
  // Never all: some must get through, or nothing would be learnt.
  static constexpr double kMost = 0.95;

  // `used`: share of the time since the last call that the thread was running, 0 to 1; `max`: what
  // it may be; `late_ms`: how late the loop came to the timer.
  void note(double used, double max, double late_ms);
  double part() const { return part_; }
  // True for `part()` of the calls, evenly spread.
  bool turn_away() {
    owed_ += part_;
    if (owed_ < 1) return false;
    owed_ -= 1;
    return true;
  }

 private:
  double smooth_ = 0;
  double part_ = 0;
  double owed_ = 0;
};

class LoadShedder {
 public:
  static constexpr Duration kInterval = Duration(100);

  // Opens what it reads the process's memory from; without it memory is not guarded.
  explicit LoadShedder(EventLoop& loop);
  LoadShedder(const LoadShedder&) = delete;
  LoadShedder& operator=(const LoadShedder&) = delete;

  // For each request: kNone, kOverloadMemory or kOverloadCpu. Begins to look where it did not.
  Reason judge(const ShedLimits& limits) {
    busy_ = true;
    if (!looking_ || limits != limits_) [[unlikely]]
      begin(limits);
    if (over_memory_) [[unlikely]]
      return Reason::kOverloadMemory;
    if (cpu_.part() == 0) [[likely]]
      return Reason::kNone;
    return cpu_.turn_away() ? Reason::kOverloadCpu : Reason::kNone;
  }

  // Resident bytes of this process that it shares with nobody; 0 where they cannot be had.
  uint64_t memory_used() const;

 private:
  static void on_timer(void* self);
  void begin(const ShedLimits& limits);
  void look();
  void look_at_memory();
  void look_at_cpu();

  EventLoop& loop_;
  UniqueFd statm_;
  ShedLimits limits_;
  bool looking_ = false;
  bool busy_ = false;  // a request came since the last look
  bool over_memory_ = false;
  uint32_t quiet_ = 0;  // looks without a request between them
  uint32_t trim_pause_ = 0;
  CpuPressure cpu_;
  int64_t last_cpu_us_ = 0;
  Moment last_look_;
  Moment due_;
  Timer timer_{&LoadShedder::on_timer, this};
};

}  // namespace gatehouse
