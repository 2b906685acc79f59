// The double fork and the pipe that carries the verdict. See process_daemon.h.
#include "core/process_daemon.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr char kStarted = 1;

// Waits for the daemon's word. The end of the file without it means that the daemon is gone.
bool wait_for_success(int report) {
  char verdict = 0;
  ssize_t size;
  do size = read(report, &verdict, 1);
  while (size < 0 && errno == EINTR);
  return size == 1 && verdict == kStarted;
}

bool put_at(int fd, int number) {
  int result;
  do result = dup2(fd, number);
  while (result < 0 && (errno == EINTR || errno == EBUSY));
  return result >= 0;
}

}  // namespace

Result<void> let_go_of_streams(int error_fd) {
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null || !put_at(null.get(), STDIN_FILENO) || !put_at(null.get(), STDOUT_FILENO) ||
      !put_at(error_fd == STDERR_FILENO ? null.get() : error_fd, STDERR_FILENO)) {
    return errno_error("cannot let go of the standard streams", errno);
  }
  return {};
}

Result<DaemonStart> DaemonStart::fork_away() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return errno_error("cannot make a pipe to the daemon", errno);
  UniqueFd read_end(ends[0]);
  DaemonStart start;
  start.report_.reset(ends[1]);

  std::fflush(nullptr);  // or both processes would print what is still in the buffers
  pid_t first = fork();
  if (first < 0) return errno_error("cannot fork the daemon", errno);
  if (first > 0) {
    start.report_.reset();
    int status;
    while (waitpid(first, &status, 0) < 0 && errno == EINTR) {
    }
    start.exit_code_ = wait_for_success(read_end.get()) ? EXIT_SUCCESS : EXIT_FAILURE;
    return start;
  }
  read_end.reset();
  setsid();
  pid_t second = fork();
  if (second < 0) {
    GH_LOG(kError, "cannot start: cannot fork the daemon: {}", std::strerror(errno));
    _exit(EXIT_FAILURE);
  }
  if (second > 0) _exit(EXIT_SUCCESS);
  return start;
}

Result<void> DaemonStart::report_success(int error_fd) {
  if (Result<void> done = let_go_of_streams(error_fd); !done) return done;
  ssize_t size;
  do size = write(report_.get(), &kStarted, 1);
  while (size < 0 && errno == EINTR);
  // A caller that was interrupted does not read; the daemon runs all the same.
  report_.reset();
  return {};
}

}  // namespace gatehouse
