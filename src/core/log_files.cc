// Opening and exchanging log files. See log_files.h for what is defended and why.
#include "core/log_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <climits>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr int kLinksMax = 8;
constexpr int kOpenFlags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
constexpr mode_t kLogMode = 0640;

// The standard descriptor that a path names, or -1. Opening /dev/stdout itself would fail where it
// is a socket, and would lose the position where it is a file.
int standard_descriptor(std::string_view path) {
  if (path == "stderr" || path == "/dev/stderr") return STDERR_FILENO;
  if (path == "stdout" || path == "/dev/stdout") return STDOUT_FILENO;
  return -1;
}

int open_retrying(const char* path, int flags) {
  int fd;
  do fd = open(path, flags, kLogMode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

// Where the symbolic link `path` points to. Looks at the link through one descriptor, so that what
// was checked is what is followed.
Result<std::string> follow_trusted_link(const std::string& path) {
  UniqueFd link(open_retrying(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!link || fstat(link.get(), &info) < 0) return errno_error("cannot open " + path, errno);
  if (!S_ISLNK(info.st_mode)) return Error{"cannot open " + path + ": it is being replaced"};
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return Error{
        fmt::format("cannot open {}: it is a symbolic link made by user {}, which is not followed",
                    path, info.st_uid)};
  }
  char target[PATH_MAX];
  ssize_t size = readlinkat(link.get(), "", target, sizeof target);
  if (size < 0) return errno_error("cannot read the link " + path, errno);
  std::string_view text(target, static_cast<size_t>(size));
  if (text.starts_with('/')) return std::string(text);
  size_t slash = path.rfind('/');
  return (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + std::string(text);
}

}  // namespace

Result<UniqueFd> open_log_file(const std::string& path, const FileOwner& owner) {
  std::string current = path;
  for (int links = 0; links < kLinksMax; ++links) {
    if (int standard = standard_descriptor(current); standard >= 0) {
      UniqueFd copy(fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
      if (!copy) return errno_error("cannot write to " + path, errno);
      return copy;
    }
    // Only a file that this call makes gets the owner; hence first with O_EXCL.
    UniqueFd made(open_retrying(current.c_str(), kOpenFlags | O_CREAT | O_EXCL));
    if (made) {
      if (fchown(made.get(), owner.user, owner.group) < 0) {
        GH_LOG(kWarn, "{}: cannot give the file to user {}: {}", current, owner.user,
               std::strerror(errno));
      }
      return made;
    }
    if (errno != EEXIST) return errno_error("cannot create " + current, errno);
    UniqueFd found(open_retrying(current.c_str(), kOpenFlags));
    if (found) return found;
    if (errno == ENOENT) continue;  // removed between the two calls
    if (errno == ENXIO) return Error{"cannot open " + current + ": no process reads this FIFO"};
    if (errno != ELOOP) return errno_error("cannot open " + current, errno);
    Result<std::string> target = follow_trusted_link(current);
    if (!target) return target.error();
    current = std::move(*target);
  }
  return Error{"cannot open " + path + ": too many symbolic links"};
}

Result<void> adopt_reopened_log(ChannelMessage& message, std::span<const WorkerLog> files) {
  if (message.verb != ChannelVerb::kReopenLog || message.fds.size() != 1) {
    return Error{"a reopen message needs exactly one descriptor"};
  }
  UniqueFd fresh = std::move(message.fds.front());
  message.fds.clear();
  if (message.argument == kErrorLogIndex) {
    log_adopt(fresh.release());
    return {};
  }
  if (message.argument >= files.size()) {
    return Error{fmt::format("log file {} of {} does not exist", message.argument, files.size())};
  }
  const WorkerLog& file = files[message.argument];
  int result;
  do result = dup3(fresh.get(), file.fd, O_CLOEXEC);
  while (result < 0 && (errno == EINTR || errno == EBUSY));
  if (result < 0) return errno_error("cannot exchange " + file.path, errno);
  return {};
}

}  // namespace gatehouse
