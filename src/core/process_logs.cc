// Opening and reopening all logs of a plan. See process_logs.h.
#include "core/process_logs.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

bool is_file(const std::string& error_log) {
  return !error_log.empty() && error_log != "stderr";
}

}  // namespace

std::vector<Error> LogSet::open(const ProcessPlan& plan, const FileOwner& owner) {
  std::vector<Error> errors;
  owner_ = owner;
  for (const std::string& path : plan.log_files) {
    Result<UniqueFd> fd = open_log_file(path, owner);
    if (!fd) {
      errors.push_back(fd.error());
      continue;
    }
    paths_.push_back(path);
    fds_.push_back(std::move(*fd));
  }
  UniqueFd error_log;
  if (is_file(plan.error_log)) {
    Result<UniqueFd> fd = open_log_file(plan.error_log, owner);
    if (fd) {
      error_log = std::move(*fd);
    } else {
      errors.push_back(fd.error());
    }
  }
  if (!errors.empty()) {
    paths_.clear();
    fds_.clear();
    return errors;
  }
  error_log_ = plan.error_log;
  log_set_level(plan.error_log_level);
  log_adopt(error_log ? error_log.release() : STDERR_FILENO);
  return errors;
}

void LogSet::reopen() {
  for (size_t i = 0; i < paths_.size(); ++i) {
    Result<UniqueFd> fresh = open_log_file(paths_[i], owner_);
    if (!fresh) {
      GH_LOG(kError, "log file not reopened: {}", fresh.error().message);
      continue;
    }
    int result;
    do result = dup3(fresh->get(), fds_[i].get(), O_CLOEXEC);
    while (result < 0 && (errno == EINTR || errno == EBUSY));
    if (result < 0) GH_LOG(kError, "{} not exchanged: {}", paths_[i], std::strerror(errno));
  }
  if (!is_file(error_log_)) return;
  Result<UniqueFd> fresh = open_log_file(error_log_, owner_);
  if (fresh) {
    log_adopt(fresh->release());
  } else {
    GH_LOG(kError, "error log not reopened: {}", fresh.error().message);
  }
}

std::vector<WorkerLog> LogSet::files() const {
  std::vector<WorkerLog> files;
  for (size_t i = 0; i < paths_.size(); ++i)
    files.push_back({.id = i, .path = paths_[i], .fd = fds_[i].get()});
  return files;
}

std::vector<uint32_t> LogSet::indexes() const {
  std::vector<uint32_t> indexes;
  for (size_t i = 0; i < fds_.size(); ++i) indexes.push_back(static_cast<uint32_t>(i));
  if (is_file(error_log_)) indexes.push_back(kErrorLogIndex);
  return indexes;
}

int LogSet::descriptor(uint32_t index) const {
  return index == kErrorLogIndex ? log_descriptor() : fds_[index].get();
}

}  // namespace gatehouse
