// Regex: a PCRE2 expression, compiled once with JIT, matched under limits.
//
// Matching works on bytes and searches: an expression without ^ and $ matches anywhere in the
// subject. `$` means the very end. A match that needs more than kRegexMatchLimit steps is given up
// (kLimit), so that no expression and no request can hold the worker up for long. Matching
// allocates nothing: what PCRE2 writes its result into belongs to the thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace gatehouse {

inline constexpr uint32_t kRegexMatchLimit = 100'000;
inline constexpr uint32_t kRegexDepthLimit = 1'000;
// The longest expression, in bytes.
inline constexpr size_t kRegexMaxBytes = 2048;
// How many named groups there may be: one less than Exchange has room for captures.
inline constexpr size_t kRegexMaxGroups = 15;

enum class RegexOutcome : uint8_t { kMatch, kNoMatch, kLimit };

class Regex {
 public:
  // Fails where `pattern` is not a legal expression; the error says what and where.
  static Result<std::shared_ptr<const Regex>> compile(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // `values`, where given, has room for kRegexMaxGroups views into `subject`: one for each of
  // group_names(), empty where the group took no part.
  RegexOutcome match(std::string_view subject, std::string_view* values = nullptr) const;

  const std::string& pattern() const { return pattern_; }
  // In the order of their numbers.
  const std::vector<std::string>& group_names() const { return group_names_; }

 private:
  Regex() = default;

  std::string pattern_;
  std::vector<std::string> group_names_;
  std::vector<uint32_t> group_numbers_;
  void* code_ = nullptr;  // pcre2_code
};

}  // namespace gatehouse
