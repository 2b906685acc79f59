// Cookies of requests, and those that a split has made.
//
// What must hold for every input: a cookie's value lies in the field, without ';' and without
// blanks around it; a plain second reading finds the same; a value that is taken for a split's is
// the one that its point makes.
#include "http/cookie.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "http/upstream_split.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

constexpr HashKey kKey{1, 2};
constexpr std::string_view kName = "side";

std::string trimmed(std::string text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Piece by piece, with copies.
bool plainly(std::string text, std::string& value) {
  text += ';';
  for (size_t at = 0, end; (end = text.find(';', at)) != std::string::npos; at = end + 1) {
    const std::string pair = text.substr(at, end - at);
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || trimmed(pair.substr(0, equals)) != kName) continue;
    value = trimmed(pair.substr(equals + 1));
    return true;
  }
  return false;
}

void run(std::string_view text) {
  FieldList fields;
  fields.push("Cookie", text);
  const auto found = find_cookie(fields, kName);
  std::string value;
  require(plainly(std::string(text), value) == found.has_value(), "both find one, or none");
  if (!found) return;
  require(*found == value, "both find the same");
  const auto point = read_split_cookie(kKey, kName, *found);
  if (!point) return;
  char made[kSplitCookieSize];
  write_split_cookie(kKey, kName, *point, made);
  require(std::string_view(made, sizeof made) == *found, "a point has one value");
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatehouse::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
