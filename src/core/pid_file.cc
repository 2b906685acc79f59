// Taking, reading and removing the pid file. See pid_file.h.
#include "core/pid_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <utility>

namespace gatehouse {
namespace {

constexpr mode_t kPidFileMode = 0644;
// `-s` and a starting master look at the lock for an instant by taking it; that is no reason to
// refuse a start.
constexpr int kLockTries = 5;
constexpr int kLockPauseMs = 20;
constexpr int kRaceTries = 10;

bool try_lock(int fd, int kind) {
  int result;
  do result = flock(fd, kind | LOCK_NB);
  while (result < 0 && errno == EINTR);
  return result == 0;
}

bool lock_patiently(int fd) {
  for (int i = 0; i < kLockTries; ++i) {
    if (try_lock(fd, LOCK_EX)) return true;
    if (errno != EWOULDBLOCK) return false;
    poll(nullptr, 0, kLockPauseMs);  // at the start, where nothing else waits for this process
  }
  errno = EWOULDBLOCK;
  return false;
}

// Whether `path` still names the open file.
bool is_still(const std::string& path, int fd) {
  struct stat by_path {
  }, by_fd{};
  return lstat(path.c_str(), &by_path) == 0 && fstat(fd, &by_fd) == 0 &&
         by_path.st_dev == by_fd.st_dev && by_path.st_ino == by_fd.st_ino;
}

Result<pid_t> read_pid(const std::string& path, int fd) {
  char text[32];
  ssize_t size;
  do size = pread(fd, text, sizeof text, 0);
  while (size < 0 && errno == EINTR);
  if (size < 0) return errno_error("cannot read " + path, errno);
  pid_t pid = 0;
  auto [end, problem] = std::from_chars(text, text + size, pid);
  bool whole = problem == std::errc{} && end != text + size && *end == '\n';
  if (!whole || pid <= 1) return Error{path + " does not hold a process id"};
  return pid;
}

// A finished, locked file beside `path`.
Result<UniqueFd> write_temporary(const std::string& temporary) {
  // A leftover of an earlier process with this id.
  unlink(temporary.c_str());
  UniqueFd fd(
      open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kPidFileMode));
  if (!fd) return errno_error("cannot create " + temporary, errno);
  std::string text = fmt::format("{}\n", getpid());
  bool good = try_lock(fd.get(), LOCK_EX) && fchmod(fd.get(), kPidFileMode) == 0;
  if (good) {
    ssize_t written;
    do written = write(fd.get(), text.data(), text.size());
    while (written < 0 && errno == EINTR);
    if (written >= 0 && written != static_cast<ssize_t>(text.size())) errno = ENOSPC;
    good = written == static_cast<ssize_t>(text.size());
  }
  // So that a power failure leaves no empty file behind.
  if (good) good = fsync(fd.get()) == 0 || errno == EINVAL;
  if (!good) {
    Error error = errno_error("cannot write " + temporary, errno);
    unlink(temporary.c_str());
    return error;
  }
  return fd;
}

// Puts the temporary file at `path`. True: done. False: somebody was faster, look again.
Result<bool> put_in_place(const std::string& temporary, const std::string& path) {
  UniqueFd old(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!old) {
    if (errno != ENOENT) return errno_error("cannot open " + path, errno);
    // link() refuses where another start put its file in the meantime; rename() would not.
    if (link(temporary.c_str(), path.c_str()) == 0) {
      unlink(temporary.c_str());
      return true;
    }
    if (errno == EEXIST) return false;
    return errno_error("cannot create " + path, errno);
  }
  if (!lock_patiently(old.get())) {
    if (errno != EWOULDBLOCK) return errno_error("cannot lock " + path, errno);
    Result<pid_t> pid = read_pid(path, old.get());
    return Error{
        pid ? fmt::format("gatehouse is running already with process id {} ({})", *pid, path)
            : fmt::format("{} is held by another process", path)};
  }
  // The old file is nobody's, and while we hold its lock nobody else replaces it.
  if (!is_still(path, old.get())) return false;
  if (rename(temporary.c_str(), path.c_str()) < 0)
    return errno_error("cannot replace " + path, errno);
  return true;
}

}  // namespace

Result<PidFile> PidFile::acquire(const std::string& path) {
  std::string temporary = fmt::format("{}.{}", path, getpid());
  Result<UniqueFd> fd = write_temporary(temporary);
  if (!fd) return fd.error();
  for (int i = 0; i < kRaceTries; ++i) {
    Result<bool> placed = put_in_place(temporary, path);
    if (placed && *placed) return PidFile(path, std::move(*fd));
    if (!placed) {
      unlink(temporary.c_str());
      return placed.error();
    }
  }
  unlink(temporary.c_str());
  return Error{path + " keeps changing: several instances are starting at once"};
}

PidFile& PidFile::operator=(PidFile&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::move(other.path_);
    fd_ = std::move(other.fd_);
  }
  return *this;
}

PidFile::~PidFile() {
  remove();
}

void PidFile::remove() {
  // Removed while the lock is still held, so a start in between sees the file held or gone.
  if (fd_ && is_still(path_, fd_.get())) unlink(path_.c_str());
  fd_.reset();
}

Result<pid_t> read_live_pid(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return Error{"gatehouse is not running: there is no " + path};
    return errno_error("cannot open " + path, errno);
  }
  if (try_lock(fd.get(), LOCK_SH)) {
    return Error{"gatehouse is not running: nobody holds " + path};
  }
  if (errno != EWOULDBLOCK) return errno_error("cannot look at the lock of " + path, errno);
  return read_pid(path, fd.get());
}

Result<void> send_signal_from_pid_file(const std::string& path, int signal) {
  Result<pid_t> pid = read_live_pid(path);
  if (!pid) return pid.error();
  if (kill(*pid, signal) < 0) {
    return errno_error(fmt::format("cannot send a signal to process {}", *pid), errno);
  }
  return {};
}

}  // namespace gatehouse
