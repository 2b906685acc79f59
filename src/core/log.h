// The error log: levels, one event a line, a rate cap per place in the code.
//
// GH_LOG(kWarn, "upstream {}: {}", name, reason) writes
//   2026-11-20T09:30:00.123Z warn [1234 worker default/0] upstream users: connection refused
// Control bytes in the message are written as \xNN, so that one event is always one line. Each
// place may write kLogPlaceBurst lines a second; what it withholds is counted and said in the
// next line that passes ("… (41 more withheld)"). kAlert means "this should not happen": the
// tests fail on any such line. Writing never blocks for long and never fails the caller.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

enum class LogLevel : uint8_t { kDebug, kInfo, kNotice, kWarn, kError, kAlert };

// How many lines one place in the code may write in one second.
inline constexpr int kLogPlaceBurst = 10;

// The per-place state behind GH_LOG; constant-initialised, one per expansion of the macro.
struct LogPlace {
  int64_t second = 0;
  uint32_t written = 0;
  uint32_t withheld = 0;
};

// True where a line of this level would be written. Cheap: one load and one comparison.
bool log_enabled(LogLevel level);

// Writes one line unless the place has used up its rate. Called through GH_LOG.
void log_write(LogLevel level, LogPlace& place, fmt::string_view format, fmt::format_args args);

template <typename... Args>
void log_format(LogLevel level, LogPlace& place, fmt::format_string<Args...> format,
                Args&&... args) {
  log_write(level, place, format, fmt::make_format_args(args...));
}

// Who writes: "master", "worker default/0". Copied. Shown in every line with the process id.
void log_set_identity(std::string_view identity);

// Directs the log. Until called, and with an empty path or "stderr", lines go to standard error.
[[nodiscard]] Result<void> log_open(const std::string& path, LogLevel level);

void log_set_level(LogLevel level);

// Uses a descriptor that somebody else opened (the master hands these out on a reopen). Takes
// ownership of it.
void log_adopt(int fd);

// The descriptor that lines go to now; 2 before log_open.
int log_descriptor();

}  // namespace gatehouse

#define GH_LOG(level, ...)                                                              \
  do {                                                                                  \
    if (::gatehouse::log_enabled(::gatehouse::LogLevel::level)) {                       \
      static constinit ::gatehouse::LogPlace gh_log_place{};                            \
      ::gatehouse::log_format(::gatehouse::LogLevel::level, gh_log_place, __VA_ARGS__); \
    }                                                                                   \
  } while (false)
