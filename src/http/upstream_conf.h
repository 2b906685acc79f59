// The settings of [upstream] and their directive table (upstream_conf.cc).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config_values.h"
#include "core/directive.h"
#include "core/sockets.h"
#include "core/units.h"
#include "http/balance_conf.h"

namespace gatehouse {

enum class TargetScheme : uint8_t { kHttp, kHttps };

// What is spoken to targets.
enum class UpstreamProtocol : uint8_t {
  kAuto,  // over TLS what the target prefers of both (ALPN), else HTTP/1.1
  kHttp1,
  kH2,  // over plain TCP by prior knowledge (RFC 9113 §3.3)
};

// Whether a connection to a target begins with a PROXY header, and of which version.
enum class ProxyProtocolOut : uint8_t { kOff, kV1, kV2 };

// One server of an upstream: http://ADDRESS:PORT or https://…, [weight N] [backup] [max_connections
// N].
struct TargetConf {
  bool tls = false;  // https://
  SocketAddress address;
  std::string text;      // as written, without scheme and weight; https: with its port
  std::string host;      // what a Host field says
  bool resolved = true;  // false: the name is not an address; down until discovery resolves it
  uint32_t weight = 1;
  bool backup = false;  // used where no other target is there
  std::optional<uint32_t> max_connections;
};

struct UpstreamConf {
  std::vector<TargetConf> target;
  Duration connect_timeout = std::chrono::seconds(5);
  Duration response_timeout = std::chrono::seconds(60);
  Duration read_timeout = std::chrono::seconds(60);
  Duration write_timeout = std::chrono::seconds(60);
  Bytes head_max = 32_KiB;
  uint32_t fields_max = 100;
  uint32_t keepalive = 256;
  Duration keepalive_timeout = std::chrono::seconds(30);
  Duration keepalive_age = std::chrono::hours(1);
  uint32_t keepalive_requests = 10000;
  TargetScheme discovered_scheme = TargetScheme::kHttp;
  UpstreamProtocol protocol = UpstreamProtocol::kAuto;
  Bytes h2_window = 256_KiB;  // of an answer, that the client has not taken yet
  ProxyProtocolOut proxy_protocol = ProxyProtocolOut::kOff;
  uint32_t connect_tries = 3;  // targets tried where connecting fails
  BalanceConf balance;
  EjectConf eject;
  Percent panic;           // healthy targets under this share: health is ignored; 0: never
  Duration slow_start{0};  // 0: a target that comes back has its whole weight at once
  // Requests in flight at a target, over all workers; 0: no cap. A target may have its own.
  uint32_t max_connections = 0;
  uint32_t queue = 0;  // requests that wait in a worker where all targets have theirs
  Duration queue_timeout = std::chrono::seconds(5);
  std::string sticky_secret;  // empty: the shared segment's

  // What is spoken: a connection that begins with a PROXY header is not shared.
  UpstreamProtocol spoken() const {
    return proxy_protocol == ProxyProtocolOut::kOff ? protocol : UpstreamProtocol::kHttp1;
  }
  // Even one target alone is counted for this.
  bool needs_rows() const;
};

template <>
struct ValueType<TargetConf> {
  static Result<TargetConf> parse(std::string_view text);
  static std::string format(const TargetConf& target);
  static std::string expected();
};

template <>
struct ValueType<TargetScheme> {
  static Result<TargetScheme> parse(std::string_view text);
  static std::string format(TargetScheme scheme);
  static std::string expected();
};

template <>
struct ValueType<UpstreamProtocol> {
  static Result<UpstreamProtocol> parse(std::string_view text);
  static std::string format(UpstreamProtocol protocol);
  static std::string expected();
};

inline constexpr EnumName<ProxyProtocolOut> kProxyProtocolOutNames[] = {
    {ProxyProtocolOut::kOff, "off"},
    {ProxyProtocolOut::kV1, "v1"},
    {ProxyProtocolOut::kV2, "v2"},
};
template <>
struct ValueType<ProxyProtocolOut> : EnumValueType<ProxyProtocolOut, kProxyProtocolOutNames> {};

extern const DirectiveTable kUpstreamTable;

}  // namespace gatehouse
