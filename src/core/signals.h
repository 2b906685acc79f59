// Signals as the master reads them, and as a worker has them.
//
// The master blocks its signals and reads them from a descriptor, so that no handler runs anywhere
// and no signal falls between a test and a wait.
#pragma once

#include <signal.h>

#include <optional>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

class SignalIntake {
 public:
  // Blocks QUIT TERM INT HUP USR1 USR2 CHLD in this process and opens the descriptor. SIGPIPE is
  // ignored. The previous mask comes back when the object goes.
  static Result<SignalIntake> open();
  SignalIntake(SignalIntake&& other) noexcept;
  SignalIntake& operator=(SignalIntake&&) = delete;
  ~SignalIntake();

  int fd() const { return fd_.get(); }
  // The next signal that came, if any; never waits.
  std::optional<int> next();

 private:
  SignalIntake() = default;
  UniqueFd fd_;
  sigset_t before_{};
  bool blocked_ = false;
};

// In a worker, after the fork: default actions and an empty mask, but PIPE ignored (a client that
// goes away is an error of the write) and also INT, QUIT, HUP, USR1, USR2: a terminal or a service
// manager sends them to the whole group, and a worker gets its orders by its channel.
void reset_signals_in_worker();

}  // namespace gatehouse
