// The gRPC health protocol, as far as asking goes: the message of a call of
// grpc.health.v1.Health/Check, and what its answer says
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
//
// The two messages have one field each, so their few bytes of Protocol Buffers are written and read
// here; whatever else an answer may hold is skipped.
#pragma once

#include <string>
#include <string_view>

#include "agent/health_probe.h"

namespace gatehouse {

inline constexpr std::string_view kGrpcHealthPath = "/grpc.health.v1.Health/Check";

// HealthCheckRequest with its length in front. `service`: at most kHealthServiceMax bytes; empty
// asks for the server as a whole.
std::string grpc_health_request(std::string_view service);

// Good where the call has succeeded and the answer says SERVING.
ProbeOutcome judge_grpc_health(const ProbeAnswer& answer);

}  // namespace gatehouse
