// Whether a target may be chosen at a moment, and with which weight: from the words of its row.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/target_verdict.h"
#include "core/traffic_table.h"
#include "http/balancer.h"
#include "http/ejection.h"
#include "http/target_set.h"

namespace gatehouse {

// How the choice looks at health in this turn.
struct FitnessView {
  uint64_t now_ms = 0;
  bool verdicts = false;  // those of the agent count, and there are some
};

inline TargetAdmin admin_of(const TrafficRow& row) {
  const uint64_t word = row.admin.load(std::memory_order_relaxed) & 0xff;
  return word > static_cast<uint64_t>(TargetAdmin::kDisabled) ? TargetAdmin::kNormal
                                                              : static_cast<TargetAdmin>(word);
}

// The agent found it down.
inline bool is_down(const TrafficRow& row, const FitnessView& view) {
  if (!view.verdicts) return false;
  const uint64_t word = row.health.load(std::memory_order_relaxed);
  return TargetVerdict::unpack(word).state == TargetVerdict::State::kDown;
}

inline bool is_ejected(const TrafficRow& row, const FitnessView& view) {
  return is_ejected(row.ejection.load(std::memory_order_relaxed), view.now_ms);
}

// The moment from which it has been used again, in milliseconds; 0: always.
inline uint64_t came_back_ms(const TrafficRow& row, const FitnessView& view) {
  uint64_t since = row.up_since_ms.load(std::memory_order_relaxed);
  const uint64_t until = row.ejection.load(std::memory_order_relaxed) >> 24;
  if (until <= view.now_ms) since = std::max(since, until);
  if (view.verdicts) {
    const TargetVerdict verdict = TargetVerdict::unpack(row.health.load(std::memory_order_relaxed));
    if (verdict.state == TargetVerdict::State::kUp) {
      since = std::max(since, static_cast<uint64_t>(verdict.since.us / 1000));
    }
  }
  return since;
}

// The weight that counts now, in kWeightUnit: all of it, or as much of it as of the slow start is
// over.
inline uint32_t weight_now(const UpstreamTarget& target, uint64_t slow_start_ms,
                           const FitnessView& view) {
  const uint32_t whole = target.weight * kWeightUnit;
  if (slow_start_ms == 0 || target.row == nullptr) return whole;
  const uint64_t since = came_back_ms(*target.row, view);
  if (since == 0 || view.now_ms >= since + slow_start_ms) return whole;
  const uint64_t passed = view.now_ms > since ? view.now_ms - since : 0;
  return std::max<uint32_t>(1, static_cast<uint32_t>(whole * passed / slow_start_ms));
}

}  // namespace gatehouse
