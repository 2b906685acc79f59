// How a child process ended: asking without waiting, and saying it in words.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace gatehouse {

struct ProcessEnd {
  int status = 0;     // as waitpid() gives it
  bool known = true;  // false: somebody else took the status; the process is gone all the same

  bool is_clean() const;     // exited with status 0
  std::string text() const;  // "was killed by signal 9 (KILL)", "exited with status 1", "is gone"
};

// Reaps the child if it has ended; none: it lives. Never waits.
std::optional<ProcessEnd> reap_process(pid_t pid);

// SIGKILL, and waits until the child is gone.
void kill_process(pid_t pid);

}  // namespace gatehouse
