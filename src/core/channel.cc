// Sending and receiving on the master-worker channel.
#include "core/channel.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace gatehouse {
namespace {

struct WireMessage {
  uint32_t verb;
  uint32_t argument;
};
static_assert(sizeof(WireMessage) == 8);

constexpr size_t kControlSize = CMSG_SPACE(sizeof(int) * kChannelFdsMax);

ChannelStatus fail(Error* error, Error reason) {
  if (error != nullptr) *error = std::move(reason);
  return ChannelStatus::kFailed;
}

ChannelStatus status_of_errno(int number, const char* what, Error* error) {
  switch (number) {
    case EAGAIN:
    case ETOOMANYREFS:  // too many descriptors under way between processes: goes by
    case ENOBUFS:
      return ChannelStatus::kWouldBlock;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
      return ChannelStatus::kClosed;
    default:
      return fail(error, errno_error(what, number));
  }
}

// Takes every descriptor out of the control data, so that none is lost whatever else is wrong.
void collect_descriptors(msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<ChannelPair> make_channel() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
    return errno_error("cannot make a channel to a worker", errno);
  }
  return ChannelPair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

ChannelStatus channel_send(int channel_fd, ChannelVerb verb, uint32_t argument,
                           const std::vector<int>& fds, Error* error) {
  if (fds.size() > kChannelFdsMax) return fail(error, Error{"too many descriptors in a message"});
  WireMessage wire{static_cast<uint32_t>(verb), argument};
  iovec bytes{&wire, sizeof wire};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[kControlSize] = {};
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(part), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent;
  do sent = sendmsg(channel_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return status_of_errno(errno, "cannot send on the channel", error);
  return ChannelStatus::kOk;
}

ChannelStatus channel_receive(int channel_fd, ChannelMessage& message, Error* error) {
  message = ChannelMessage{};
  WireMessage wire{};
  iovec bytes{&wire, sizeof wire};
  alignas(cmsghdr) char control[kControlSize];
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t received;
  do received = recvmsg(channel_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return status_of_errno(errno, "cannot receive on the channel", error);
  std::vector<UniqueFd> fds;
  collect_descriptors(header, fds);
  if (received == 0) return ChannelStatus::kClosed;
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    return fail(error, Error{"a channel message lost descriptors (descriptor limit reached?)"});
  }
  if (received != sizeof wire || (header.msg_flags & MSG_TRUNC) != 0) {
    return fail(error, Error{fmt::format("a channel message has {} bytes and not 8", received)});
  }
  message.verb = static_cast<ChannelVerb>(wire.verb);
  message.argument = wire.argument;
  message.fds = std::move(fds);
  return ChannelStatus::kOk;
}

}  // namespace gatehouse
