// Logical lines and their parts.

#include "core/config_lines.h"

#include <algorithm>

#include "core/config_values.h"

namespace gatehouse {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

constexpr bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t') || byte == 0x7F;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_control);
}

// The length of the well-formed UTF-8 character at the front of `text`, 0 when there is none.
size_t character_length(std::string_view text) {
  const auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t length = 0;
  // The second byte has a narrower range after some first bytes: no overlong forms, no
  // surrogates, nothing above U+10FFFF.
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  }
  if (length == 0 || text.size() < length) return 0;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool is_comment(std::string_view trimmed) {
  return !trimmed.empty() && (trimmed.front() == '#' || trimmed.front() == ';');
}

bool continues(std::string_view trimmed) {
  size_t slashes = 0;
  while (slashes < trimmed.size() && trimmed[trimmed.size() - 1 - slashes] == '\\') ++slashes;
  return slashes % 2 == 1;
}

constexpr bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_key(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_word_character(c) || c == '-' || c == '.';
  });
}

bool is_section_name(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_word_character(c) || c == '-' || c == '.' || c == '/' || c == ':' || c == '@';
  });
}

ParsedLine problem_line(std::string problem, std::string expected) {
  ParsedLine parsed;
  parsed.problem = std::move(problem);
  parsed.expected = std::move(expected);
  return parsed;
}

ParsedLine parse_section(std::string_view text) {
  const size_t close = text.find(']');
  if (close == std::string_view::npos) {
    return problem_line("a section without \"]\"", "expected: [kind] or [kind name]");
  }
  if (close + 1 != text.size()) {
    return problem_line("text after \"]\"", "expected: a comment stands on a line of its own");
  }
  std::string_view inside = text.substr(1, close - 1);
  ParsedLine parsed;
  parsed.what = ParsedLine::What::kSection;
  parsed.kind = take_word(inside);
  parsed.name = take_word(inside);
  if (!inside.empty()) {
    return problem_line("more than two words in a section", "expected: [kind] or [kind name]");
  }
  if (!is_key(parsed.kind)) {
    return problem_line("not the kind of a section", "expected: [kind] or [kind name]");
  }
  if (parsed.kind.size() > kMaxKeyBytes) {
    return problem_line("the kind is too long",
                        "expected: at most " + std::to_string(kMaxKeyBytes) + " bytes");
  }
  if (!is_section_name(parsed.name)) {
    return problem_line("a character that the name of a section cannot have",
                        "expected: letters of ASCII, digits and _ - . / : @");
  }
  if (parsed.name.size() > kMaxSectionNameBytes) {
    return problem_line("the name is too long",
                        "expected: at most " + std::to_string(kMaxSectionNameBytes) + " bytes");
  }
  return parsed;
}

}  // namespace

LineCursor::LineCursor(std::string_view text) : rest_(text) {
  if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
}

// One physical line without its end; false at the end of the text.
bool LineCursor::take_physical(std::string_view& physical) {
  if (rest_.empty()) return false;
  const size_t end = rest_.find('\n');
  physical = rest_.substr(0, end);
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (!physical.empty() && physical.back() == '\r') physical.remove_suffix(1);
  ++line_;
  return true;
}

bool LineCursor::next(LogicalLine& line) {
  line = {};
  bool continuing = false;
  std::string_view physical;
  while (take_physical(physical)) {
    const std::string_view trimmed = trim(physical);
    if (!continuing) line.line = line_;
    // Only the first problem of a logical line is told, at the line it is on; the line is then
    // still read to its end, so that its rest is not taken for lines of their own.
    if (line.problem.empty()) {
      if (has_control(physical)) {
        line.line = line_;
        line.problem = "a control byte";
        line.expected = "expected: text, without NUL and other control bytes but tab";
      } else if (!is_comment(trimmed) && !is_utf8(physical)) {
        line.line = line_;
        line.problem = "text that is not UTF-8";
        line.expected = "expected: a file in UTF-8";
      }
    }
    if (is_comment(trimmed)) {
      if (!continuing && !line.problem.empty()) return true;
      continue;
    }
    if (trimmed.empty()) {
      if (!line.problem.empty() || !line.text.empty()) return true;
      continuing = false;  // so far nothing but a lone "\", which is as good as blank
      continue;
    }
    const bool more = continues(trimmed);
    const std::string_view part = more ? trim(trimmed.substr(0, trimmed.size() - 1)) : trimmed;
    if (line.problem.empty() && line.text.size() + part.size() > kMaxConfigValueBytes) {
      line.problem = "the line is too long";
      line.expected = "expected: at most 1m with all its continuation lines";
    }
    if (line.problem.empty()) {
      if (!line.text.empty() && !part.empty()) line.text += ' ';
      line.text += part;
    }
    if (!more) return true;
    continuing = true;
  }
  return !line.problem.empty() || !line.text.empty();
}

ParsedLine parse_line(std::string_view text) {
  if (text.front() == '[') return parse_section(text);
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return problem_line("neither a section nor a key with a value",
                        "expected: key = value, [kind name], or # and a comment");
  }
  ParsedLine parsed;
  parsed.what = ParsedLine::What::kEntry;
  parsed.key = trim(text.substr(0, equals));
  parsed.value = trim(text.substr(equals + 1));
  if (!is_key(parsed.key)) {
    return problem_line("not a key before the \"=\"",
                        "expected: key = value, where a key has a-z, 0-9 and _");
  }
  if (parsed.key.size() > kMaxKeyBytes) {
    return problem_line("unknown key",
                        "no key is longer than " + std::to_string(kMaxKeyBytes) + " bytes");
  }
  return parsed;
}

Result<std::string> expand_variables(std::string_view value, const VariableLookup& lookup) {
  std::string expanded;
  size_t position = 0;
  while (position < value.size()) {
    const size_t dollar = value.find("${", position);
    if (dollar == std::string_view::npos) break;
    if (dollar > position && value[dollar - 1] == '$') {
      expanded += value.substr(position, dollar - 1 - position);
      expanded += "${";
      position = dollar + 2;
      continue;
    }
    expanded += value.substr(position, dollar - position);
    size_t end = dollar + 2;
    while (end < value.size() && is_word_character(value[end])) ++end;
    const std::string_view name = value.substr(dollar + 2, end - dollar - 2);
    if (name.empty() || (name.front() >= '0' && name.front() <= '9') || end == value.size() ||
        value[end] != '}') {
      return Error{"\"${\" without the name of a variable and \"}\""};
    }
    const std::string* content = lookup(name);
    if (content == nullptr) {
      return Error{"the environment has no variable " + std::string(name)};
    }
    if (!is_clean_text(*content)) {
      return Error{"the variable " + std::string(name) + " holds a control byte or is not UTF-8"};
    }
    if (expanded.size() + content->size() > kMaxConfigValueBytes) {
      return Error{"too long with its variables"};
    }
    expanded += *content;
    position = end + 1;
  }
  expanded += value.substr(position);
  return std::string(trim(expanded));
}

bool is_clean_text(std::string_view text) {
  return !has_control(text) && is_utf8(text);
}

}  // namespace gatehouse
