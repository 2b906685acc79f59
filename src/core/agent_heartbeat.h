// The agent's heartbeat: a zone that the agent writes once a second and the master reads.
//
// The master tells by it whether an agent that answers nothing is busy or hung, and starts a new
// one. A zone survives the agent, so a reader compares `pid` before it believes the rest. Each
// cell is written by the agent alone; two cells may be of different beats.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

enum class AgentState : uint32_t {
  kNone,      // no agent has ever been here
  kStarting,  // does not know the configuration that serves yet
  kReady,
  kStopping,
};

struct AgentHeartbeat {
  std::atomic<int64_t> started_us;  // wall clock, since the epoch
  std::atomic<int64_t> beat_us;     // the same, of the last beat
  std::atomic<int32_t> pid;         // written last when an agent starts
  std::atomic<uint32_t> state;      // AgentState
};
static_assert(ZoneLayout<AgentHeartbeat> && kLockFree<int32_t>);

inline constexpr std::string_view kAgentHeartbeatZone = "agent.heartbeat";
inline constexpr std::string_view kAgentHeartbeatType = "agent_heartbeat";
inline constexpr uint32_t kAgentHeartbeatVersion = 1;
inline constexpr int64_t kAgentBeatUs = 1'000'000;

// The zone; made where it is not there yet. Valid as long as the segment is mapped.
inline Result<AgentHeartbeat*> open_agent_heartbeat(SharedMemory& shared) {
  Result<std::span<std::byte>> zone =
      shared.adopt_or_create_zone(kAgentHeartbeatZone, kAgentHeartbeatType, kAgentHeartbeatVersion,
                                  sizeof(AgentHeartbeat), alignof(AgentHeartbeat));
  if (!zone) return zone.error();
  return zone_as<AgentHeartbeat>(*zone);
}

}  // namespace gatehouse
