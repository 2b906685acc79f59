// Listening and connecting. Addresses are in socket_address.cc.
#include "core/sockets.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

namespace gatehouse {
namespace {

constexpr int kOn = 1;
constexpr int kOff = 0;

bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

// What usually helps; "" where there is nothing to add.
std::string_view advice(int number) {
  switch (number) {
    case EACCES:
      return " (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
    case EADDRINUSE:
      return " (another program listens there; `ss -ltnp` shows which)";
    case EADDRNOTAVAIL:
      return " (no interface of this machine has that address)";
    case EAFNOSUPPORT:
      return " (the kernel does not support that kind of address)";
    default:
      return "";
  }
}

Error listen_error(const SocketAddress& address, int number) {
  Error error = errno_error("cannot listen on " + address.format(), number);
  if (!address.is_unix()) error.message += advice(number);
  return error;
}

UniqueFd make_socket(int family) {
  return UniqueFd(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// Removes a unix socket's path that a dead process left behind.
Result<void> remove_stale_path(const SocketAddress& address) {
  std::string path(address.path());
  struct stat info {};
  if (lstat(path.c_str(), &info) < 0) {
    if (errno == ENOENT) return {};
    return listen_error(address, errno);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return Error{"cannot listen on " + address.format() + ": the path exists and is no socket"};
  }
  ConnectStart probe = start_connect(address);
  if (probe.error == ENOENT) return {};
  if (probe.error != ECONNREFUSED) {
    if (probe.error == 0 || probe.error == EAGAIN || probe.error == EINPROGRESS) {
      return Error{"cannot listen on " + address.format() + ": another program listens there"};
    }
    return listen_error(address, probe.error);
  }
  if (unlink(path.c_str()) < 0 && errno != ENOENT) return listen_error(address, errno);
  return {};
}

Result<UniqueFd> listen_at_path(const SocketAddress& address, const ListenOptions& options) {
  if (Result<void> removed = remove_stale_path(address); !removed) return removed.error();
  UniqueFd fd = make_socket(AF_UNIX);
  if (!fd || bind(fd.get(), address.data(), address.size()) < 0) {
    return listen_error(address, errno);
  }
  // Nobody can connect before listen(), so the mode is right from the first connection on.
  std::string path(address.path());
  if (chmod(path.c_str(), options.unix_mode) < 0 ||
      (options.start && listen(fd.get(), options.backlog) < 0)) {
    Error error = listen_error(address, errno);
    unlink(path.c_str());
    return error;
  }
  return fd;
}

}  // namespace

Result<UniqueFd> listen_at(const SocketAddress& address, const ListenOptions& options) {
  if (address.is_unix()) return listen_at_path(address, options);
  UniqueFd fd = make_socket(address.family());
  if (!fd || !set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, kOn) ||
      !set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, options.reuse_port ? kOn : kOff) ||
      !set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, kOn) ||
      (address.family() == AF_INET6 && !set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, kOn)) ||
      bind(fd.get(), address.data(), address.size()) < 0 ||
      (options.start && listen(fd.get(), options.backlog) < 0)) {
    return listen_error(address, errno);
  }
  return fd;
}

Result<void> check_unused(const SocketAddress& address) {
  if (address.is_unix() || address.port() == 0) return {};
  UniqueFd fd = make_socket(address.family());
  // SO_REUSEADDR lets connections in TIME_WAIT pass, but not a socket that listens.
  if (!fd || !set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, kOn) ||
      (address.family() == AF_INET6 && !set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, kOn)) ||
      bind(fd.get(), address.data(), address.size()) < 0) {
    return listen_error(address, errno);
  }
  return {};
}

Result<SocketAddress> local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) < 0) {
    return errno_error("cannot ask for a socket's address", errno);
  }
  return SocketAddress::from_kernel(reinterpret_cast<const sockaddr*>(&storage), size);
}

ConnectStart start_connect(const SocketAddress& address, const SocketAddress* from) {
  ConnectStart start;
  start.fd = make_socket(address.family());
  if (!start.fd) {
    start.error = errno;
    return start;
  }
  bool ready = address.is_unix() || set_option(start.fd.get(), IPPROTO_TCP, TCP_NODELAY, kOn);
  if (ready && from != nullptr) {
    // The port is chosen at connect(), per destination, so a busy source address is not used up.
    if (from->port() == 0 && !from->is_unix()) {
      set_option(start.fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, kOn);
    }
    ready = bind(start.fd.get(), from->data(), from->size()) == 0;
  }
  if (!ready || connect(start.fd.get(), address.data(), address.size()) < 0) {
    // An interrupted connect() goes on by itself; repeating it would be an error.
    start.error = errno == EINTR ? EINPROGRESS : errno;
    if (start.error != EINPROGRESS) start.fd.reset();
  }
  return start;
}

int connect_result(int fd) {
  int number = 0;
  socklen_t size = sizeof number;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) < 0) return errno;
  return number;
}

}  // namespace gatehouse
