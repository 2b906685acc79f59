// DnsClient: looks names up on the agent's loop, without blocking, and tells how long the answer
// may be kept.
//
// By c-ares, against the servers of /etc/resolv.conf with its search list, behind /etc/hosts; or
// against servers that the configuration names. Changes of /etc/resolv.conf are noticed. Other
// sources that the system's own resolver may know (mDNS, LDAP) are not asked.
//
// IPv6 addresses that this host has no route to are left out where there are others.
// Leaves out: when to ask (agent/name_watcher).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

struct FoundServer {
  SocketAddress address;
  uint16_t priority = 0;  // of SRV: the least is asked first
  uint16_t weight = 0;    // of SRV
  friend bool operator==(const FoundServer&, const FoundServer&) = default;
};

struct DnsAnswer {
  enum class Kind : uint8_t {
    kFound,
    kNone,    // the name does not exist, or has no such records
    kFailed,  // nobody could say: no answer, or a server's failure
  };
  Kind kind = Kind::kFailed;
  std::vector<FoundServer> servers;  // sorted, each address once
  Duration ttl{0};
  std::string problem;  // where it is not kFound
};

class DnsClient {
 public:
  using Done = std::function<void(DnsAnswer)>;

  // `servers`: empty for the system's.
  static Result<std::unique_ptr<DnsClient>> create(EventLoop& loop,
                                                   std::vector<SocketAddress> servers);
  DnsClient(const DnsClient&) = delete;
  DnsClient& operator=(const DnsClient&) = delete;
  ~DnsClient();  // of what is under way nothing is told any more

  // A and AAAA of the host, each with this port. `done` is called once, in a later step of the
  // loop.
  void find_addresses(const std::string& host, uint16_t port, Done done);
  // The name's SRV records, and the addresses of their hosts.
  void find_servers(const std::string& name, Done done);

  // Begins anew where /etc/resolv.conf has changed; call it now and then. What is under way fails.
  void look_at_system();

 private:
  struct State;
  explicit DnsClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse
