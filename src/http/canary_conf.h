// [canary NAME]: a new upstream that gets a growing share of a route's requests.
//
//   [canary beta]
//   route          = users
//   upstream       = users_next
//   steps          = 5% 25% 50% 100%
//   interval       = 5m
//   min_requests   = 100
//   max_error_rate = 1% over stable
//   max_latency    = 1.5
//   on_failure     = rollback
//
// The route names the stable upstream alone, or both with their shares, which hold until the canary
// begins. core/canary.h tells how it stands; the agent decides (agent/canary.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/canary.h"
#include "core/config.h"
#include "core/directive.h"
#include "http/split_conf.h"

namespace gatehouse {

// `1%`, or `1% over stable`.
struct CanaryErrorRate {
  Percent rate{100};
  bool over_stable = false;
  friend bool operator==(const CanaryErrorRate&, const CanaryErrorRate&) = default;
};

struct CanaryConf {
  std::string route;
  std::string upstream;
  std::vector<Percent> steps = {Percent{500}, Percent{2500}, Percent{5000}, Percent{10000}};
  Duration interval = std::chrono::minutes(5);
  uint32_t min_requests = 100;
  CanaryErrorRate max_error_rate;
  double max_latency = 0;
  CanaryRules::OnFailure on_failure = CanaryRules::OnFailure::kRollback;

  CanaryRules rules() const;
};

// The route's upstreams with the new side among them, at 0 % where the route does not name it. The
// error says why this route can have no such canary.
Result<RouteUpstream> with_canary(const RouteUpstream& route, const std::string& fresh);

extern const DirectiveTable kCanaryTable;

template <>
struct ValueType<CanaryErrorRate> {
  static Result<CanaryErrorRate> parse(std::string_view text);
  static std::string format(const CanaryErrorRate& rate);
  static std::string expected();
};

inline constexpr EnumName<CanaryRules::OnFailure> kOnFailureNames[] = {
    {CanaryRules::OnFailure::kRollback, "rollback"}, {CanaryRules::OnFailure::kPause, "pause"}};
template <>
struct ValueType<CanaryRules::OnFailure> : EnumValueType<CanaryRules::OnFailure, kOnFailureNames> {
};

}  // namespace gatehouse
