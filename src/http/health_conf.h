// The keys of [upstream] that the agent works by: health (active checks) and discover (where
// targets come from).
//
//   health   = GET /healthz every 5s timeout 2s jitter 10% expect 200-299 404 header "X-Ready: yes"
//              body "all well" host app.example.com port 8081 rise 2 fall 3
//   health   = tcp every 2s
//   health   = grpc service helloworld.Greeter every 5s
//   discover = dns
//   discover = dns srv every 10s
//   discover = file /etc/gatehouse/users.json
//   discover = api
//
// What they mean is in core/traffic_plan.h; words may come in any order behind the first.
#pragma once

#include <string>
#include <string_view>

#include "core/directive.h"
#include "core/traffic_plan.h"

namespace gatehouse {

struct UpstreamHealthConf {
  HealthCheck health;
  Discovery discover;
};

extern const DirectiveTable kUpstreamHealthTable;

template <>
struct ValueType<HealthCheck> {
  static Result<HealthCheck> parse(std::string_view text);
  static std::string format(const HealthCheck& check);
  static std::string expected();
};

template <>
struct ValueType<Discovery> {
  static Result<Discovery> parse(std::string_view text);
  static std::string format(const Discovery& discovery);
  static std::string expected();
};

}  // namespace gatehouse
