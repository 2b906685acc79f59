// A piece of work in a process of its own: what may block, take long or crash is done in a child
// of the master, with the workers' rights, and the master takes the result when it is there.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/process_privileges.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

class ChildTask {
 public:
  // Runs in the child; what it returns is the result.
  using Work = std::function<std::string()>;

  // Forks. The child keeps `fds`, the error log and 0 to 2, and becomes `run_as` before it works.
  // `name` is its title and stands in errors ("the checker").
  static Result<ChildTask> start(std::string name, const RunAs& run_as, std::vector<int> fds,
                                 Moment deadline, const Work& work);
  ChildTask(ChildTask&&) noexcept;
  ChildTask& operator=(ChildTask&&) = delete;
  ~ChildTask();  // kills and reaps a child that still runs

  // What came of it, once: the result, or an Error where the child died, or took too long and was
  // killed. None: it still runs. To be asked on SIGCHLD and at the deadline.
  std::optional<Result<std::string>> poll(Moment now);
  Moment deadline() const { return deadline_; }

 private:
  ChildTask(std::string name, pid_t pid, UniqueFd result, Moment deadline)
      : name_(std::move(name)), pid_(pid), result_(std::move(result)), deadline_(deadline) {}
  std::string name_;
  pid_t pid_;
  UniqueFd result_;
  Moment deadline_;
};

}  // namespace gatehouse
