// The pid file: tells who the master is, and keeps a second one from starting.
//
// The live master holds flock() on the file, so a file left behind by a crash never blocks a start
// and never misleads `-s quit`: what counts is the lock, not the number. The file appears with its
// content in one step (link or rename of a finished temporary file), so no reader sees it empty.
#pragma once

#include <sys/types.h>

#include <string>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

class PidFile {
 public:
  // Writes the calling process's id to `path` (mode 0644) and holds the lock. Error where a live
  // process holds it (says which) or the file cannot be written.
  static Result<PidFile> acquire(const std::string& path);

  PidFile() = default;
  PidFile(PidFile&&) noexcept = default;
  PidFile& operator=(PidFile&&) noexcept;
  ~PidFile();  // removes the file, if it is still the one that acquire() made

 private:
  PidFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  void remove();
  std::string path_;
  UniqueFd fd_;
};

// The process id of the live master that holds `path`. Errors: no such file; not running.
Result<pid_t> read_live_pid(const std::string& path);

// Sends `signal` to the live master that holds `path` (`-s quit|stop|reopen`).
Result<void> send_signal_from_pid_file(const std::string& path, int signal);

}  // namespace gatehouse
