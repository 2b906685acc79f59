// Which gRPC calls a route is for: the value of the route's key `grpc`, and what it stands for.
//
//   grpc = helloworld.Greeter             every method of a service
//   grpc = helloworld.Greeter/SayHello    one of them
//   grpc = *                              all calls
//
// A call is a POST to /SERVICE/METHOD whose Content-Type is that of gRPC or gRPC-Web; the key is
// turned into just these conditions, so that routing, ties and explain know nothing of it.
#pragma once

#include <string>
#include <string_view>

#include "core/config_values.h"
#include "core/result.h"

namespace gatehouse {

struct RouteConf;
class ConfigSection;

struct GrpcPattern {
  std::string service;  // with its package; empty: any
  std::string method;   // empty: any
};

template <>
struct ValueType<GrpcPattern> {
  static Result<GrpcPattern> parse(std::string_view text);
  static std::string format(const GrpcPattern& pattern);
  static std::string expected();
  static constexpr bool kWord = true;
};

// The settings of a route for gRPC, with path, method and header as its `grpc` wants them. Streams
// may last: where the section and its defaults do not say otherwise, a body has no largest size and
// may rest for idle_timeout. REQUIRES: conf.grpc is not empty.
RouteConf grpc_route_conf(const RouteConf& conf, const ConfigSection& section);

}  // namespace gatehouse
