// HealthProbes: single checks of targets, as many at once as somebody starts: a connection, or a
// request whose answer is compared with what is expected.
//
// Everything runs on the agent's loop: TCP checks by a socket of their own, HTTP checks by
// libcurl's multi interface, which is told of readiness and time by the loop. Targets are spoken to
// as the workers speak to them, by TLS and HTTP/2 where that is so; but the agent has no keys, and
// so shows no client certificate. Each check has a connection of its own, that is closed after it.
// Bounded: the time by the check's timeout, the answer by kHealthBodyMax bytes of body and
// kHealthHeadMax of head. Leaves out: when to check, and what an answer means for the target
// (agent/health_checker.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/event_loop.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/traffic_plan.h"

namespace gatehouse {

inline constexpr size_t kHealthHeadMax = size_t{64} << 10;

struct ProbeOutcome {
  bool good = false;
  std::string why;      // where it is not
  uint16_t status = 0;  // of the answer; 0: none came, or it was no request
};

// What an HTTP answer looks like to a check.
struct ProbeAnswer {
  int status = 0;
  std::vector<FieldExpectation> fields;  // as they came, without blanks around the value
  std::string body;                      // the first kHealthBodyMax bytes
};

// Compares; a pure function.
ProbeOutcome judge(const HealthCheck& check, const ProbeAnswer& answer);

class HealthProbes {
 public:
  using Done = std::function<void(ProbeOutcome)>;

  static Result<std::unique_ptr<HealthProbes>> create(EventLoop& loop);
  HealthProbes(const HealthProbes&) = delete;
  HealthProbes& operator=(const HealthProbes&) = delete;
  ~HealthProbes();  // of those under way nothing is told any more

  // Checks once. `address` is the target's; `host` is for the Host field, where the check says
  // none. `done` is called exactly once, in a later step of the loop. Gives a number for cancel().
  // `secure`: over TLS, where the name to be proven is the host's unless the check has another.
  uint64_t start(const HealthCheck& check, const SocketAddress& address, std::string_view host,
                 bool secure, Done done);
  // Ends it without an answer. Harmless where it has ended.
  void cancel(uint64_t number);

  size_t under_way() const;

 private:
  struct State;
  explicit HealthProbes(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse
