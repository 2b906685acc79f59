// TargetTransport: what is spoken to a target, and how its connections are made.
//
// Made with the generation from [upstream]; shared by its targets, and by what outlives the
// generation (a connection that is just made for others to use). A target without one is spoken to
// by HTTP/1.1 over plain TCP, and pays nothing for this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/units.h"
#include "http/h2_codec.h"
#include "http/upstream_conf.h"

namespace gatehouse {

struct UpstreamTls;

struct TargetTransport {
  std::shared_ptr<const UpstreamTls> tls;  // null: plain
  UpstreamProtocol protocol = UpstreamProtocol::kAuto;
  H2Limits h2;
  Duration connect_timeout{};
  Duration write_timeout{};
  Duration keepalive_timeout{};
  Duration keepalive_age{};         // zero: any
  uint32_t keepalive_requests = 0;  // 0: any
  bool keeps_idle = true;
  // Tells it from others: connections are not shared between transports that differ here.
  std::string key;

  // Whether several exchanges may share a connection.
  bool may_multiplex() const {
    return protocol == UpstreamProtocol::kH2 ||
           (tls != nullptr && protocol == UpstreamProtocol::kAuto);
  }
  // Whether it may be that they do not.
  bool may_speak_http1() const { return protocol != UpstreamProtocol::kH2; }
};

// What is spoken to targets, with or without TLS; null where that is HTTP/1.1 over plain TCP.
std::shared_ptr<const TargetTransport> make_transport(const UpstreamConf& conf,
                                                      std::shared_ptr<const UpstreamTls> tls);

}  // namespace gatehouse
