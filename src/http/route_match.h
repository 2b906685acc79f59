// What a route matches by: hosts, paths, methods, header fields and query parameters, as values of
// the configuration.
//
//   host   = api.example.com            exactly this host
//   host   = *.example.com              any host below it, at any depth, not example.com itself
//   host   = *                          any host, and none (HTTP/1.0)
//   path   = /v1/users                  exactly this path
//   path   = /v1/users/*                /v1/users, /v1/users/ and all below; not /v1/users-old
//   path   = /v1/users/{id}             one segment that is not empty, kept as $capture_id
//   path   = ~ ^/v(?<version>\d+)/      a PCRE2 expression, searched; named groups are captures
//   method = GET POST                   one of these; GET takes HEAD too
//   header = X-Beta                     the field is there
//   header = !X-Beta                    it is not there
//   header = X-Beta: yes                one of its lines has exactly this value
//   header = X-Beta: ~^(yes|on)$        one of its lines matches the expression
//   query  = debug | !debug | debug=1 | debug=~^\d$
//
// "/v1/users/*" takes "/v1/users" as well, because who guards a folder means its name too: a route
// that protects /admin/* and lets /admin through would be a hole. What `*` stood for is kept as
// $capture_rest, without the slash before it.
//
// Hosts and paths are brought to the one spelling that requests are brought to (http/host.h,
// http/target.h), so that they compare byte by byte; a pattern that no request could match is an
// error. Paths compare with regard to case. Of hosts, paths and methods one has to match; header
// and query conditions have to hold all. Parameters of a query are split at '&'; %XX and '+' are
// decoded before they are compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_values.h"
#include "core/result.h"
#include "http/field.h"
#include "http/method.h"
#include "http/regex.h"

namespace gatehouse {

// The deepest path pattern, in segments.
inline constexpr size_t kMaxPatternSegments = 64;
// How many {name} segments a path pattern may have; `*` and the names fit Exchange::captures.
inline constexpr size_t kMaxPatternCaptures = 15;
// The name under which the part of the path that `*` stood for is kept.
inline constexpr std::string_view kRestCapture = "rest";

struct HostPattern {
  enum class Kind : uint8_t { kExact, kWildcard, kAny };
  Kind kind = Kind::kAny;
  // kExact: the host. kWildcard: the suffix with its dot, ".example.com". kAny: empty.
  std::string name;

  // `host` in its one spelling; empty where the request named none.
  bool matches(std::string_view host) const;
  friend bool operator==(const HostPattern&, const HostPattern&) = default;
};

// One segment of a path pattern: the text between two slashes, or a {name}.
struct PathSegment {
  bool capture = false;
  std::string text;  // the literal (may be empty at the end: "/a/"), or the name
  friend bool operator==(const PathSegment&, const PathSegment&) = default;
};

struct PathPattern {
  enum class Kind : uint8_t { kExact, kPrefix, kRegex };
  Kind kind = Kind::kExact;
  // The path from its first slash, segment by segment, without the `*`: "/" is one empty segment,
  // "/*" none.
  std::vector<PathSegment> segments;
  std::shared_ptr<const Regex> regex;  // kRegex

  bool literal() const;  // kExact without {name}
  // The pattern without its captures' names: equal for patterns that match the same paths.
  // For kRegex the expression.
  std::string shape() const;
};

struct MethodName {
  std::string name;
  Method id = Method::kOther;
  friend bool operator==(const MethodName&, const MethodName&) = default;
};

enum class ConditionKind : uint8_t { kPresent, kAbsent, kEquals, kRegex };

// A condition on the request's header fields. A field that a hook took away (a forwarded field
// from a client that is not trusted) is not there; hop-by-hop fields such as Upgrade are.
struct FieldCondition {
  ConditionKind kind = ConditionKind::kPresent;
  std::string name;
  FieldId id = FieldId::kOther;
  std::string value;  // kEquals
  std::shared_ptr<const Regex> regex;

  bool holds(const FieldList& fields) const;
};

struct QueryCondition {
  ConditionKind kind = ConditionKind::kPresent;
  std::string name;   // decoded
  std::string value;  // kEquals, decoded
  std::shared_ptr<const Regex> regex;

  // `query` without its '?'.
  bool holds(std::string_view query) const;
};

// True where no request could fulfil both, save one that repeats the field or parameter: one
// wants it and the other does not, or they want two different values.
bool exclude_each_other(const FieldCondition& a, const FieldCondition& b);
bool exclude_each_other(const QueryCondition& a, const QueryCondition& b);

// The value of the first parameter of that (decoded) name, as it stands in the query, not
// decoded; false where there is none.
bool find_query_parameter(std::string_view query, std::string_view name, std::string_view& value);

template <>
struct ValueType<HostPattern> {
  static Result<HostPattern> parse(std::string_view text);
  static std::string format(const HostPattern& pattern);
  static std::string expected();
  static constexpr bool kWord = true;
};

template <>
struct ValueType<PathPattern> {
  static Result<PathPattern> parse(std::string_view text);
  static std::string format(const PathPattern& pattern);
  static std::string expected();
};

template <>
struct ValueType<MethodName> {
  static Result<MethodName> parse(std::string_view text);
  static std::string format(const MethodName& method);
  static std::string expected();
  static constexpr bool kWord = true;
};

template <>
struct ValueType<FieldCondition> {
  static Result<FieldCondition> parse(std::string_view text);
  static std::string format(const FieldCondition& condition);
  static std::string expected();
};

template <>
struct ValueType<QueryCondition> {
  static Result<QueryCondition> parse(std::string_view text);
  static std::string format(const QueryCondition& condition);
  static std::string expected();
};

}  // namespace gatehouse
