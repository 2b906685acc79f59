// See failure_set.h.
#include "http/failure_set.h"

#include <algorithm>

namespace gatehouse {
namespace {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

FailureSet FailureSet::usual() {
  FailureSet set;
  std::string why;
  for (const std::string_view word : kWords) (void)set.add_word(word, why);
  (void)set.add_word("5xx", why);
  return set;
}

bool FailureSet::add_word(std::string_view word, std::string& why) {
  for (size_t i = 0; i < std::size(kWords); ++i) {
    if (word != kWords[i]) continue;
    ways_ |= static_cast<uint8_t>(1u << i);
    return true;
  }
  if (word.size() == 3 && is_digit(word[0]) && word.substr(1) == "xx") {
    if (word[0] != '4' && word[0] != '5') {
      why = "\"" + std::string(word) + "\" is no failure: 4xx and 5xx can be";
      return false;
    }
    const unsigned first = word[0] == '4' ? 400 : 500;
    for (unsigned status = first; status < first + 100; ++status) add_status(status);
    return true;
  }
  if (word.size() != 3 || !std::all_of(word.begin(), word.end(), is_digit)) return false;
  const unsigned status = static_cast<unsigned>(word[0] - '0') * 100 +
                          static_cast<unsigned>(word[1] - '0') * 10 +
                          static_cast<unsigned>(word[2] - '0');
  if (status < kFirstStatus || status > kLastStatus) {
    why = "\"" + std::string(word) + "\" is no failure: 400 to 599 can be";
    return false;
  }
  add_status(status);
  return true;
}

std::string FailureSet::format() const {
  std::string text;
  const auto add = [&text](std::string_view word) {
    if (!text.empty()) text += ' ';
    text += word;
  };
  for (size_t i = 0; i < std::size(kWords); ++i) {
    if ((ways_ >> i & 1) != 0) add(kWords[i]);
  }
  for (unsigned first = kFirstStatus; first <= kLastStatus; first += 100) {
    bool whole = true;
    for (unsigned i = 0; i < 100; ++i) whole = whole && has_status(first + i);
    if (whole) {
      add(first == 400 ? "4xx" : "5xx");
      continue;
    }
    for (unsigned status = first; status < first + 100; ++status) {
      if (has_status(status)) add(std::to_string(status));
    }
  }
  return text;
}

}  // namespace gatehouse
