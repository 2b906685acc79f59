// See limit_fields.h.
#include "modules/limit_fields.h"

#include <fmt/format.h>

#include <algorithm>

namespace gatehouse {
namespace {

constexpr int64_t kSecondUs = 1'000'000;

// A bucket's moments are rounded up to the microsecond: that must not make two seconds of one. The
// way back to the client takes longer than the millisecond that is passed over.
constexpr int64_t kPassedOverUs = 1'000;

uint64_t seconds_up(int64_t us) {
  if (us <= 0) return 0;
  return static_cast<uint64_t>((std::max<int64_t>(us - kPassedOverUs, 1) + kSecondUs - 1) /
                               kSecondUs);
}

// Not fmt: a refusal has to be cheap.
void append_number(uint64_t number, TextBuffer& out) {
  const fmt::format_int text(number);
  out.append(text.data(), text.data() + text.size());
}

}  // namespace

std::string limit_field_name(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c >= ' ' && c <= '~' ? c : '_';
  }
  quoted += '"';
  return quoted;
}

void append_rate_policy(std::string_view field_name, const LimitRule& rule, TextBuffer& out) {
  append_text(out, field_name);
  append_text(out, ";q=");
  append_number(rule.capacity(), out);
  append_text(out, ";w=");
  append_number(std::max<uint64_t>(seconds_up(rule.refill_us()), 1), out);
}

void append_concurrency_policy(std::string_view field_name, uint32_t concurrency, TextBuffer& out) {
  append_text(out, field_name);
  append_text(out, ";q=");
  append_number(concurrency, out);
  append_text(out, ";qu=\"concurrent-requests\"");
}

void append_rate_state(std::string_view field_name, const LimitRule& rule, uint64_t count,
                       int64_t now_us, uint64_t cost, TextBuffer& out) {
  const uint64_t left = limit_remaining(rule, count, now_us);
  append_text(out, field_name);
  append_text(out, ";r=");
  append_number(left, out);
  append_text(out, ";t=");
  append_number(seconds_up(left < cost ? limit_retry_us(rule, count, now_us, cost)
                                       : limit_life_us(rule, count, now_us)),
                out);
}

uint64_t retry_seconds(int64_t us) {
  return std::max<uint64_t>(seconds_up(us), 1);
}

}  // namespace gatehouse
