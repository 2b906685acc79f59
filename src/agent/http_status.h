// The agent's HTTP: /metrics, /health, /ready and /status, for Prometheus and for load balancers,
// and below /v1/ what the owner makes of a request (agent/target_api.h).
//
// Served by libevent's evhttp on the agent's loop; the pages by GET and HEAD only. /health is
// answered here; for the others the owner is asked, who may answer later. Requests are small and so
// are the limits: a head of kHttpHeadMax bytes, no body to speak of, kHttpConnectionsMax
// connections at once (others wait in the kernel's queue), and kHttpIdle seconds of silence until a
// connection is cut. Leaves out: TLS and access rules. It listens at a loopback address, or where
// the configuration says that it shall be exposed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/event_loop.h"
#include "core/result.h"
#include "core/sockets.h"

namespace gatehouse {

inline constexpr int kHttpHeadMax = 8 * 1024;
inline constexpr int kHttpBodyMax = 4 * 1024;
inline constexpr int kHttpIdle = 10;  // seconds
inline constexpr size_t kHttpConnectionsMax = 64;

struct HttpAnswer {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};

// A request below /v1/.
struct HttpRequest {
  std::string method;
  std::string path;  // percent-encoded, without query
  std::string body;
  std::string authorization;  // the field's value
  bool local = false;         // over a unix socket
};

class HttpStatus {
 public:
  // To be called exactly once; where the client has gone meanwhile, nothing happens.
  using Answer = std::function<void(HttpAnswer)>;
  struct Pages {
    std::function<void(Answer)> metrics;
    std::function<void(Answer)> ready;
    std::function<void(Answer)> status;
    // /v1/…; the owner looks at who asks.
    std::function<void(const HttpRequest&, Answer)> api;
  };

  HttpStatus(EventLoop& loop, Pages pages);
  HttpStatus(const HttpStatus&) = delete;
  HttpStatus& operator=(const HttpStatus&) = delete;
  ~HttpStatus();

  // Listens there, and no more where it listened before; with no address (is_none) nowhere. Where
  // it fails it listens nowhere.
  Result<void> listen(const SocketAddress& address);
  // Where it listens, with the port that the kernel picked; none where it does not.
  const SocketAddress& address() const;
  uint64_t requests() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse
