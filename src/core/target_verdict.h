// TargetVerdict: what the agent's checks say of a target, packed into one word of its shared row.
//
// The agent writes it, workers read it. All zeros: never checked. A reader believes it only while
// the agent's heartbeat is fresh (core/agent_heartbeat.h), so that a dead agent's last word does
// not keep a target out for ever.
#pragma once

#include <cstdint>

#include "core/units.h"

namespace gatehouse {

struct TargetVerdict {
  enum class State : uint8_t { kUnknown, kUp, kDown };
  State state = State::kUnknown;
  uint8_t streak = 0;   // checks in a row that said the same, up to 255
  uint16_t status = 0;  // the last answer's; 0: none came
  Moment since{};       // of the state, in milliseconds of CLOCK_MONOTONIC

  // Bits: 0..1 state, 8..15 streak, 16..25 status, 26..63 milliseconds (8.7 years of uptime).
  uint64_t pack() const {
    const auto ms = static_cast<uint64_t>(since.us / 1000);
    return static_cast<uint64_t>(state) | uint64_t{streak} << 8 | uint64_t{status & 0x3FFU} << 16 |
           ms << 26;
  }
  static TargetVerdict unpack(uint64_t word) {
    TargetVerdict verdict;
    const auto state = static_cast<uint8_t>(word & 3);
    verdict.state = state > 2 ? State::kUnknown : static_cast<State>(state);
    verdict.streak = static_cast<uint8_t>(word >> 8);
    verdict.status = static_cast<uint16_t>(word >> 16 & 0x3FFU);
    verdict.since = Moment{static_cast<int64_t>(word >> 26) * 1000};
    return verdict;
  }
};

}  // namespace gatehouse
