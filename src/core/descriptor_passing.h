// Packets with descriptors over a SOCK_SEQPACKET socket: what the channel and the control socket
// have in common.
//
// Packets keep their borders, so one comes whole or not at all. Nothing here blocks, whatever the
// socket's flags are. Received descriptors are O_CLOEXEC and owned from the first moment, so that
// none is lost whatever else is wrong with the packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// The most descriptors that one packet carries here.
inline constexpr size_t kPacketFdsMax = 64;

enum class PacketStatus : uint8_t {
  kOk,
  kWouldBlock,  // nothing to receive; no room to send: wait for readiness and try again
  kClosed,      // the other process is gone
  kFailed,      // see error
};

struct Packet {
  size_t size = 0;        // bytes received; where `cut`, those that there was room for
  bool cut = false;       // the packet was larger than the room
  bool fds_lost = false;  // it carried more descriptors than were asked for or could be opened
  std::vector<UniqueFd> fds;
};

// `fds` stay the caller's; more than kPacketFdsMax are refused with kFailed.
PacketStatus send_packet(int socket, std::string_view bytes, std::span<const int> fds,
                         Error* error = nullptr);

// Receives into `room`; `fds_max` descriptors at most, 0 to kPacketFdsMax. An empty packet is told
// as kClosed, for the kernel does not tell the two apart: nobody who keeps to the rules sends one.
PacketStatus receive_packet(int socket, std::span<char> room, size_t fds_max, Packet& packet,
                            Error* error = nullptr);

}  // namespace gatehouse
