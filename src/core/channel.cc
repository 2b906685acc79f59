// Sending and receiving on the master-worker channel.
#include "core/channel.h"

#include <fmt/format.h>
#include <sys/socket.h>

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
static_assert(kChannelFdsMax <= kPacketFdsMax);

ChannelStatus fail(Error* error, Error reason) {
  if (error != nullptr) *error = std::move(reason);
  return ChannelStatus::kFailed;
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
  return send_packet(channel_fd, {reinterpret_cast<const char*>(&wire), sizeof wire}, fds, error);
}

ChannelStatus channel_receive(int channel_fd, ChannelMessage& message, Error* error) {
  message = ChannelMessage{};
  char bytes[sizeof(WireMessage)];
  Packet packet;
  const PacketStatus status = receive_packet(channel_fd, bytes, kChannelFdsMax, packet, error);
  if (status != PacketStatus::kOk) return status;
  if (packet.fds_lost) {
    return fail(error, Error{"a channel message lost descriptors (descriptor limit reached?)"});
  }
  if (packet.size != sizeof bytes || packet.cut) {
    return fail(error, Error{fmt::format("a channel message has {}{} bytes and not 8",
                                         packet.cut ? "more than " : "", packet.size)});
  }
  WireMessage wire{};
  std::memcpy(&wire, bytes, sizeof wire);
  message.verb = static_cast<ChannelVerb>(wire.verb);
  message.argument = wire.argument;
  message.fds = std::move(packet.fds);
  return ChannelStatus::kOk;
}

}  // namespace gatehouse
