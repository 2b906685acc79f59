// The settings of [upstream] and their directive table (upstream_conf.cc).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/directive.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

// One server of an upstream: http://ADDRESS:PORT [weight N].
struct TargetConf {
  SocketAddress address;
  std::string text;      // as written, without scheme and weight
  std::string host;      // what a Host field says
  bool resolved = true;  // false: the name is not an address; down until discovery resolves it
  uint32_t weight = 1;
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
  uint32_t connect_tries = 3;  // targets tried where connecting fails
};

template <>
struct ValueType<TargetConf> {
  static Result<TargetConf> parse(std::string_view text);
  static std::string format(const TargetConf& target);
  static std::string expected();
};

extern const DirectiveTable kUpstreamTable;

}  // namespace gatehouse
