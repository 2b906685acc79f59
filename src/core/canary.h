// Canaries: what the workers, the agent and the operator know of a share that grows by steps.
//
// A canary has a row of the kind kSplit in the traffic table, named CANARY ROUTE UPSTREAM, so that
// one that means something else begins anew. The row's word `share` says how it stands: workers
// take the share from it, the agent moves it from step to step, and the operator's commands change
// it too. Whoever changes it exchanges the whole word, which counts its changes, so that nobody
// overwrites what he has not seen. All zeros: it has not begun, and workers take the shares of the
// configuration. What the agent measures last stands in words of the row that splits have no other
// use for; they are for people to look at, and each is valid by itself.
//
// The agent being away, everything stays as it is; the operator's commands work.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_values.h"
#include "core/traffic_table.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr uint32_t kWholeShare = 10'000;  // hundredths of a percent
inline constexpr size_t kCanaryStepsMax = 32;

enum class CanaryState : uint8_t { kNone, kRunning, kPaused, kPromoted, kRolledBack };

// What the last change came from.
enum class CanaryCause : uint8_t {
  kNone,
  kBegun,
  kStepPassed,
  kAllPassed,
  kErrors,    // the new side failed too often
  kLatency,   // it was too slow
  kOperator,  // a command
  kSteps,     // the configuration has other steps now
};

// "running", "rolled back", …
std::string_view canary_state_name(CanaryState state);
std::string_view canary_cause_text(CanaryCause cause);
// False where there is none of that name; for what was stored.
bool canary_state_from(std::string_view name, CanaryState& state);

struct CanaryStand {
  CanaryState state = CanaryState::kNone;
  CanaryCause cause = CanaryCause::kNone;
  uint8_t stage = 0;     // number of the step, from 0
  uint16_t share = 0;    // of the new side, in hundredths of a percent
  uint32_t changes = 0;  // of the word so far

  // Bits: 0..13 share, 14..19 stage, 20..22 state, 24..31 cause, 32..63 changes.
  uint64_t pack() const;
  // Whatever stands there becomes something legal.
  static CanaryStand unpack(uint64_t word);
  friend bool operator==(const CanaryStand&, const CanaryStand&) = default;
};

// The share that a worker gives to the new side; `configured` where the canary has not begun.
inline uint32_t canary_share(uint64_t word, uint32_t configured) {
  const CanaryStand stand = CanaryStand::unpack(word);
  return stand.state == CanaryState::kNone ? configured : stand.share;
}

// Exchanges the word for `next` with one change more, and notes the moment. False where it is not
// `seen` any more; `seen` is what it is then, or what it has become.
bool change_canary(TrafficRow& row, uint64_t& seen, CanaryStand next, uint64_t now_ms);

// Of both sides since the step began: the new one and the stable one.
struct CanaryFigures {
  uint64_t requests[2] = {};
  uint64_t errors[2] = {};
  uint64_t p95_us[2] = {};
};
void store_canary_figures(TrafficRow& row, const CanaryFigures& figures);
CanaryFigures load_canary_figures(const TrafficRow& row);

// What decides about a step: [canary].
struct CanaryRules {
  enum class OnFailure : uint8_t { kRollback, kPause };
  std::vector<Percent> steps;  // growing
  Duration interval{0};        // of a step
  uint64_t min_requests = 1;   // to the new side, before anything is decided
  Percent max_error_rate;
  bool over_stable = false;  // max_error_rate is on top of the stable side's
  double max_latency = 0;    // times the stable side's 95th percentile; 0: not looked at
  OnFailure on_failure = OnFailure::kRollback;
  friend bool operator==(const CanaryRules&, const CanaryRules&) = default;
};

// "CANARY ROUTE UPSTREAM".
std::string canary_row_name(std::string_view canary, std::string_view route,
                            std::string_view upstream);

}  // namespace gatehouse
