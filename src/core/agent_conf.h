// The configuration of the agent: [agent].
//
//   [agent]
//   state  = /var/lib/gatehouse-agent     # its folder: the history of configurations
//   listen = 127.0.0.1:9180               # /metrics, /health, /ready and /status
//
// Whether there is an agent at all is said in [gatehouse]; which logs it rotates, in [log].
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/process_conf.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

// Where the agent answers HTTP: "none", a loopback address, or any address with the word
// "exposed" behind it, so that nobody opens the figures to the network by a slip.
struct AgentListen {
  SocketAddress address;  // none: it does not listen
  bool exposed = false;
  friend bool operator==(const AgentListen&, const AgentListen&) = default;
};

inline constexpr uint32_t kHistoryKeepMax = 100'000;
inline constexpr Bytes kHistorySizeMin = 1_MiB;

struct AgentConf {
  std::string user;  // empty: whom the workers run as
  OptionalPath state{"/var/lib/gatehouse-agent"};
  AgentListen listen;
  uint32_t history_keep = 500;
  Bytes history_size = 256_MiB;
  OptionalPath api_socket;              // where registrations are taken without a token
  OptionalPath api_token;               // the file of the token for `listen`
  std::vector<SocketAddress> resolver;  // empty: the system's
  Duration resolver_stale = std::chrono::hours(1);
};

extern const DirectiveTable kAgentTable;

// Adds the section agent.
void add_agent_section(Schema& schema);

template <>
struct ValueType<AgentListen> {
  static Result<AgentListen> parse(std::string_view text);
  static std::string format(const AgentListen& value);
  static std::string expected();
};

}  // namespace gatehouse
