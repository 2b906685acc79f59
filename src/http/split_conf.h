// Where a route's requests go: the value of `[route] upstream`.
//
//   upstream = users
//   upstream = http://127.0.0.1:3000
//   upstream = users 95%, users_next 5%
//   upstream = users 95%, users_next 5% sticky cookie side
//   upstream = users, users_next if header X-Beta: 1
//   upstream = users 90%, users_next 10%, users_next if cookie beta=yes sticky cookie side
//
// Sides stand between commas: an upstream's name or the URL of one server, and its share or its
// condition. Sides with a condition are looked at first, in the order in which they stand, and the
// first one that holds takes the request. The others share what is left: one alone takes all of it,
// several have shares that come to 100%. A condition without a value asks whether the field or the
// cookie is there; a field's value with blanks or commas stands in quotation marks.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_values.h"
#include "http/field.h"

namespace gatehouse {

inline constexpr size_t kSplitSidesMax = 32;

// `if header NAME: VALUE` or `if cookie NAME=VALUE`.
struct SplitCondition {
  enum class Kind : uint8_t { kHeader, kCookie };
  Kind kind = Kind::kHeader;
  std::string name;
  FieldId id = FieldId::kOther;      // of a field
  std::optional<std::string> value;  // none: it has to be there

  bool holds(const FieldList& fields) const;
  friend bool operator==(const SplitCondition&, const SplitCondition&) = default;
};

struct SplitSide {
  std::string upstream;  // a name or a URL
  std::optional<Percent> share;
  std::optional<SplitCondition> condition;
  friend bool operator==(const SplitSide&, const SplitSide&) = default;
};

struct RouteUpstream {
  std::vector<SplitSide> sides;  // none: the key is not there
  std::string cookie;            // of `sticky cookie`; empty: each request is dealt anew

  bool empty() const { return sides.empty(); }
  // One side that takes everything.
  bool is_single() const {
    return sides.size() == 1 && !sides[0].share && !sides[0].condition && cookie.empty();
  }
  friend bool operator==(const RouteUpstream&, const RouteUpstream&) = default;
};

template <>
struct ValueType<SplitCondition> {
  static std::string format(const SplitCondition& condition);
};

template <>
struct ValueType<RouteUpstream> {
  static Result<RouteUpstream> parse(std::string_view text);
  static std::string format(const RouteUpstream& upstream);
  static std::string expected();
};

}  // namespace gatehouse
