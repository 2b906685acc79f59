// The error log's writer. See log.h for what a line looks like and what is promised.
//
// A line is put together in one buffer on the stack and leaves in one write() to an O_APPEND
// descriptor, so the lines of several processes never mix. Where the descriptor is not a plain file
// (a pipe to a supervisor, a terminal), poll() asks first: a reader that stalls costs lines, which
// are counted, and never stops a worker. Lines are at most kLineMax bytes, which is PIPE_BUF, so a
// pipe that has room takes a line whole.
//
// Safe to call from several threads: the state is atomic, the time stamp's cache is the thread's
// own. Exchanging the file under a running writer happens by dup3() onto the same number.
#include "core/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>

#include "core/format.h"
#include "core/log_files.h"

namespace gatehouse {
namespace {

constexpr size_t kLineMax = 4096;
static_assert(kLineMax <= PIPE_BUF);
// Room kept free behind the message for the two counts and the end of the line.
constexpr size_t kTailMax = 96;
constexpr size_t kIdentityMax = 64;

std::atomic<int> g_descriptor{STDERR_FILENO};
std::atomic<uint8_t> g_level{static_cast<uint8_t>(LogLevel::kNotice)};
// Lines that could not be written (disk full, reader stalled); told with the next that can.
std::atomic<uint32_t> g_lost{0};
// Set before a process has a second thread.
char g_identity[kIdentityMax];

constexpr const char* kLevelNames[] = {"debug", "info", "notice", "warn", "error", "alert"};

// A fixed buffer that drops what does not fit; a piece goes in whole or not at all.
class Line {
 public:
  bool append(const char* bytes, size_t size, size_t keep_free) {
    if (size_ + size + keep_free > kLineMax) return false;
    std::memcpy(text_ + size_, bytes, size);
    size_ += size;
    return true;
  }
  bool append(std::string_view text, size_t keep_free) {
    return append(text.data(), text.size(), keep_free);
  }
  const char* data() const { return text_; }
  size_t size() const { return size_; }

 private:
  char text_[kLineMax];
  size_t size_ = 0;
};

// How many bytes the valid UTF-8 character at the start of `text` has; 0 where it is not valid or
// is a control character (C0, DEL, C1), which a terminal might obey.
size_t printable_length(std::string_view text) {
  auto at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = at(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  unsigned char second = at(1);
  if (first == 0xc2 && second < 0xa0) return 0;                                        // C1
  if (first == 0xe0 && second < 0xa0) return 0;                                        // overlong
  if (first == 0xed && second > 0x9f) return 0;                                        // surrogates
  if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;  // range
  return length;
}

void append_escaped(Line& line, std::string_view message) {
  constexpr std::string_view kCut = "…";
  while (!message.empty()) {
    size_t length = printable_length(message);
    bool fits;
    if (length > 0) {
      fits = line.append(message.data(), length, kTailMax);
    } else {
      constexpr char kHex[] = "0123456789abcdef";
      auto byte = static_cast<unsigned char>(message.front());
      char escaped[] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      fits = line.append(escaped, sizeof escaped, kTailMax);
      length = 1;
    }
    if (!fits) {
      line.append(kCut, kTailMax - kCut.size());
      return;
    }
    message.remove_prefix(length);
  }
}

// "2026-11-20T09:30:00.123Z". The part up to the second is made once a second.
void append_time(Line& line, const timespec& now) {
  thread_local time_t cached_second = -1;
  thread_local char text[32];
  thread_local size_t size = 0;
  if (now.tv_sec != cached_second) {
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    size = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    cached_second = now.tv_sec;
  }
  line.append(text, size, 0);
  auto ms = static_cast<unsigned>(now.tv_nsec / 1'000'000);
  char fraction[] = {'.', static_cast<char>('0' + ms / 100), static_cast<char>('0' + ms / 10 % 10),
                     static_cast<char>('0' + ms % 10), 'Z'};
  line.append(fraction, sizeof fraction, 0);
}

// Takes one line from the place's allowance. `withheld` is what the place withheld before it.
bool take_allowance(LogPlace& place, int64_t second, uint32_t& withheld) {
  std::atomic_ref<int64_t> place_second(place.second);
  std::atomic_ref<uint32_t> written(place.written);
  std::atomic_ref<uint32_t> place_withheld(place.withheld);
  if (place_second.exchange(second, std::memory_order_relaxed) != second) {
    written.store(0, std::memory_order_relaxed);
  }
  if (written.fetch_add(1, std::memory_order_relaxed) >= uint32_t{kLogPlaceBurst}) {
    place_withheld.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  withheld = place_withheld.exchange(0, std::memory_order_relaxed);
  return true;
}

bool can_write_now(int fd) {
  pollfd waiting{.fd = fd, .events = POLLOUT, .revents = 0};
  int ready;
  do ready = poll(&waiting, 1, 0);
  while (ready < 0 && errno == EINTR);
  return ready == 1 && (waiting.revents & POLLOUT) != 0;
}

void put(const Line& line) {
  int fd = g_descriptor.load(std::memory_order_relaxed);
  ssize_t written = -1;
  if (can_write_now(fd)) {
    do written = write(fd, line.data(), line.size());
    while (written < 0 && errno == EINTR);
  }
  // A part of a line is what a full disk leaves; the rest would only stand in the next line's way.
  if (written < 0) g_lost.fetch_add(1, std::memory_order_relaxed);
}

bool same_file(int a, int b) {
  struct stat of_a {
  }, of_b{};
  return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

// dup3() that is not put off by signals; the target's number is replaced in one step.
bool put_at(int fd, int number, int flags) {
  int result;
  do result = dup3(fd, number, flags);
  while (result < 0 && (errno == EINTR || errno == EBUSY));
  return result >= 0;
}

}  // namespace

bool log_enabled(LogLevel level) {
  return static_cast<uint8_t>(level) >= g_level.load(std::memory_order_relaxed);
}

void log_write(LogLevel level, LogPlace& place, fmt::string_view format, fmt::format_args args) {
  int saved = errno;
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  uint32_t withheld = 0;
  if (!take_allowance(place, now.tv_sec, withheld)) {
    errno = saved;
    return;
  }
  Line line;
  append_time(line, now);
  char head[kIdentityMax + 48];
  auto head_end =
      fmt::format_to_n(head, sizeof head, " {} [{}{}{}] ", kLevelNames[static_cast<size_t>(level)],
                       getpid(), g_identity[0] != '\0' ? " " : "", g_identity);
  line.append(head, static_cast<size_t>(head_end.out - head), 0);
  try {
    fmt::basic_memory_buffer<char, 1024> message;
    fmt::vformat_to(std::back_inserter(message), format, args);
    append_escaped(line, {message.data(), message.size()});
  } catch (...) {
    // No memory, or a format that does not fit its arguments: the place is still worth knowing.
    append_escaped(line, {format.data(), format.size()});
  }
  uint32_t lost = g_lost.exchange(0, std::memory_order_relaxed);
  char tail[kTailMax];
  char* end = tail;
  if (withheld > 0) end = fmt::format_to(end, " ({} more withheld)", withheld);
  if (lost > 0) end = fmt::format_to(end, " ({} lines could not be written)", lost);
  *end++ = '\n';
  line.append(tail, static_cast<size_t>(end - tail), 0);
  put(line);
  // put() counts this line where it fails; the earlier ones must not be forgotten either.
  if (lost > 0 && g_lost.load(std::memory_order_relaxed) > 0) {
    g_lost.fetch_add(lost, std::memory_order_relaxed);
  }
  errno = saved;
}

void log_set_identity(std::string_view identity) {
  size_t size = std::min(identity.size(), kIdentityMax - 1);
  std::memcpy(g_identity, identity.data(), size);
  g_identity[size] = '\0';
}

void log_set_level(LogLevel level) {
  g_level.store(static_cast<uint8_t>(level), std::memory_order_relaxed);
}

Result<void> log_open(const std::string& path, LogLevel level) {
  log_set_level(level);
  if (path.empty() || path == "stderr") {
    log_adopt(STDERR_FILENO);
    return {};
  }
  Result<UniqueFd> file = open_log_file(path);
  if (!file) return file.error();
  log_adopt(file->release());
  return {};
}

void log_adopt(int fd) {
  int current = g_descriptor.load(std::memory_order_relaxed);
  if (fd == current) return;
  if (current == STDERR_FILENO || fd == STDERR_FILENO) {
    g_descriptor.store(fd, std::memory_order_relaxed);
    if (current != STDERR_FILENO) close(current);
    return;
  }
  // A daemon's standard error is its error log too, and must not keep the old file.
  if (same_file(current, STDERR_FILENO)) put_at(fd, STDERR_FILENO, 0);
  // The number stays, so a thread that is about to write meets the old file or the new one.
  if (!put_at(fd, current, O_CLOEXEC)) {
    g_descriptor.store(fd, std::memory_order_relaxed);
    close(current);
    return;
  }
  close(fd);
}

int log_descriptor() {
  return g_descriptor.load(std::memory_order_relaxed);
}

}  // namespace gatehouse
