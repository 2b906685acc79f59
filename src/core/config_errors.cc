// Wording and order of configuration errors, and the search for what somebody meant.

#include "core/config_errors.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace gatehouse {

namespace {

// Cuts at the limit, but never inside a UTF-8 character, and shows control bytes as \xNN so that
// an error neither spans lines nor talks to the terminal.
std::string quote(std::string_view value) {
  bool cut = false;
  if (value.size() > kMaxQuotedValue) {
    size_t end = kMaxQuotedValue;
    while (end > kMaxQuotedValue - 4 && (static_cast<unsigned char>(value[end]) & 0xC0) == 0x80) {
      --end;
    }
    value = value.substr(0, end);
    cut = true;
  }
  std::string shown;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      constexpr char kHex[] = "0123456789ABCDEF";
      shown += "\\x";
      shown += kHex[byte >> 4];
      shown += kHex[byte & 0xF];
    } else {
      shown += c;
    }
  }
  if (cut) shown += "…";
  return shown;
}

void append_error(std::string& text, const ConfigError& error) {
  text += error.where;
  text += ": ";
  if (!error.section.empty()) {
    text += error.section;
    text += error.key.empty() ? ": " : " ";
  }
  if (!error.key.empty()) {
    text += error.key;
    if (!error.value.empty()) {
      text += " = ";
      text += error.value;
    }
    text += ": ";
  } else if (!error.value.empty()) {
    text += error.value;
    text += ": ";
  }
  text += error.problem;
  text += '\n';
  if (!error.expected.empty()) {
    text += "    ";
    text += error.expected;
    text += '\n';
  }
}

// The number of letters to insert, drop, replace or swap with their neighbour (optimal string
// alignment), in three rows of memory. Both words are short: keys, kinds, names.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> above(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({row[j - 1] + 1, above[j] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

void ConfigErrors::add(ConfigError error) {
  ++count_;
  if (full()) return;
  error.section = quote(error.section);
  error.key = quote(error.key);
  error.value = quote(error.value);
  kept_.push_back(std::move(error));
}

std::string ConfigErrors::text() const {
  std::vector<const ConfigError*> sorted;
  for (const ConfigError& error : kept_) sorted.push_back(&error);
  std::stable_sort(sorted.begin(), sorted.end(), [](const ConfigError* a, const ConfigError* b) {
    return std::pair(a->origin.file, a->origin.line) < std::pair(b->origin.file, b->origin.line);
  });
  std::string text;
  for (const ConfigError* error : sorted) append_error(text, *error);
  const size_t more = count_ - kept_.size();
  if (more > 0) {
    text += "… and " + std::to_string(more) + (more == 1 ? " more error\n" : " more errors\n");
  }
  return text;
}

std::string_view nearest_word(std::string_view word, const std::vector<std::string_view>& among) {
  std::string_view best;
  size_t best_distance = 0;
  for (std::string_view candidate : among) {
    const size_t longer = std::max(word.size(), candidate.size());
    const size_t allowed = std::max<size_t>(1, longer / 3);
    const size_t shorter = std::min(word.size(), candidate.size());
    if (longer - shorter > allowed) continue;  // the distance cannot be less
    const size_t distance = edit_distance(word, candidate);
    if (distance > allowed || distance >= longer) continue;
    if (best.empty() || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace gatehouse
