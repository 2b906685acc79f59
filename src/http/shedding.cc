// See shedding.h.
#include "http/shedding.h"

#include <fcntl.h>
#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "core/clock.h"
#include "core/log.h"

namespace gatehouse {
namespace {

// How late the loop may come to its timer; the timing wheel itself needs up to two ticks.
constexpr double kLateMs = 100;
// Looks without a request after which nothing is looked at any more.
constexpr uint32_t kQuietLooks = 50;
// Looks between two attempts to give free memory back.
constexpr uint32_t kTrimPause = 10;

uint64_t page_size() {
  static const auto kSize = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return kSize;
}

}  // namespace

// An integral controller: it goes on turning while the goal is missed, faster the more it is.
void CpuPressure::note(double used, double max, double late_ms) {
  smooth_ += (std::clamp(used, 0.0, 1.0) - smooth_) * 0.3;
  const bool late = late_ms > kLateMs;
  if (smooth_ <= max && !late) {
    part_ = std::max(0.0, part_ - 0.02 - (max - smooth_) * 0.2);
    if (part_ == 0) owed_ = 0;
    return;
  }
  const double over = std::max(0.0, smooth_ - max) / std::max(0.05, 1 - max);
  part_ = std::min(kMost, part_ + 0.02 + 0.05 * over + (late ? 0.05 : 0));
}

LoadShedder::LoadShedder(EventLoop& loop)
    : loop_(loop), statm_(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) {}

uint64_t LoadShedder::memory_used() const {
  if (!statm_) return 0;
  char text[128];
  const ssize_t size = ::pread(statm_.get(), text, sizeof(text), 0);
  if (size <= 0) return 0;
  // "size resident shared ...", in pages (proc(5)).
  uint64_t pages[3] = {};
  const char* at = text;
  const char* const end = text + size;
  for (uint64_t& value : pages) {
    const auto [rest, error] = std::from_chars(at, end, value);
    if (error != std::errc()) return 0;
    at = std::min(rest + 1, end);
  }
  return (pages[1] - std::min(pages[1], pages[2])) * page_size();
}

void LoadShedder::begin(const ShedLimits& limits) {
  if (limits != limits_) {
    limits_ = limits;
    over_memory_ = false;
    cpu_ = CpuPressure();
  }
  if (looking_) return;
  looking_ = true;
  quiet_ = trim_pause_ = 0;
  last_look_ = monotonic_now();
  last_cpu_us_ = clock_us(CLOCK_THREAD_CPUTIME_ID);
  due_ = last_look_ + kInterval;
  loop_.arm(timer_, due_);
  look_at_memory();
}

void LoadShedder::on_timer(void* self) {
  static_cast<LoadShedder*>(self)->look();
}

void LoadShedder::look() {
  quiet_ = busy_ ? 0 : quiet_ + 1;
  busy_ = false;
  look_at_memory();
  look_at_cpu();
  if (quiet_ >= kQuietLooks && !over_memory_ && cpu_.part() == 0) {
    looking_ = false;
    return;
  }
  due_ = monotonic_now() + kInterval;
  loop_.arm(timer_, due_);
}

void LoadShedder::look_at_memory() {
  if (limits_.memory_max.count == 0) return;
  uint64_t used = memory_used();
  const uint64_t max = limits_.memory_max.count;
  if (trim_pause_ > 0) --trim_pause_;
  if (used > max && trim_pause_ == 0) {
    trim_pause_ = kTrimPause;
    ::malloc_trim(0);
    used = memory_used();
  }
  const bool over = used > (over_memory_ ? max - max / 20 : max);
  if (over == over_memory_) return;
  over_memory_ = over;
  if (over) {
    GH_LOG(kWarn, "this worker uses {} bytes, more than memory_max: it turns requests away", used);
  } else {
    GH_LOG(kNotice, "this worker uses {} bytes, less than memory_max: it takes requests again",
           used);
  }
}

void LoadShedder::look_at_cpu() {
  const Moment now = monotonic_now();
  const int64_t cpu_us = clock_us(CLOCK_THREAD_CPUTIME_ID);
  const auto passed = static_cast<double>((now - last_look_).count());
  const auto used = static_cast<double>(cpu_us - last_cpu_us_);
  last_look_ = now;
  last_cpu_us_ = cpu_us;
  if (limits_.cpu_max == 0 || passed <= 0) return;
  const bool shed_before = cpu_.part() > 0;
  const double late_ms = static_cast<double>((now - due_).count()) / 1000;
  cpu_.note(used / passed, limits_.cpu_max / 10'000.0, late_ms);
  const bool sheds = cpu_.part() > 0;
  if (sheds == shed_before) return;
  if (sheds) {
    GH_LOG(kWarn,
           "this worker uses {:.0f} % of a processor, and comes {:.0f} ms late: it turns "
           "requests away",
           used / passed * 100, std::max(0.0, late_ms));
  } else {
    GH_LOG(kNotice, "this worker takes all requests again");
  }
}

}  // namespace gatehouse
