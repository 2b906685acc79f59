// What the shared rows say of targets, for those who list them: commands, status, metrics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/traffic_table.h"

namespace gatehouse {

// What a target's row says of its configuration (TrafficRow::settings).
struct TargetSettings {
  uint32_t weight = 1;
  uint32_t max_connections = 0;  // 0: no cap
  bool backup = false;
  bool checked = false;  // its upstream has health checks

  // Bits: 0-15 weight, 16 backup, 17 checked, 32-63 max_connections. All zeros: nothing was said.
  uint64_t pack() const {
    return (weight & 0xffff) | uint64_t{backup} << 16 | uint64_t{checked} << 17 |
           uint64_t{max_connections} << 32;
  }
  static TargetSettings unpack(uint64_t word) {
    TargetSettings settings;
    settings.weight = static_cast<uint32_t>(word & 0xffff);
    settings.backup = (word >> 16 & 1) != 0;
    settings.checked = (word >> 17 & 1) != 0;
    settings.max_connections = static_cast<uint32_t>(word >> 32);
    return settings;
  }
};

enum class TargetStand : uint8_t { kUp, kDown, kEjected, kDrained, kDisabled };
const char* target_state_name(TargetStand state);

struct TargetReport {
  std::string upstream;
  std::string target;  // its address
  TargetStand state = TargetStand::kUp;
  TargetSettings settings;
  uint64_t in_flight = 0;   // over all workers
  uint64_t latency_us = 0;  // expected; 0: not measured
  uint64_t ejected_ms = 0;  // for how long still; 0: it is not
  bool checked = false;     // the agent has a verdict on it
  bool check_up = false;
};

// Those that a worker names now, in the order of their names. Whether the agent still lives is not
// looked at.
std::vector<TargetReport> report_targets(const TrafficTable& table, uint64_t now_ms);

}  // namespace gatehouse
