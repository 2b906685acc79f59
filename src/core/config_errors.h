// ConfigErrors: everything wrong with a configuration, collected and said at once.
//
// Each error prints as two lines, in the order of the files and their lines:
//   FILE:LINE: [kind name] key = value: PROBLEM
//       EXPECTED OR SUGGESTION
// Parts that an error does not have are left out. The first kMaxConfigErrors are kept whole, the
// rest only counted ("… and 7 more errors"), so that a broken file neither floods a terminal nor
// costs more than reading it did.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatehouse {

// How many errors are kept and printed; further ones are counted.
inline constexpr size_t kMaxConfigErrors = 20;

// The longest piece of a value that an error quotes, in bytes; the rest is shown as "…".
inline constexpr size_t kMaxQuotedValue = 120;

// Where something was written: an index into the files of a ConfigSource, and a line from 1.
// Line 0 means nobody wrote it: a built-in default.
struct Origin {
  uint32_t file = 0;
  uint32_t line = 0;

  bool is_default() const { return line == 0; }
  friend bool operator==(const Origin&, const Origin&) = default;
};

struct ConfigError {
  Origin origin;         // orders the errors
  std::string where;     // "FILE:LINE", as Config::where and ConfigSource::where print it
  std::string section;   // "[route app]", or empty
  std::string key;       // or empty
  std::string value;     // or empty; cut to kMaxQuotedValue when added
  std::string problem;   // "unknown key"; without a full stop
  std::string expected;  // the second line, such as `did you mean "upstream"?`, or empty
};

class ConfigErrors {
 public:
  void add(ConfigError error);

  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  // True when further errors will only be counted, so that work spent on wording is wasted.
  bool full() const { return kept_.size() >= kMaxConfigErrors; }
  // What was kept, in the order it was added.
  const std::vector<ConfigError>& list() const { return kept_; }

  // All lines, each ended with a newline, sorted by place; empty when there is no error.
  std::string text() const;

 private:
  std::vector<ConfigError> kept_;
  size_t count_ = 0;
};

// The candidate nearest to `word` by edit distance, or empty when none is near enough to be what
// somebody meant (more than a third of the longer word would have to change).
std::string_view nearest_word(std::string_view word, const std::vector<std::string_view>& among);

}  // namespace gatehouse
