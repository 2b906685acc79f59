// Connecting, asking and waiting. See control_client.h.
#include "core/control_client.h"
#include "core/clock.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace gatehouse {
namespace {

// True where the descriptor is ready before the deadline; errno tells otherwise, 0 for too late.
bool wait_for(int fd, short events, Moment deadline) {
  for (;;) {
    const Moment now = monotonic_now();
    const int64_t left_us = now < deadline ? (deadline - now).count() : 0;
    const timespec timeout = {.tv_sec = left_us / 1'000'000, .tv_nsec = left_us % 1'000'000 * 1000};
    pollfd one = {.fd = fd, .events = events, .revents = 0};
    const int ready = ppoll(&one, 1, &timeout, nullptr);
    if (ready > 0) return true;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) errno = 0;
    return false;
  }
}

Error no_answer(Duration timeout) {
  return Error{fmt::format("no answer within {} ms", timeout.count())};
}

}  // namespace

ControlClient::ControlClient(UniqueFd socket) : socket_(std::move(socket)) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
    server_pid_ = peer.pid;
  }
  if (server_pid_ > 0) {
    server_.reset(static_cast<int>(syscall(SYS_pidfd_open, server_pid_, 0)));
  }
}

Result<ControlClient> ControlClient::connect(const std::string& path, Duration timeout,
                                             Failure* failure) {
  if (failure != nullptr) *failure = Failure::kFailed;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{"the path of the control socket is empty or too long: " + path};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("cannot make a socket", errno);
  // The time that connect() waits for room in the queue of a server that is busy.
  const timeval wait = {.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
  if (setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0) {
    return errno_error("cannot set the time of a socket", errno);
  }
  int result;
  do result = ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  while (result < 0 && errno == EINTR);
  if (result == 0) return ControlClient(std::move(socket));
  if (errno == ENOENT || errno == ECONNREFUSED) {
    if (failure != nullptr) *failure = Failure::kAbsent;
    return Error{"nobody answers at " + path + ": gatehouse is not running"};
  }
  if (errno == EAGAIN) return no_answer(timeout);
  return errno_error("cannot connect to " + path, errno);
}

Result<ControlReply> ControlClient::ask(const std::string& command, nlohmann::json body,
                                        Duration timeout) {
  const Moment deadline = monotonic_now() + timeout;
  ControlMessage request;
  request.id = next_id_++;
  request.command = command;
  request.body = std::move(body);
  Error error;
  ControlStatus status;
  while ((status = send_control_message(socket_.get(), request, &error)) ==
         ControlStatus::kWouldBlock) {
    if (!wait_for(socket_.get(), POLLOUT, deadline)) return no_answer(timeout);
  }
  // Where the other side has closed it, it may have said why before.
  if (status != ControlStatus::kOk && status != ControlStatus::kClosed) return error;
  for (;;) {
    ControlMessage message;
    switch (receive_control_message(socket_.get(), message, &error)) {
      case ControlStatus::kOk:
        break;
      case ControlStatus::kWouldBlock:
        if (wait_for(socket_.get(), POLLIN, deadline)) continue;
        return errno == 0 ? no_answer(timeout) : errno_error("cannot wait for the answer", errno);
      case ControlStatus::kClosed:
        return Error{"gatehouse closed the connection without an answer"};
      case ControlStatus::kRefused:
      case ControlStatus::kFailed:
        return error;
    }
    if (message.kind != ControlMessage::Kind::kReply) continue;
    // With the id 0 it speaks of the connection: not let in, or not understood.
    if (message.id != request.id && message.id != 0) continue;
    return ControlReply{message.ok, std::move(message.body), std::move(message.fds)};
  }
}

bool ControlClient::wait_for_end(Duration timeout) {
  const Moment deadline = monotonic_now() + timeout;
  // A process that has ended makes its pidfd readable.
  if (server_) return wait_for(server_.get(), POLLIN, deadline);
  for (;;) {
    ControlMessage message;
    const ControlStatus status = receive_control_message(socket_.get(), message);
    if (status == ControlStatus::kClosed || status == ControlStatus::kFailed) return true;
    if (status == ControlStatus::kWouldBlock && !wait_for(socket_.get(), POLLIN, deadline)) {
      return false;
    }
  }
}

}  // namespace gatehouse
