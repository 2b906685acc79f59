// See sticky_cookie.h.
#include "http/sticky_cookie.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>

#include "http/exchange.h"

namespace gatehouse {

namespace {

constexpr size_t kDigits = 16;

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<uint64_t> parse_id(std::string_view text) {
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
  if (text.size() != kDigits || error != std::errc() || end != text.data() + kDigits) return {};
  return id;
}

}  // namespace

std::optional<uint64_t> find_sticky_cookie(const FieldList& fields, std::string_view name) {
  if (!fields.has(FieldId::kCookie)) return {};
  for (const Field& field : fields) {
    if (field.id != FieldId::kCookie) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const size_t end = rest.find(';');
      const std::string_view pair = trim(rest.substr(0, end));
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
      if (pair.size() != name.size() + 1 + kDigits || !pair.starts_with(name)) continue;
      if (pair[name.size()] != '=') continue;
      const std::optional<uint64_t> id = parse_id(pair.substr(name.size() + 1));
      if (id) return id;
    }
  }
  return {};
}

void set_sticky_cookie(Exchange& exchange, const BalanceConf& conf, uint64_t id,
                       std::string_view& field_value) {
  fmt::memory_buffer text;
  const auto out = fmt::appender(text);
  fmt::format_to(out, "{}={:016x}; Path={}", conf.cookie, id, conf.path);
  if (!conf.domain.empty()) fmt::format_to(out, "; Domain={}", conf.domain);
  if (conf.max_age != Duration::zero()) {
    fmt::format_to(out, "; Max-Age={}",
                   std::chrono::duration_cast<std::chrono::seconds>(conf.max_age).count());
  }
  if (conf.secure) fmt::format_to(out, "; Secure");
  if (conf.same_site == "lax") fmt::format_to(out, "; SameSite=Lax");
  if (conf.same_site == "strict") fmt::format_to(out, "; SameSite=Strict");
  if (conf.same_site == "none") fmt::format_to(out, "; SameSite=None");
  fmt::format_to(out, "; HttpOnly");
  const std::string_view value = exchange.arena.copy({text.data(), text.size()});
  for (Field& field : exchange.response.added) {
    if (field_value.empty() || field.value.data() != field_value.data()) continue;
    field.value = field_value = value;
    return;
  }
  field_value = value;
  exchange.response.added.push("Set-Cookie", value);
}

}  // namespace gatehouse
