// The channel between the master and one worker: a SOCK_SEQPACKET pair with small fixed messages.
//
// A message is a verb, a 32-bit argument and up to kChannelFdsMax descriptors (SCM_RIGHTS). Packets
// keep their borders, so a message comes whole or not at all. Both ends are non-blocking. The end
// of the file means that the other process died: a worker whose master is gone drains and exits.
//
// The two phases of a reload: kPrepareFds (as many as needed), kPrepare; then, when all workers
// have said kPrepared, kSwitch to each; or kDiscard when any could not.
#pragma once

#include <cstdint>
#include <vector>

#include "core/descriptor_passing.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

enum class ChannelVerb : uint32_t {
  kReady = 1,      // worker → master: accepting connections; argument = generation
  kDrain = 2,      // master → worker: stop accepting, finish the exchanges, exit 0
  kStop = 3,       // master → worker: exit now, 0
  kReopenLog = 4,  // master → worker: argument = index in the plan's logs or kErrorLogIndex; one fd

  // master → worker: argument = generation; fds = sealed config, sealed plan, and the sealed bundle
  // of certificates where the generation has any.
  kPrepare = 16,
  kPrepared = 17,       // worker → master: argument = generation
  kPrepareFailed = 18,  // worker → master: argument = generation; fd = memfd with the errors
  kSwitch = 19,         // master → worker: argument = generation
  kDiscard = 20,        // master → worker: argument = generation
  kSwitched = 21,       // worker → master: argument = the generation that serves
  kReopened = 22,       // worker → master: argument = of the kReopenSync it answers
  kReopenSync = 23,     // master → worker: answer when every kReopenLog before this is done
  kPrepareFds = 24,     // master → worker: argument = generation; the next of the plan's new fds
  kIdle = 25,           // worker → master: parked, and without a connection

  // Certificates swapped alone, in the same two phases; argument = edition of the bundle.
  kPrepareCertificates = 32,   // master → worker: fd = the sealed bundle
  kCertificatesPrepared = 33,  // worker → master
  kCertificatesFailed = 34,    // worker → master: fd = memfd with the reason
  kSwitchCertificates = 35,    // master → worker
  kDiscardCertificates = 36,   // master → worker
  kCertificatesSwitched = 37,  // worker → master: these serve
};

// The argument of kReopenLog that means the error log (see log_adopt).
inline constexpr uint32_t kErrorLogIndex = UINT32_MAX;
inline constexpr size_t kChannelFdsMax = 64;

struct ChannelMessage {
  ChannelVerb verb{};
  uint32_t argument = 0;
  std::vector<UniqueFd> fds;
};

struct ChannelPair {
  UniqueFd master;
  UniqueFd worker;
};
Result<ChannelPair> make_channel();

// kFailed also tells a received message that is not one of ours; it is dropped.
using ChannelStatus = PacketStatus;

// `fds` stay the caller's.
ChannelStatus channel_send(int channel_fd, ChannelVerb verb, uint32_t argument = 0,
                           const std::vector<int>& fds = {}, Error* error = nullptr);

// Received descriptors are O_CLOEXEC and owned by `message`.
ChannelStatus channel_receive(int channel_fd, ChannelMessage& message, Error* error = nullptr);

}  // namespace gatehouse
