// Conditions on header fields and query parameters; see route_match.h.
#include <fmt/format.h>

#include <algorithm>

#include "http/chars.h"
#include "http/route_match.h"

namespace gatehouse {

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The next decoded byte of a query; `at` moves behind it. A '%' that begins no escape is itself.
char next_decoded(std::string_view text, size_t& at) {
  const char c = text[at++];
  if (c == '+') return ' ';
  if (c != '%' || at + 2 > text.size()) return c;
  const int high = hex_digit(text[at]);
  const int low = hex_digit(text[at + 1]);
  if (high < 0 || low < 0) return c;
  at += 2;
  return static_cast<char>(high << 4 | low);
}

bool equals_decoded(std::string_view raw, std::string_view decoded) {
  if (raw.size() < decoded.size()) return false;
  size_t at = 0;
  for (const char c : decoded) {
    if (at == raw.size() || next_decoded(raw, at) != c) return false;
  }
  return at == raw.size();
}

void decode(std::string_view raw, fmt::memory_buffer& out) {
  for (size_t at = 0; at < raw.size();) out.push_back(next_decoded(raw, at));
}

struct Parameter {
  std::string_view name;
  std::string_view value;
};

// Takes the first parameter off a query; parameters without '=' have an empty value.
Parameter take_parameter(std::string_view& query) {
  const size_t end = std::min(query.find('&'), query.size());
  const std::string_view pair = query.substr(0, end);
  query.remove_prefix(std::min(end + 1, query.size()));
  const size_t equals = pair.find('=');
  if (equals == std::string_view::npos) return {pair, {}};
  return {pair.substr(0, equals), pair.substr(equals + 1)};
}

bool value_holds(const QueryCondition& condition, std::string_view raw) {
  switch (condition.kind) {
    case ConditionKind::kEquals:
      return equals_decoded(raw, condition.value);
    case ConditionKind::kRegex: {
      if (raw.find_first_of("%+") == std::string_view::npos) {
        return condition.regex->match(raw) == RegexOutcome::kMatch;
      }
      fmt::memory_buffer decoded;
      decode(raw, decoded);
      return condition.regex->match({decoded.data(), decoded.size()}) == RegexOutcome::kMatch;
    }
    case ConditionKind::kPresent:
    case ConditionKind::kAbsent:
      return true;
  }
  return false;
}

// What hooks took away is not there; hop-by-hop fields are dropped too, but are the client's word.
bool visible(const Field& field) {
  if (!field.dropped) return true;
  const FieldKind kind = field_kind(field.id);
  return kind == FieldKind::kHopByHop || kind == FieldKind::kFraming;
}

bool value_holds(const FieldCondition& condition, std::string_view value) {
  switch (condition.kind) {
    case ConditionKind::kEquals:
      return value == condition.value;
    case ConditionKind::kRegex:
      return condition.regex->match(value) == RegexOutcome::kMatch;
    case ConditionKind::kPresent:
    case ConditionKind::kAbsent:
      return true;
  }
  return false;
}

// The part of exclude_each_other() that is the same for fields and parameters of one name.
template <class Condition>
bool kinds_exclude(const Condition& a, const Condition& b) {
  if (a.kind == ConditionKind::kAbsent || b.kind == ConditionKind::kAbsent) {
    return a.kind != b.kind;
  }
  return a.kind == ConditionKind::kEquals && b.kind == ConditionKind::kEquals && a.value != b.value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string decoded_string(std::string_view raw) {
  fmt::memory_buffer out;
  decode(raw, out);
  return {out.data(), out.size()};
}

// The reverse: what decodes to `text` and can be written in a configuration.
std::string encoded_string(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7F &&
        std::string_view("%+&=!~#;\\$").find(c) == std::string::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

}  // namespace

bool FieldCondition::holds(const FieldList& fields) const {
  if (!fields.has(id)) return kind == ConditionKind::kAbsent;
  for (const Field& field : fields) {
    if (field.id != id || !visible(field)) continue;
    if (id == FieldId::kOther && !equal_ignoring_case(field.name, name)) continue;
    if (kind == ConditionKind::kAbsent) return false;
    if (value_holds(*this, field.value)) return true;
  }
  return kind == ConditionKind::kAbsent;
}

bool QueryCondition::holds(std::string_view query) const {
  while (!query.empty()) {
    const Parameter parameter = take_parameter(query);
    if (!equals_decoded(parameter.name, name)) continue;
    if (kind == ConditionKind::kAbsent) return false;
    if (value_holds(*this, parameter.value)) return true;
  }
  return kind == ConditionKind::kAbsent;
}

bool exclude_each_other(const FieldCondition& a, const FieldCondition& b) {
  return equal_ignoring_case(a.name, b.name) && kinds_exclude(a, b);
}

bool exclude_each_other(const QueryCondition& a, const QueryCondition& b) {
  return a.name == b.name && kinds_exclude(a, b);
}

bool find_query_parameter(std::string_view query, std::string_view name, std::string_view& value) {
  while (!query.empty()) {
    const Parameter parameter = take_parameter(query);
    if (!equals_decoded(parameter.name, name)) continue;
    value = parameter.value;
    return true;
  }
  return false;
}

Result<FieldCondition> ValueType<FieldCondition>::parse(std::string_view text) {
  FieldCondition condition;
  if (text.starts_with('!')) {
    condition.kind = ConditionKind::kAbsent;
    text = trim(text.substr(1));
    if (text.find(':') != std::string_view::npos) {
      return Error{"! says that the field is not there; it takes no value"};
    }
  }
  const size_t colon = text.find(':');
  const std::string_view name = trim(text.substr(0, colon));
  if (name.empty() || !chars::all_of(name, chars::kToken)) {
    return Error{"\"" + std::string(name) + "\" is not the name of a header field"};
  }
  condition.name = name;
  condition.id = field_id(name);
  if (colon == std::string_view::npos) return condition;
  const std::string_view value = trim(text.substr(colon + 1));
  if (!value.starts_with('~')) {
    condition.kind = ConditionKind::kEquals;
    condition.value = value;
    return condition;
  }
  Result<std::shared_ptr<const Regex>> regex = Regex::compile(trim(value.substr(1)));
  if (!regex) return regex.error();
  condition.kind = ConditionKind::kRegex;
  condition.regex = std::move(*regex);
  return condition;
}

std::string ValueType<FieldCondition>::format(const FieldCondition& condition) {
  switch (condition.kind) {
    case ConditionKind::kPresent:
      return condition.name;
    case ConditionKind::kAbsent:
      return "!" + condition.name;
    case ConditionKind::kEquals:
      return condition.name + ": " + condition.value;
    case ConditionKind::kRegex:
      return condition.name + ": ~" + condition.regex->pattern();
  }
  return {};
}

std::string ValueType<FieldCondition>::expected() {
  return "Name, !Name, Name: value or Name: ~expression";
}

Result<QueryCondition> ValueType<QueryCondition>::parse(std::string_view text) {
  QueryCondition condition;
  if (text.starts_with('!')) {
    condition.kind = ConditionKind::kAbsent;
    text = trim(text.substr(1));
    if (text.find('=') != std::string_view::npos) {
      return Error{"! says that the parameter is not there; it takes no value"};
    }
  }
  const size_t equals = text.find('=');
  const std::string_view name = trim(text.substr(0, equals));
  if (name.empty()) return Error{"the parameter has no name"};
  if (name.find_first_of("?& \t") != std::string_view::npos) {
    return Error{"one parameter a line, without ? and &"};
  }
  condition.name = decoded_string(name);
  if (equals == std::string_view::npos) return condition;
  const std::string_view value = trim(text.substr(equals + 1));
  if (value.starts_with('~')) {
    Result<std::shared_ptr<const Regex>> regex = Regex::compile(trim(value.substr(1)));
    if (!regex) return regex.error();
    condition.kind = ConditionKind::kRegex;
    condition.regex = std::move(*regex);
    return condition;
  }
  if (value.find('&') != std::string_view::npos) return Error{"one parameter a line, without &"};
  condition.kind = ConditionKind::kEquals;
  condition.value = decoded_string(value);
  return condition;
}

std::string ValueType<QueryCondition>::format(const QueryCondition& condition) {
  std::string name = encoded_string(condition.name);
  switch (condition.kind) {
    case ConditionKind::kPresent:
      return name;
    case ConditionKind::kAbsent:
      return "!" + name;
    case ConditionKind::kEquals:
      return name + "=" + encoded_string(condition.value);
    case ConditionKind::kRegex:
      return name + "=~" + condition.regex->pattern();
  }
  return {};
}

std::string ValueType<QueryCondition>::expected() {
  return "name, !name, name=value or name=~expression";
}

}  // namespace gatehouse
