// The master's log files: opened before the workers are forked, opened again on USR1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/log_files.h"
#include "core/process_plan.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/worker_context.h"

namespace gatehouse {

class LogSet {
 public:
  // Opens all files of the plan, new ones owned by `owner`, and directs this process's error log
  // to the plan's. All or nothing: gives every reason why not.
  std::vector<Error> open(const ProcessPlan& plan, const FileOwner& owner);

  // Opens every file anew. One that cannot be opened is logged and goes on as it was.
  void reopen();

  // What a worker inherits; the numbers do not change.
  std::vector<WorkerLog> files() const;

  // The indexes that kReopenLog may name now: each file, and kErrorLogIndex if that is a file.
  std::vector<uint32_t> indexes() const;
  // REQUIRES: index is one of indexes().
  int descriptor(uint32_t index) const;

 private:
  std::string error_log_;
  std::vector<std::string> paths_;
  std::vector<UniqueFd> fds_;
  FileOwner owner_;
};

}  // namespace gatehouse
