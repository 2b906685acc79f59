// The route's key `grpc`; see grpc_pattern.h.
#include "http/grpc_pattern.h"

#include <cassert>

#include "core/config.h"
#include "http/route_conf.h"

namespace gatehouse {

namespace {

bool is_name(std::string_view text, bool with_dots) {
  if (text.empty() || text.front() == '.' || text.back() == '.') return false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    const bool digit = c >= '0' && c <= '9';
    if (!letter && !digit && !(with_dots && c == '.')) return false;
  }
  return text.find("..") == text.npos;
}

PathPattern path_of(const GrpcPattern& pattern) {
  PathPattern path;
  path.kind = PathPattern::Kind::kExact;
  path.segments.push_back(
      {pattern.service.empty(), pattern.service.empty() ? "grpc_service" : pattern.service});
  path.segments.push_back(
      {pattern.method.empty(), pattern.method.empty() ? "grpc_method" : pattern.method});
  return path;
}

}  // namespace

Result<GrpcPattern> ValueType<GrpcPattern>::parse(std::string_view text) {
  if (text == "*") return GrpcPattern();
  const size_t slash = text.find('/');
  const std::string_view service = text.substr(0, slash);
  if (!is_name(service, true)) return Error{"not the name of a gRPC service"};
  if (slash == text.npos) return GrpcPattern{std::string(service), {}};
  const std::string_view method = text.substr(slash + 1);
  if (!is_name(method, false)) return Error{"not the name of a gRPC method"};
  return GrpcPattern{std::string(service), std::string(method)};
}

std::string ValueType<GrpcPattern>::format(const GrpcPattern& pattern) {
  if (pattern.service.empty()) return "*";
  return pattern.method.empty() ? pattern.service : pattern.service + "/" + pattern.method;
}

std::string ValueType<GrpcPattern>::expected() {
  return "names of services and methods, such as package.Service or package.Service/Method, or *";
}

RouteConf grpc_route_conf(const RouteConf& conf, const ConfigSection& section) {
  assert(!conf.grpc.empty());
  RouteConf made = conf;
  for (const GrpcPattern& pattern : conf.grpc) made.path.push_back(path_of(pattern));
  made.method = {{"POST", Method::kPost}};
  Result<FieldCondition> type =
      ValueType<FieldCondition>::parse("Content-Type: ~^(?i)application/grpc");
  assert(type.ok());
  made.header.push_back(std::move(*type));
  if (!section.is_set(kRouteTable, "body_max")) made.body_max = Bytes{uint64_t{1} << 50};
  if (!section.is_set(kRouteTable, "body_timeout")) made.body_timeout = conf.idle_timeout;
  return made;
}

}  // namespace gatehouse
