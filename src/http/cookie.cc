// See cookie.h.
#include "http/cookie.h"

#include <algorithm>

namespace gatehouse {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::optional<std::string_view> find_cookie(const FieldList& fields, std::string_view name) {
  if (!fields.has(FieldId::kCookie)) return std::nullopt;
  for (const Field& field : fields) {
    if (field.id != FieldId::kCookie || field.dropped) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find(';'), rest.size());
      const std::string_view pair = trim(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const size_t equals = pair.find('=');
      if (equals == std::string_view::npos || trim(pair.substr(0, equals)) != name) continue;
      return trim(pair.substr(equals + 1));
    }
  }
  return std::nullopt;
}

}  // namespace gatehouse
