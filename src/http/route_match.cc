// Hosts, paths and methods of a route, read from the configuration; see route_match.h.
#include "http/route_match.h"

#include <algorithm>

#include "core/arena.h"
#include "http/chars.h"
#include "http/host.h"
#include "http/target.h"

namespace gatehouse {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The name of a capture, as $capture_NAME can say it.
bool is_capture_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxKeyBytes) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_'; });
}

std::vector<std::string_view> split_segments(std::string_view path) {
  std::vector<std::string_view> segments;
  path.remove_prefix(1);
  while (true) {
    const size_t slash = path.find('/');
    segments.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

// A literal as a browser would send it: bytes beyond ASCII escaped.
void append_escaped_literal(std::string_view text, std::string& out) {
  constexpr char kHex[] = "0123456789ABCDEF";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
      continue;
    }
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
}

// Reads "{name}" into `segment`. Nothing where the text holds no brace.
Result<bool> read_capture(std::string_view text, const std::vector<PathSegment>& before,
                          PathSegment& segment) {
  if (text.find_first_of("{}") == std::string_view::npos) return false;
  if (text.size() < 2 || text.front() != '{' || text.back() != '}') {
    return Error{"{name} stands for a whole segment, but here is \"" + std::string(text) + "\""};
  }
  const std::string_view name = text.substr(1, text.size() - 2);
  if (!is_capture_name(name)) {
    return Error{"\"" + std::string(name) + "\" is no name for a capture: use a-z, 0-9 and _"};
  }
  if (name == kRestCapture) return Error{"{rest} is the name of what * stands for"};
  for (const PathSegment& earlier : before) {
    if (earlier.capture && earlier.text == name) {
      return Error{"{" + std::string(name) + "} stands twice in the pattern"};
    }
  }
  segment.capture = true;
  segment.text = name;
  return true;
}

// Puts the literals of a pattern into the spelling that request paths are brought to.
Result<void> normalise_literals(PathPattern& pattern) {
  // What is not literal is replaced by something normal, so that the path keeps its shape.
  std::string path;
  for (const PathSegment& segment : pattern.segments) {
    path += '/';
    if (segment.capture) {
      path += 'x';
    } else {
      append_escaped_literal(segment.text, path);
    }
  }
  if (pattern.kind == PathPattern::Kind::kPrefix) path += "/x";

  Arena arena;
  RequestTarget target;
  if (parse_target(path, Method::kGet, TargetOptions{}, arena, target) != Reason::kNone) {
    return Error{"a request with such a path is refused, so the pattern can never match"};
  }
  const std::vector<std::string_view> normal = split_segments(target.path);
  const size_t extra = pattern.kind == PathPattern::Kind::kPrefix ? 1 : 0;
  bool changed = normal.size() != pattern.segments.size() + extra;
  for (size_t i = 0; i < pattern.segments.size() && !changed; ++i) {
    // "." at the end becomes an empty segment.
    if (!pattern.segments[i].capture && normal[i].empty()) {
      changed = !pattern.segments[i].text.empty();
    }
  }
  if (changed) {
    return Error{
        "the pattern can never match: empty, \".\" and \"..\" segments are removed from paths "
        "before they are compared"};
  }
  for (size_t i = 0; i < pattern.segments.size(); ++i) {
    if (!pattern.segments[i].capture) pattern.segments[i].text = normal[i];
  }
  return {};
}

Result<PathPattern> parse_regex_path(std::string_view text) {
  PathPattern pattern;
  pattern.kind = PathPattern::Kind::kRegex;
  Result<std::shared_ptr<const Regex>> regex = Regex::compile(text);
  if (!regex) return regex.error();
  for (const std::string& name : (*regex)->group_names()) {
    if (!is_capture_name(name)) {
      return Error{"the group's name \"" + name + "\" cannot be a variable: use a-z, 0-9 and _"};
    }
  }
  pattern.regex = std::move(*regex);
  return pattern;
}

}  // namespace

bool HostPattern::matches(std::string_view host) const {
  switch (kind) {
    case Kind::kExact:
      return host == name;
    case Kind::kWildcard:
      return host.size() > name.size() && host.ends_with(name);
    case Kind::kAny:
      return true;
  }
  return false;
}

bool PathPattern::literal() const {
  return kind == Kind::kExact && std::none_of(segments.begin(), segments.end(),
                                              [](const PathSegment& s) { return s.capture; });
}

std::string PathPattern::shape() const {
  if (kind == Kind::kRegex) return "~ " + regex->pattern();
  std::string text;
  for (const PathSegment& segment : segments) {
    text += '/';
    text += segment.capture ? "{}" : segment.text;
  }
  if (kind == Kind::kPrefix) text += "/*";
  return text;
}

