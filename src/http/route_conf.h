// The settings of [listener] and [route] that belong to HTTP itself, and their directive tables
// (route_conf.cc). Matching keys of a route live in router.h's types; those of [upstream] are in
// upstream_conf.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/directive.h"
#include "core/sockets.h"
#include "core/units.h"
#include "http/grpc_pattern.h"
#include "http/route_match.h"
#include "http/split_conf.h"

namespace gatehouse {

struct ListenerConf {
  std::vector<NetworkPrefix> trusted_proxy;
  Duration header_timeout = std::chrono::seconds(10);
  Duration keepalive_timeout = std::chrono::seconds(75);
  uint32_t keepalive_requests = 0;  // 0: no cap
  Duration write_timeout = std::chrono::seconds(30);
  Duration half_close_timeout = std::chrono::seconds(1);
  Duration linger_timeout = std::chrono::seconds(2);
  Bytes head_max = 32_KiB;
  uint32_t fields_max = 100;
  Bytes target_max = 8_KiB;
  bool http2 = true;
  bool proxy_protocol = false;
};

struct RouteConf {
  // Where it applies; see route_match.h.
  std::vector<std::string> listener;
  std::vector<HostPattern> host;
  std::vector<PathPattern> path;
  std::vector<MethodName> method;
  std::vector<FieldCondition> header;
  std::vector<QueryCondition> query;
  std::vector<GrpcPattern> grpc;
  // What it does: where the request goes. Other actions belong to modules.
  RouteUpstream upstream;
  std::string sticky_secret;
  // Limits and timeouts.
  Bytes body_max = Bytes{8 * 1024 * 1024};
  Duration body_timeout = std::chrono::seconds(30);
  Duration idle_timeout = std::chrono::hours(1);
};

template <>
struct ValueType<NetworkPrefix> {
  static Result<NetworkPrefix> parse(std::string_view text);
  static std::string format(const NetworkPrefix& prefix);
  static std::string expected();
  static constexpr bool kWord = true;
};

extern const DirectiveTable kListenerTable;
extern const DirectiveTable kRouteTable;

}  // namespace gatehouse
