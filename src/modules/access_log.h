// What the access log's lines say and which exchanges get one; for the module and its tests.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/config_values.h"
#include "core/metrics.h"
#include "core/result.h"
#include "http/exchange.h"
#include "http/text_template.h"

namespace gatehouse {

struct LogFormat {
  enum class Kind : uint8_t { kCombined, kJson, kText };
  Kind kind = Kind::kCombined;
  TextTemplate text;  // of kCombined and kText

  LogFormat();  // combined
};

// The share of exchanges that is logged, by class of status (0: nothing was sent), in hundredths
// of a percent.
struct LogSample {
  std::array<uint32_t, kStatusClasses> hundredths{10'000, 10'000, 10'000, 10'000, 10'000, 10'000};
};

struct AccessLogConf {
  LogFormat format;
  LogSample sample;
};

// Appends the line without its newline. What comes out has no control byte in it.
void render_log_line(const LogFormat& format, const Exchange& exchange, TextBuffer& out);

// Where a request stands between 0 and 9,999: it is logged where that is below the share. The same
// id stands at the same place everywhere.
uint32_t sample_point(std::string_view request_id);

template <>
struct ValueType<LogFormat> {
  static Result<LogFormat> parse(std::string_view text);
  static std::string format(const LogFormat& format);
  static std::string expected();
};

template <>
struct ValueType<LogSample> {
  static Result<LogSample> parse(std::string_view text);
  static std::string format(const LogSample& sample);
  static std::string expected();
};

}  // namespace gatehouse
