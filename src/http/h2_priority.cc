// See h2_priority.h.
#include "http/h2_priority.h"

#include <algorithm>

#include "http/chars.h"

namespace gatehouse {
namespace {

// key = ( lcalpha / "*" ) *( lcalpha / DIGIT / "_" / "-" / "." / "*" )
bool is_key(std::string_view text) {
  if (text.empty() || chars::is(text.front(), chars::kDigit)) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || chars::is(c, chars::kDigit) || c == '_' || c == '-' ||
           c == '.' || c == '*';
  });
}

}  // namespace

bool update_priority(std::string_view field, H2Priority& priority) {
  H2Priority found = priority;
  while (!field.empty()) {
    // Neither member that counts here can hold a comma; strings of others that do are cut apart,
    // and their halves are no keys.
    const size_t comma = std::min(field.find(','), field.size());
    std::string_view member = chars::trim(field.substr(0, comma));
    field.remove_prefix(std::min(comma + 1, field.size()));
    member = member.substr(0, member.find(';'));  // parameters mean nothing
    const size_t equals = std::min(member.find('='), member.size());
    const std::string_view key = member.substr(0, equals);
    const std::string_view value = member.substr(std::min(equals + 1, member.size()));
    if (!is_key(key)) return false;
    if (key == "u") {
      if (value.size() == 1 && value[0] >= '0' && value[0] <= '7') {
        found.urgency = static_cast<uint8_t>(value[0] - '0');
      }
    } else if (key == "i") {
      if (equals == member.size() || value == "?1") found.incremental = true;
      if (value == "?0") found.incremental = false;
    }
  }
  const bool changed = !(found == priority);
  priority = found;
  return changed;
}

}  // namespace gatehouse
