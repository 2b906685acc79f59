// The master's log files: opened before the workers are forked, opened again on USR1, exchanged for
// those of another plan by a reload.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/log_files.h"
#include "core/process_plan.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/worker_plan.h"

namespace gatehouse {

class LogSet {
 public:
  // Opens the files of the plan that are not open yet, new ones owned by `owner`. All or nothing:
  // gives every reason why not. Then either commit() or discard().
  std::vector<Error> prepare(const ProcessPlan& plan, const FileOwner& owner);
  // Closes what the prepared plan does not ask for, and directs this process's error log to the
  // plan's. True where the workers need another error log, too.
  bool commit(const ProcessPlan& plan);
  // Closes what prepare() opened.
  void discard();

  // Opens every file anew. One that cannot be opened is logged and goes on as it was.
  void reopen();

  // The files of `plan`, which was prepared or is committed, in its order.
  std::vector<WorkerLog> of_plan(const ProcessPlan& plan) const;
  // -1 where no such file is open.
  int descriptor(const std::string& path) const;
  bool error_log_is_file() const;

 private:
  struct File {
    uint64_t id = 0;
    std::string path;
    UniqueFd fd;
    bool is_new = true;
  };
  const File* find(const std::string& path) const;

  std::string error_log_;
  std::string next_error_log_path_;
  UniqueFd next_error_log_;
  std::vector<File> files_;
  uint64_t last_id_ = 0;
  FileOwner owner_;
  FileOwner next_owner_;
};

}  // namespace gatehouse
