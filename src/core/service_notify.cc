// Sending to NOTIFY_SOCKET. See service_notify.h.
#include "core/service_notify.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "core/unique_fd.h"

namespace gatehouse {
namespace {

// A manager whose queue is full gets a moment to read it: a READY=1 that is lost would have the
// service killed as one that never started.
constexpr int kRoomTries = 10;
constexpr int kRoomPauseMs = 20;

std::string status_line(std::string_view status) {
  if (status.empty()) return {};
  std::string line = fmt::format("STATUS={}\n", status);
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    if (line[i] == '\n' || line[i] == '\r' || line[i] == '\0') line[i] = ' ';
  }
  return line;
}

}  // namespace

ServiceNotify ServiceNotify::from_environment() {
  const char* address = std::getenv("NOTIFY_SOCKET");
  return ServiceNotify(address == nullptr ? "" : address);
}

Result<void> ServiceNotify::ready(pid_t pid, std::string_view status) const {
  return send(fmt::format("READY=1\nMAINPID={}\n{}", pid, status_line(status)));
}

Result<void> ServiceNotify::reloading(Moment now, std::string_view status) const {
  return send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n{}", now.us, status_line(status)));
}

Result<void> ServiceNotify::stopping(std::string_view status) const {
  return send("STOPPING=1\n" + status_line(status));
}

Result<void> ServiceNotify::status(std::string_view status) const {
  return send(status_line(status));
}

Result<void> ServiceNotify::failed(int error_number, std::string_view status) const {
  return send(fmt::format("ERRNO={}\n{}", error_number, status_line(status)));
}

Result<void> ServiceNotify::send(const std::string& state) const {
  if (!is_wanted() || state.empty()) return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool is_abstract = address_[0] == '@';
  if ((!is_abstract && address_[0] != '/') || address_.size() >= sizeof address.sun_path) {
    return Error{"NOTIFY_SOCKET is neither a path nor an abstract name: " + address_};
  }
  std::memcpy(address.sun_path, address_.data(), address_.size());
  // An abstract name begins with NUL and has no end but its length.
  if (is_abstract) address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size() +
                                           (is_abstract ? 0 : 1));
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("cannot make a socket", errno);
  for (int i = 0;; ++i) {
    const ssize_t sent =
        sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), size);
    if (sent >= 0) return {};
    if (errno == EINTR) continue;
    if (errno != EAGAIN || i >= kRoomTries) {
      return errno_error("cannot tell the service manager at " + address_, errno);
    }
    // The master's loop stands still meanwhile, for a fifth of a second at most.
    poll(nullptr, 0, kRoomPauseMs);
  }
}

}  // namespace gatehouse
