// The lines of a configuration file: physical lines joined to logical ones, and each of those
// taken apart into a section header or a key and its value.
//
// Rules: a line ending in "\n" or "\r\n"; a byte-order mark at the start is skipped; blanks around
// a line mean nothing; a line whose first character is # or ; is a comment; a line that ends in an
// odd number of backslashes goes on in the next one, joined by one blank (comment lines in
// between are skipped, an empty line ends it). Control bytes other than tab are refused, also
// in comments, and text outside comments has to be UTF-8.
//
// Used by the loader, which needs include lines and variables, and by the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

// The longest value, continuation lines and variables included, in bytes.
inline constexpr size_t kMaxConfigValueBytes = size_t{1} << 20;

// The longest name of a section, in bytes.
inline constexpr size_t kMaxSectionNameBytes = 200;

struct LogicalLine {
  uint32_t line = 0;  // number of its first physical line, from 1
  std::string text;   // trimmed, joined; never empty unless there is a problem
  std::string problem;
  std::string expected;
};

class LineCursor {
 public:
  // `text` has to outlive the cursor.
  explicit LineCursor(std::string_view text);

  // The next line that is neither blank nor a comment, or the next problem; false at the end.
  bool next(LogicalLine& line);

 private:
  bool take_physical(std::string_view& physical);

  std::string_view rest_;
  uint32_t line_ = 0;
};

// A logical line taken apart. The views point into the line's text.
struct ParsedLine {
  enum class What : uint8_t { kSection, kEntry, kProblem };
  What what = What::kProblem;
  std::string_view kind;  // kSection: "route" of [route app]
  std::string_view name;  // kSection: "app", or empty
  std::string_view key;   // kEntry
  std::string_view value;
  std::string problem;  // kProblem
  std::string expected;
};
ParsedLine parse_line(std::string_view text);

// The value a variable has, or null when it is unset.
using VariableLookup = std::function<const std::string*(std::string_view name)>;

// Replaces each ${NAME} by its value and each "$${" by "${". A "$" before anything but "{" is
// ordinary text. Fails for a variable that is unset, a "${" without NAME and "}", and a result
// that is too long. What comes out of a variable is not looked at again.
Result<std::string> expand_variables(std::string_view value, const VariableLookup& lookup);

// True when every byte is part of well-formed UTF-8 (RFC 3629) and none is a control byte other
// than tab.
bool is_clean_text(std::string_view text);

}  // namespace gatehouse