Result<HostPattern> ValueType<HostPattern>::parse(std::string_view text) {
  HostPattern pattern;
  if (text == "*") return pattern;
  const bool wildcard = text.starts_with("*.");
  std::string_view name = text;
  if (wildcard) name.remove_prefix(2);
  if (name.find('*') != std::string_view::npos) {
    return Error{"a * stands only for the whole host or for its first labels"};
  }
  if (std::any_of(name.begin(), name.end(), [](char c) { return (c & 0x80) != 0; })) {
    return Error{"a host with other than ASCII letters is written as requests have it: xn--…"};
  }
  if (name.find("://") != std::string_view::npos) return Error{"this is a URL, not a host"};
  Arena arena;
  Authority authority;
  if (!parse_authority(name, arena, authority)) return Error{"this is not a host name"};
  if (authority.port != 0 || (name.back() == ':')) {
    return Error{"a host has no port here: ports belong to the listener"};
  }
  pattern.kind = wildcard ? HostPattern::Kind::kWildcard : HostPattern::Kind::kExact;
  pattern.name = authority.host;
  if (wildcard) {
    const std::string_view last = authority.host.substr(authority.host.rfind('.') + 1);
    const bool number = std::all_of(last.begin(), last.end(), is_digit);
    if (number || authority.host.front() == '[') return Error{"only names have wildcards"};
    pattern.name.insert(0, ".");
  }
  return pattern;
}

std::string ValueType<HostPattern>::format(const HostPattern& pattern) {
  switch (pattern.kind) {
    case HostPattern::Kind::kExact:
      return pattern.name;
    case HostPattern::Kind::kWildcard:
      return "*" + pattern.name;
    case HostPattern::Kind::kAny:
      return "*";
  }
  return {};
}

std::string ValueType<HostPattern>::expected() {
  return "hosts without port: www.example.com, *.example.com or *";
}

Result<PathPattern> ValueType<PathPattern>::parse(std::string_view text) {
  if (text.starts_with('~')) {
    text.remove_prefix(1);
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    return parse_regex_path(text);
  }
  if (!text.starts_with('/')) return Error{"a path begins with /"};
  if (text.find_first_of(" \t") != std::string_view::npos) {
    return Error{"a path holds no blank; further paths have lines of their own"};
  }
  if (text.find('?') != std::string_view::npos) {
    return Error{"the query is no part of the path: use the key query"};
  }
  PathPattern pattern;
  std::vector<std::string_view> parts = split_segments(text);
  if (parts.back() == "*") {
    pattern.kind = PathPattern::Kind::kPrefix;
    parts.pop_back();
  }
  if (parts.size() > kMaxPatternSegments) {
    return Error{"the pattern has more than " + std::to_string(kMaxPatternSegments) + " segments"};
  }
  size_t captures = 0;
  for (const std::string_view part : parts) {
    if (part.find('*') != std::string_view::npos) {
      return Error{"a * stands only for all after the last slash, as in /a/*"};
    }
    PathSegment segment;
    Result<bool> capture = read_capture(part, pattern.segments, segment);
    if (!capture) return capture.error();
    if (*capture) {
      ++captures;
    } else {
      segment.text = part;
    }
    pattern.segments.push_back(std::move(segment));
  }
  if (captures > kMaxPatternCaptures) {
    return Error{"the pattern has more than " + std::to_string(kMaxPatternCaptures) + " {name}s"};
  }
  Result<void> normalised = normalise_literals(pattern);
  if (!normalised) return normalised.error();
  return pattern;
}

std::string ValueType<PathPattern>::format(const PathPattern& pattern) {
  if (pattern.kind == PathPattern::Kind::kRegex) return "~ " + pattern.regex->pattern();
  std::string text;
  for (const PathSegment& segment : pattern.segments) {
    text += '/';
    text += segment.capture ? "{" + segment.text + "}" : segment.text;
  }
  if (pattern.kind == PathPattern::Kind::kPrefix) text += "/*";
  return text;
}

std::string ValueType<PathPattern>::expected() {
  return "a path: /exact, /prefix/*, /users/{id} or ~ ^/expression$";
}

Result<MethodName> ValueType<MethodName>::parse(std::string_view text) {
  if (text.empty() || !chars::all_of(text, chars::kToken)) return Error{"this is not a method"};
  MethodName method{std::string(text), method_id(text)};
  if (method.id == Method::kOther) {
    std::string upper(text);
    for (char& c : upper) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    // The parser refuses known methods in another case, so that it could never match.
    if (method_id(upper) != Method::kOther) {
      return Error{"methods are told apart by case: write " + upper};
    }
  }
  return method;
}

std::string ValueType<MethodName>::format(const MethodName& method) {
  return method.name;
}

std::string ValueType<MethodName>::expected() {
  return "methods: GET POST …";
}

}  // namespace gatehouse
