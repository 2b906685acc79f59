// The control socket, the command line's side: connect, ask, wait for the reply. Blocks, each time
// up to a deadline.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/control_message.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

class ControlClient {
 public:
  // Why connect() failed: kAbsent means that no gatehouse listens there, kFailed all else (no
  // permission, not answering in time, no socket at all).
  enum class Failure : uint8_t { kAbsent, kFailed };
  static Result<ControlClient> connect(const std::string& path, Duration timeout,
                                       Failure* failure = nullptr);

  // One request and its reply. Error: there was none (too late, closed, not readable). A refusal is
  // a reply that is not ok. REQUIRES: the one before was answered.
  Result<ControlReply> ask(const std::string& command, nlohmann::json body, Duration timeout);

  // Waits until the process at the other end has ended, or, where that cannot be watched, until it
  // has closed the connection. False: it has not within `timeout`.
  bool wait_for_end(Duration timeout);

  // The process at the other end; 0 where it cannot be seen from here.
  pid_t server_pid() const { return server_pid_; }

 private:
  explicit ControlClient(UniqueFd socket);

  UniqueFd socket_;
  UniqueFd server_;  // pidfd
  pid_t server_pid_ = 0;
  uint64_t next_id_ = 1;
};

}  // namespace gatehouse
