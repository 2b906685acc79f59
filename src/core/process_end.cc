// Reaping children. See process_end.h.
#include "core/process_end.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

namespace gatehouse {

bool ProcessEnd::is_clean() const {
  return known && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string ProcessEnd::text() const {
  if (!known) return "is gone";
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const char* name = sigabbrev_np(signal);
    return fmt::format("was killed by signal {} ({}){}", signal, name != nullptr ? name : "?",
                       WCOREDUMP(status) ? ", core dumped" : "");
  }
  return fmt::format("exited with status {}", WEXITSTATUS(status));
}

std::optional<ProcessEnd> reap_process(pid_t pid) {
  ProcessEnd end;
  pid_t result;
  do result = waitpid(pid, &end.status, WNOHANG);
  while (result < 0 && errno == EINTR);
  if (result == 0) return std::nullopt;
  end.known = result > 0;
  return end;
}

void kill_process(pid_t pid) {
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace gatehouse
