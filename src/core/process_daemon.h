// Going into the background, with the truth about the start for the caller.
//
// The first process waits at a pipe until the daemon says that all workers are ready, and exits
// with the matching code; until then the daemon keeps the caller's standard error, so that every
// start-up error is seen where the command was typed. The working directory is kept: paths in the
// configuration may be relative, and a reopen must find them again.
#pragma once

#include <optional>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// Points standard input and output at /dev/null and standard error at `error_fd`, the error log, so
// that what a library prints when it aborts is kept. A daemon's processes must not hold the
// caller's streams: whoever reads them would wait for their end for ever.
Result<void> let_go_of_streams(int error_fd);

class DaemonStart {
 public:
  // Forks twice (the daemon leads no session, so it never gets a terminal). Returns in two
  // processes: in the caller's, once the daemon is up or has failed, and in the daemon's at once.
  static Result<DaemonStart> fork_away();

  // The caller's process: the code to exit with. The daemon: none.
  std::optional<int> exit_code() const { return exit_code_; }

  // In the daemon: lets go of the standard streams and tells the caller that the start succeeded.
  Result<void> report_success(int error_fd);

 private:
  std::optional<int> exit_code_;
  UniqueFd report_;
};

}  // namespace gatehouse
