// ExchangeRun: an exchange on its way through hooks and action, whatever protocol brought it.
//
// A session reads a head, fills in the request and says whether it has a meaning; from there on
// everything that is decided about an exchange happens here: who asks (identify hooks), which
// route, whether it may pass (the route's hooks), what answers (its action), what is counted and
// logged. The session only moves bytes.
//
//   begin ─ decide ─┬─ answered: the session sends exchange.response
//                   └─ co_await act(): the action answers, or is cancelled
//   finish ─ end
//
// The action is a Task of its own. When the client goes away while nobody reads from it, the Task
// is destroyed: the upstream side is torn down by scope exit.
#pragma once

#include <coroutine>
#include <memory>

#include "core/task.h"
#include "core/units.h"
#include "http/client_connection.h"
#include "http/exchange.h"
#include "http/tunnel_record.h"

namespace gatehouse {

struct ExchangeRun {
  Exchange exchange;
  bool active = false;                   // counted in the route's requests_active
  bool finished = false;                 // counted and logged
  bool cancelled = false;                // the action was destroyed, nothing more can be sent
  std::unique_ptr<TunnelRecord> tunnel;  // set once the exchange is a tunnel

  // Makes the exchange one of this connection, under the generation that serves.
  // REQUIRES: the connection has its acceptor.
  void begin(const ClientConnection& connection, ClientSide& client, Moment started);

  // Decides by the request, or by why its head has been refused (kNone: it has a meaning). True
  // where exchange.response is the answer; otherwise the action is to run.
  bool decide(Reason refusal);

  // Runs the route's action until it has ended or was cancelled. REQUIRES: not instant, and
  // decide() said false.
  class ActionAwaiter;
  ActionAwaiter act();
  // The action answers at once, without a coroutine; it has done so after instant_action().
  bool is_instant() const;
  void instant_action();

  // An action is waiting for something.
  bool acting() const { return waiter_ != nullptr; }
  // Destroys the action, where one waits: the exchange ends here, for `why`, without another byte.
  void cancel_action(Reason why);
  // Destroys the action and answers with the error for `why`. REQUIRES: acting(), and no byte of a
  // response has been sent.
  void replace_action(Reason why);
  // Destroys the action and runs `ending` in its place. REQUIRES: acting().
  void replace_action(Task<bool> ending);

  // From the 101 on: the exchange no longer holds its generation. See ClientSide::begin_tunnel.
  void begin_tunnel();

  // Counts and logs it. REQUIRES: wire_bytes of request (without the body) and response are set.
  void finish();
  // Gives everything back; it may begin() again.
  void end();

 private:
  bool is_too_early();
  bool route();
  bool run_hooks();
  void conclude_call();

  Task<void> action_;
  Task<bool> ending_;
  std::coroutine_handle<> waiter_;
};

// Waits for the action to finish, or to be destroyed.
class ExchangeRun::ActionAwaiter {
 public:
  explicit ActionAwaiter(ExchangeRun& run) : run_(run) {}
  ActionAwaiter(const ActionAwaiter&) = delete;
  ActionAwaiter& operator=(const ActionAwaiter&) = delete;
  ~ActionAwaiter() {
    run_.waiter_ = nullptr;
    run_.action_.cancel();
    run_.ending_.cancel();
  }

  bool await_ready() {
    run_.action_.start();
    return run_.action_.done();
  }
  void await_suspend(std::coroutine_handle<> waiter) {
    run_.waiter_ = waiter;
    run_.action_.set_continuation(waiter);
  }
  void await_resume() {}

 private:
  ExchangeRun& run_;
};

}  // namespace gatehouse
