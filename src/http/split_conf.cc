// How a route's upstreams are written. See split_conf.h.
#include "http/split_conf.h"

#include <fmt/format.h>

#include <algorithm>

#include "http/chars.h"
#include "http/cookie.h"

namespace gatehouse {
namespace {

constexpr uint32_t kWhole = 10'000;  // 100 % in hundredths of a percent

// Takes what stands before the next comma that is not in quotation marks.
std::string_view take_part(std::string_view& text, bool& comma) {
  bool quoted = false;
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (quoted && text[end] == '\\') {
      ++end;
    } else if (text[end] == '"') {
      quoted = !quoted;
    } else if (text[end] == ',' && !quoted) {
      break;
    }
  }
  end = std::min(end, text.size());
  comma = end < text.size();
  std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  while (part.starts_with(' ') || part.starts_with('\t')) part.remove_prefix(1);
  while (part.ends_with(' ') || part.ends_with('\t')) part.remove_suffix(1);
  return part;
}

Result<SplitCondition> take_header(std::string_view& text) {
  const std::string_view word = take_word(text);
  const size_t colon = word.find(':');
  const std::string_view name = word.substr(0, colon);
  if (!chars::is_token(name)) {
    return Error{fmt::format("\"{}\" is not the name of a header field", name)};
  }
  SplitCondition condition;
  condition.name = name;
  condition.id = field_id(name);
  if (colon == std::string_view::npos) return condition;
  if (colon + 1 < word.size()) {
    condition.value = word.substr(colon + 1);
    return condition;
  }
  Result<std::string> value = take_quoted_word(text);
  if (!value) return value.error();
  if (!chars::all_of(*value, chars::kValue)) return Error{"no field can have this value"};
  condition.value = std::move(*value);
  return condition;
}

Result<SplitCondition> take_cookie(std::string_view& text) {
  const std::string_view word = take_word(text);
  const size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  if (!chars::is_token(name)) {
    return Error{fmt::format("\"{}\" is not the name of a cookie", name)};
  }
  SplitCondition condition;
  condition.kind = SplitCondition::Kind::kCookie;
  condition.name = name;
  if (equals == std::string_view::npos) return condition;
  const std::string_view value = word.substr(equals + 1);
  if (value.find(';') != std::string_view::npos) return Error{"no cookie has a ; in its value"};
  condition.value = value;
  return condition;
}

Result<SplitCondition> take_condition(std::string_view& text) {
  const std::string_view kind = take_word(text);
  if (kind == "header") return take_header(text);
  if (kind == "cookie") return take_cookie(text);
  return Error{fmt::format("\"if {}\": a condition is about a header or a cookie", kind)};
}

// `sticky cookie NAME`, of which the first word was taken.
Result<std::string> take_sticky(std::string_view& text) {
  if (take_word(text) != "cookie") return Error{"sticky: sticky cookie NAME is what there is"};
  const std::string_view name = take_word(text);
  if (!chars::is_token(name)) {
    return Error{fmt::format("\"{}\" is not the name of a cookie", name)};
  }
  return std::string(name);
}

Result<SplitSide> parse_side(std::string_view text, bool last, std::string& cookie) {
  SplitSide side;
  side.upstream = take_word(text);
  if (side.upstream.empty()) return Error{"a comma without an upstream beside it"};
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (word == "if" && !side.condition) {
      Result<SplitCondition> condition = take_condition(text);
      if (!condition) return condition.error();
      side.condition = std::move(*condition);
    } else if (word == "sticky" && cookie.empty()) {
      if (!last) return Error{"sticky stands at the end, behind the last upstream"};
      Result<std::string> name = take_sticky(text);
      if (!name) return name.error();
      cookie = std::move(*name);
      if (!text.empty()) return Error{"more behind the cookie's name"};
    } else if (!side.share && !side.condition && word.ends_with('%')) {
      const Result<Percent> share = ValueType<Percent>::parse(word);
      if (!share) return Error{fmt::format("\"{}\": {}", word, share.error().message)};
      side.share = *share;
    } else {
      return Error{fmt::format("\"{}\" is neither a share, nor if, nor sticky", word)};
    }
  }
  if (side.share && side.condition) {
    return Error{side.upstream + " has a share and a condition; it may stand there twice"};
  }
  return side;
}

// The sides together: somebody takes every request, and the shares come to the whole.
Result<void> check_sides(const RouteUpstream& upstream) {
  std::vector<const SplitSide*> dealt;  // sides without a condition
  uint32_t sum = 0;
  for (const SplitSide& side : upstream.sides) {
    if (side.condition) continue;
    for (const SplitSide* other : dealt) {
      if (other->upstream == side.upstream) return Error{side.upstream + " is there twice"};
    }
    dealt.push_back(&side);
    if (side.share) sum += side.share->hundredths;
  }
  if (dealt.empty()) return Error{"every upstream has a condition, and one has to take the rest"};
  if (dealt.size() == 1 && !dealt[0]->share) {
    if (upstream.cookie.empty()) return {};
    return Error{"sticky is about shares, and there are none"};
  }
  for (const SplitSide* side : dealt) {
    if (!side->share) return Error{side->upstream + " has neither a share nor a condition"};
  }
  if (sum == kWhole) return {};
  return Error{
      fmt::format("the shares come to {}, not to 100%", fmt::format("{:g}%", sum / 100.0))};
}

}  // namespace

bool SplitCondition::holds(const FieldList& fields) const {
  if (kind == Kind::kCookie) {
    const std::optional<std::string_view> found = find_cookie(fields, name);
    return found && (!value || *found == *value);
  }
  if (!fields.has(id)) return false;
  for (const Field& field : fields) {
    if (field.id != id || field.dropped) continue;
    if (id == FieldId::kOther && !equal_ignoring_case(field.name, name)) continue;
    if (!value || field.value == *value) return true;
  }
  return false;
}

std::string ValueType<SplitCondition>::format(const SplitCondition& condition) {
  if (condition.kind == SplitCondition::Kind::kCookie) {
    return "cookie " + condition.name + (condition.value ? "=" + *condition.value : "");
  }
  if (!condition.value) return "header " + condition.name;
  return "header " + condition.name + ": " + quoted_word(*condition.value, ",");
}

Result<RouteUpstream> ValueType<RouteUpstream>::parse(std::string_view text) {
  RouteUpstream upstream;
  for (bool comma = true; comma;) {
    const std::string_view part = take_part(text, comma);
    Result<SplitSide> side = parse_side(part, !comma, upstream.cookie);
    if (!side) return side.error();
    upstream.sides.push_back(std::move(*side));
    if (upstream.sides.size() > kSplitSidesMax) {
      return Error{fmt::format("more than {} upstreams", kSplitSidesMax)};
    }
  }
  const Result<void> checked = check_sides(upstream);
  if (!checked) return checked.error();
  return upstream;
}

std::string ValueType<RouteUpstream>::format(const RouteUpstream& upstream) {
  std::string text;
  for (const SplitSide& side : upstream.sides) {
    if (!text.empty()) text += ", ";
    text += side.upstream;
    if (side.share) text += " " + ValueType<Percent>::format(*side.share);
    if (side.condition) text += " if " + ValueType<SplitCondition>::format(*side.condition);
  }
  if (!upstream.cookie.empty()) text += " sticky cookie " + upstream.cookie;
  return text;
}

std::string ValueType<RouteUpstream>::expected() {
  return "the name of an [upstream], http://ADDRESS:PORT or https://ADDRESS:PORT; or several: "
         "users 95%, users_next 5%, users_next if header X-Beta: 1";
}

}  // namespace gatehouse
