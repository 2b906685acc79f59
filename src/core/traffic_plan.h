// TrafficPlan: what the agent has to know of the configuration's upstreams, to check their targets
// and to discover them; and its journey as JSON from whoever compiled the configuration
// (http/traffic_plan) through the master, which does not look into it, to the agent.
//
// Upstreams are in it that have `health` or `discover`, or a target that is named by a host name.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/canary.h"
#include "core/member_lists.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

// 200, or 200 to 299.
struct StatusRange {
  uint16_t low = 200;
  uint16_t high = 299;
  friend bool operator==(const StatusRange&, const StatusRange&) = default;
};

// A field that the answer must have; with an empty value, whatever its value is.
struct FieldExpectation {
  std::string name;
  std::string value;
  friend bool operator==(const FieldExpectation&, const FieldExpectation&) = default;
};

// How the targets of an upstream are spoken to.
struct ProbeTransport {
  enum class Protocol : uint8_t { kAuto, kHttp1, kH2 };
  Protocol protocol = Protocol::kAuto;  // as [upstream] protocol
  bool proxy_protocol = false;          // connections begin with a PROXY header
  bool secure = false;                  // of targets that no line stands for: https
  bool verify = true;
  std::string authorities;  // PEM; empty: the system's
  std::string server_name;  // empty: the target's own
  friend bool operator==(const ProbeTransport&, const ProbeTransport&) = default;
};

// How the agent finds out whether a target is up: [upstream] health.
struct HealthCheck {
  enum class Kind : uint8_t { kNone, kHttp, kTcp, kGrpc };
  Kind kind = Kind::kNone;
  // Of an HTTP check.
  std::string method = "GET";  // or HEAD
  std::string path;
  std::string host;  // empty: the target's own
  std::vector<StatusRange> expect = std::vector<StatusRange>(1);
  std::vector<FieldExpectation> fields;
  std::string body;     // text that has to be in the first kHealthBodyMax bytes; empty: any
  std::string service;  // of a gRPC check; empty: the server as a whole
  // Of all.
  uint16_t port = 0;  // 0: the target's
  Duration every = std::chrono::seconds(5);
  Duration timeout = std::chrono::seconds(2);
  uint32_t jitter = 1000;  // of `every`, in hundredths of a percent, either way
  uint32_t rise = 2;       // good answers in a row that bring a target back
  uint32_t fall = 3;       // bad ones that take it away
  // Not of the key: it comes from the rest of the section.
  ProbeTransport transport;
  friend bool operator==(const HealthCheck&, const HealthCheck&) = default;
};

inline constexpr size_t kHealthServiceMax = 100;
inline constexpr size_t kHealthBodyMax = size_t{64} << 10;

// Where an upstream's targets come from, besides its lines: [upstream] discover.
struct Discovery {
  enum class Kind : uint8_t {
    kNone,
    kDns,   // each address of a target's name is a target
    kSrv,   // so is each server of its SRV records
    kFile,  // a JSON file
    kApi,   // registrations
  };
  Kind kind = Kind::kNone;
  Duration every{0};  // looks at least so often; 0: as the TTL says, and the kernel
  std::string path;
  friend bool operator==(const Discovery&, const Discovery&) = default;
};

struct PlannedTarget {
  std::string text;          // as it is written, without scheme and settings
  SocketAddress address;     // none: `text` is HOST[:PORT]
  SocketAddress last_known;  // of a name: when the configuration was checked; may be none
  uint32_t weight = 1;
  bool secure = false;  // https
  friend bool operator==(const PlannedTarget&, const PlannedTarget&) = default;
};

struct PlannedUpstream {
  std::string name;  // as in MemberLists and the traffic table
  std::vector<PlannedTarget> targets;
  HealthCheck health;
  Discovery discover;
  friend bool operator==(const PlannedUpstream&, const PlannedUpstream&) = default;
};

// [canary]: upstreams are named as in the metrics.
struct PlannedCanary {
  std::string name;
  std::string route;
  std::string fresh;
  std::string stable;
  CanaryRules rules;
  friend bool operator==(const PlannedCanary&, const PlannedCanary&) = default;
};

struct TrafficPlan {
  MemberCapacity capacity;
  std::vector<PlannedUpstream> upstreams;
  std::vector<PlannedCanary> canaries;
};

inline constexpr size_t kTrafficPlanMax = size_t{32} << 20;  // bytes of JSON

std::string traffic_plan_to_json(const TrafficPlan& plan);
// Fails on anything that is not a plan of this version, or is outside of what a configuration could
// say.
Result<TrafficPlan> traffic_plan_from_json(std::string_view json);

}  // namespace gatehouse
