// The settings of [log NAME] that belong to the file, its writer and its rotation.
//
// The master opens `file` (core/log_files.h) and every worker batches its lines for it
// (core/log_writer.h); the agent rotates it. What a line says is the business of the module that
// writes it: its keys stand in a table of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/directive.h"
#include "core/units.h"

namespace gatehouse {

// When a log file is moved away, and what becomes of it then:
//   rotate = size 100m, age 1d, keep 14, keep_age 30d, compress on
// A part that is not there sets no limit. It rotates by size or age, so one of them has to be
// there, or the whole is "none".
struct LogRotation {
  Bytes size;            // 0: whatever its size
  Duration age{0};       // since the file was begun; 0: however old
  uint32_t keep = 0;     // rotated files that stay; 0: any number
  Duration keep_age{0};  // since the rotation; 0: for ever
  bool compress = true;  // with gzip, once nobody writes to it any more

  bool rotates() const { return size.count > 0 || age.count() > 0; }
  friend bool operator==(const LogRotation&, const LogRotation&) = default;
};

inline constexpr Bytes kRotationSizeMin = 1_KiB;
inline constexpr Duration kRotationAgeMin = std::chrono::seconds(1);
inline constexpr uint32_t kRotationKeepMax = 100'000;

struct LogConf {
  std::string file;
  Bytes buffer = 64_KiB;
  Duration flush = std::chrono::seconds(1);
  LogRotation rotate;
};

// Whether the name stands for a stream that this process was given: it is not ours to rotate.
bool is_standard_stream(std::string_view log_file);

extern const DirectiveTable kLogTable;

template <>
struct ValueType<LogRotation> {
  static Result<LogRotation> parse(std::string_view text);
  static std::string format(const LogRotation& value);
  static std::string expected();
};

}  // namespace gatehouse
