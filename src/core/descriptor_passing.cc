// sendmsg() and recvmsg() with SCM_RIGHTS. See descriptor_passing.h.
#include "core/descriptor_passing.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace gatehouse {
namespace {

constexpr size_t kAncillarySize = CMSG_SPACE(sizeof(int) * kPacketFdsMax);

PacketStatus fail(Error* error, Error reason) {
  if (error != nullptr) *error = std::move(reason);
  return PacketStatus::kFailed;
}

PacketStatus status_of_errno(int number, const char* what, Error* error) {
  switch (number) {
    case EAGAIN:
    case ETOOMANYREFS:  // too many descriptors under way between processes: goes by
    case ENOBUFS:
      return PacketStatus::kWouldBlock;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
      return PacketStatus::kClosed;
    default:
      return fail(error, errno_error(what, number));
  }
}

void collect_descriptors(msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

PacketStatus send_packet(int socket, std::string_view bytes, std::span<const int> fds,
                         Error* error) {
  if (fds.size() > kPacketFdsMax) return fail(error, Error{"too many descriptors in a message"});
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char ancillary[kAncillarySize] = {};
  if (!fds.empty()) {
    header.msg_control = ancillary;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(part), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent;
  do sent = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return status_of_errno(errno, "cannot send a message", error);
  return PacketStatus::kOk;
}

PacketStatus receive_packet(int socket, std::span<char> room, size_t fds_max, Packet& packet,
                            Error* error) {
  packet = Packet{};
  iovec piece{room.data(), room.size()};
  alignas(cmsghdr) char ancillary[kAncillarySize];
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (fds_max > 0) {
    header.msg_control = ancillary;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * std::min(fds_max, kPacketFdsMax));
  }
  // A peer that closed without reading all it was sent makes the first call say ECONNRESET, before
  // what it had sent itself can be read.
  bool reset = false;
  ssize_t received;
  do {
    received = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (received < 0 &&
           (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  if (received < 0) return status_of_errno(errno, "cannot receive a message", error);
  collect_descriptors(header, packet.fds);
  if (received == 0) {
    packet.fds.clear();
    return PacketStatus::kClosed;
  }
  packet.size = static_cast<size_t>(received);
  packet.cut = (header.msg_flags & MSG_TRUNC) != 0;
  // CMSG_SPACE rounds up: where an odd number is asked for, one more may fit.
  packet.fds_lost = (header.msg_flags & MSG_CTRUNC) != 0 || packet.fds.size() > fds_max;
  if (packet.fds.size() > fds_max) packet.fds.resize(fds_max);
  return PacketStatus::kOk;
}

}  // namespace gatehouse
