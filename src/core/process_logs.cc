// Opening and reopening all logs of a plan. See process_logs.h.
#include "core/process_logs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

bool is_file(const std::string& error_log) {
  return !error_log.empty() && error_log != "stderr";
}

Error in_plan(const LogFilePlan& log, const Error& error) {
  return Error{log.where + error.message};
}

}  // namespace

const LogSet::File* LogSet::find(const std::string& path) const {
  const auto found = std::find_if(files_.begin(), files_.end(),
                                  [&path](const File& file) { return file.path == path; });
  return found == files_.end() ? nullptr : &*found;
}

std::vector<Error> LogSet::prepare(const ProcessPlan& plan, const FileOwner& owner) {
  std::vector<Error> errors;
  next_owner_ = owner;
  for (const LogFilePlan& log : plan.log_files) {
    if (find(log.path) != nullptr) continue;
    Result<UniqueFd> fd = open_log_file(log.path, owner);
    if (fd) {
      files_.push_back({.id = ++last_id_, .path = log.path, .fd = std::move(*fd)});
    } else {
      errors.push_back(in_plan(log, fd.error()));
    }
  }
  next_error_log_path_ = plan.error_log.path;
  if (is_file(plan.error_log.path) && plan.error_log.path != error_log_) {
    Result<UniqueFd> fd = open_log_file(plan.error_log.path, owner);
    if (fd) {
      next_error_log_ = std::move(*fd);
    } else {
      errors.push_back(in_plan(plan.error_log, fd.error()));
    }
  }
  if (!errors.empty()) discard();
  return errors;
}

bool LogSet::commit(const ProcessPlan& plan) {
  owner_ = next_owner_;
  std::erase_if(files_, [&plan](const File& file) {
    return std::none_of(plan.log_files.begin(), plan.log_files.end(),
                        [&file](const LogFilePlan& log) { return log.path == file.path; });
  });
  for (File& file : files_) file.is_new = false;
  log_set_level(plan.error_log_level);
  const bool moved = next_error_log_path_ != error_log_;
  if (moved) {
    error_log_ = next_error_log_path_;
    log_adopt(next_error_log_ ? next_error_log_.release() : STDERR_FILENO);
  }
  return moved;
}

void LogSet::discard() {
  std::erase_if(files_, [](const File& file) { return file.is_new; });
  next_error_log_.reset();
}

void LogSet::reopen() {
  for (File& file : files_) {
    Result<UniqueFd> fresh = open_log_file(file.path, owner_);
    if (!fresh) {
      GH_LOG(kError, "log file not reopened: {}", fresh.error().message);
      continue;
    }
    int result;
    do result = dup3(fresh->get(), file.fd.get(), O_CLOEXEC);
    while (result < 0 && (errno == EINTR || errno == EBUSY));
    if (result < 0) GH_LOG(kError, "{} not exchanged: {}", file.path, std::strerror(errno));
  }
  if (!is_file(error_log_)) return;
  Result<UniqueFd> fresh = open_log_file(error_log_, owner_);
  if (fresh) {
    log_adopt(fresh->release());
  } else {
    GH_LOG(kError, "error log not reopened: {}", fresh.error().message);
  }
}

std::vector<WorkerLog> LogSet::of_plan(const ProcessPlan& plan) const {
  std::vector<WorkerLog> list;
  for (const LogFilePlan& log : plan.log_files) {
    const File* file = find(log.path);
    if (file != nullptr) list.push_back({.id = file->id, .path = log.path, .fd = file->fd.get()});
  }
  return list;
}

int LogSet::descriptor(const std::string& path) const {
  const File* file = find(path);
  return file == nullptr ? -1 : file->fd.get();
}

bool LogSet::error_log_is_file() const {
  return is_file(error_log_);
}

}  // namespace gatehouse
