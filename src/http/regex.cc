// PCRE2 behind Regex; see regex.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "http/regex.h"

#include <pcre2.h>

#include <algorithm>

#include "core/log.h"

namespace gatehouse {

namespace {

// What PCRE2 needs for one match. One for each thread: expressions are shared and immutable.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(kRegexMaxGroups * 2 + 2, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);

  MatchScratch() {
    if (context == nullptr) return;
    pcre2_set_match_limit(context, kRegexMatchLimit);
    pcre2_set_depth_limit(context, kRegexDepthLimit);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "unknown problem";
  return reinterpret_cast<const char*>(text);
}

uint32_t info(const pcre2_code* code, uint32_t what) {
  uint32_t value = 0;
  pcre2_pattern_info(code, what, &value);
  return value;
}

}  // namespace

Result<std::shared_ptr<const Regex>> Regex::compile(std::string_view pattern) {
  if (pattern.empty()) return Error{"the expression is empty"};
  if (pattern.size() > kRegexMaxBytes) {
    return Error{"the expression is longer than " + std::to_string(kRegexMaxBytes) + " bytes"};
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C,
                                   &error, &offset, nullptr);
  if (code == nullptr) {
    return Error{"the expression is wrong at its byte " + std::to_string(offset) + ": " +
                 pcre2_message(error)};
  }
  std::shared_ptr<Regex> made(new Regex());
  made->pattern_ = pattern;
  made->code_ = code;
  // Without JIT (a kernel that forbids writable code) the interpreter matches the same.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);

  const uint32_t names = info(code, PCRE2_INFO_NAMECOUNT);
  if (names > kRegexMaxGroups) {
    return Error{"the expression has more than " + std::to_string(kRegexMaxGroups) +
                 " named groups"};
  }
  // Each entry: the number in two bytes, the name, NUL.
  const uint32_t entry_size = info(code, PCRE2_INFO_NAMEENTRYSIZE);
  PCRE2_SPTR table = nullptr;
  pcre2_pattern_info(code, PCRE2_INFO_NAMETABLE, &table);
  struct Group {
    uint32_t number;
    std::string name;
  };
  std::vector<Group> groups;
  for (uint32_t i = 0; i < names; ++i) {
    const unsigned char* entry = table + size_t{i} * entry_size;
    groups.push_back({static_cast<uint32_t>(entry[0]) << 8 | entry[1],
                      reinterpret_cast<const char*>(entry + 2)});
  }
  std::sort(groups.begin(), groups.end(),
            [](const Group& a, const Group& b) { return a.number < b.number; });
  for (Group& group : groups) {
    // The scratch has room for so many groups, named or not, up to the last named one.
    if (group.number > kRegexMaxGroups * 2 + 1) {
      return Error{"the named group " + group.name + " comes after more than " +
                   std::to_string(kRegexMaxGroups * 2) + " groups"};
    }
    made->group_numbers_.push_back(group.number);
    made->group_names_.push_back(std::move(group.name));
  }
  return std::shared_ptr<const Regex>(std::move(made));
}

Regex::~Regex() {
  pcre2_code_free(static_cast<pcre2_code*>(code_));
}

RegexOutcome Regex::match(std::string_view subject, std::string_view* values) const {
  thread_local MatchScratch scratch;
  if (scratch.data == nullptr || scratch.context == nullptr) return RegexOutcome::kLimit;
  // PCRE2 wants a pointer even for no bytes.
  const char* bytes = subject.data() == nullptr ? "" : subject.data();
  const int found =
      pcre2_match(static_cast<const pcre2_code*>(code_), reinterpret_cast<PCRE2_SPTR>(bytes),
                  subject.size(), 0, 0, scratch.data, scratch.context);
  if (found == PCRE2_ERROR_NOMATCH) return RegexOutcome::kNoMatch;
  // 0: it matched, and had more groups than there is room for, all of them unnamed.
  if (found < 0) {
    GH_LOG(kWarn, "expression {} gave up on {} bytes: {}", pattern_, subject.size(),
           pcre2_message(found));
    return RegexOutcome::kLimit;
  }
  if (values != nullptr && !group_numbers_.empty()) {
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.data);
    const uint32_t filled =
        found == 0 ? pcre2_get_ovector_count(scratch.data) : static_cast<uint32_t>(found);
    for (size_t i = 0; i < group_numbers_.size(); ++i) {
      const uint32_t number = group_numbers_[i];
      values[i] = {};
      if (number >= filled || ends[number * 2] == PCRE2_UNSET) continue;
      // \K in a lookahead can put a start behind its end.
      if (ends[number * 2] > ends[number * 2 + 1]) continue;
      values[i] = subject.substr(ends[number * 2], ends[number * 2 + 1] - ends[number * 2]);
    }
  }
  return RegexOutcome::kMatch;
}

}  // namespace gatehouse
