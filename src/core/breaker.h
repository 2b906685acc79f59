// Circuit breakers: who is not to be asked for a while because asking fails.
//
//            failures in a row, share of failures, share of slow calls
//     closed ──────────────────────────────────────────────────────────▶ open
//        ▲                                                              │  ▲
//        │ enough successes                             its time is over │  │ a probe failed
//        └──────────────────────────── half-open ◀──────────────────────┘  │
//                                          └───────────────────────────────┘
//
// Pure functions over words of shared memory: a breaker is four words of its TrafficRow, which all
// workers change with compare-and-swap, and a part of each worker's own TrafficCell. No clock, no
// log, no lock; a worker that is killed at any instruction leaves every word valid.
//
//   breaker[0]  the stand: state, cause, openings in a row, successes, epoch, a moment; see
//               BreakerStand. All-zero bytes: closed since the clock began.
//   breaker[1]  epoch (high half) and failures in a row (low half)
//   breaker[2]  how often it opened, ever
//   breaker[3]  bit 63: some configuration has a breaker here; below it the moment (ms) of the last
//               change
//   TrafficCell::probes        the probes that this worker has under way
//   TrafficCell::window[5]     its tries of late (core/breaker_window)
//   TrafficCell::window_epoch  the epoch that `window` belongs to
//
// Each change of state begins a new epoch. What is told about a try that was admitted in another
// epoch is ignored: answers that come late change nothing.
//
// While it is closed a success costs one load of the stand, one of the failures in a row, and a
// store in the worker's own line; the windows of all workers are summed only when something failed
// or was slow. Half-open, a worker adds to its own `probes` and then sums those of all: whoever
// finds more than the limit takes its own back. So there are never more than the limit, whoever
// dies when; the probes of a killed worker go with its column, which the master zeroes.
//
// Absent on purpose: timers. An open breaker becomes half-open when somebody asks after its time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/breaker_window.h"
#include "core/traffic_table.h"

namespace gatehouse {

// When a breaker opens, and for how long. All off: no breaker.
struct BreakerRules {
  uint32_t failures = 0;      // in a row; 0: not looked at
  uint32_t failed_share = 0;  // hundredths of a percent of the window's tries; 0: not looked at
  uint32_t slow_share = 0;    // the same, of tries that took slow_ms or longer
  uint32_t slow_ms = 0;
  uint32_t volume = 20;  // tries that the window must hold for a share to count
  uint32_t window_ms = 10'000;
  uint32_t open_ms = 60'000;  // twice as long for each opening in a row, and up to a tenth longer
  uint32_t open_max_ms = 600'000;
  uint32_t probes = 1;       // at a time, over all workers
  uint32_t close_after = 1;  // successes of probes

  bool looks_at_shares() const { return failed_share != 0 || slow_share != 0; }
  bool any() const { return failures != 0 || looks_at_shares(); }
  // The length of a window's quarter.
  uint32_t quarter_ms() const { return window_ms < 4 ? 1 : window_ms / 4; }
  friend bool operator==(const BreakerRules&, const BreakerRules&) = default;
};

inline constexpr uint32_t kBreakerCloseAfterMax = 100;
inline constexpr uint32_t kBreakerProbesMax = 1000;
inline constexpr uint32_t kBreakerVolumeMax = 10'000;

enum class BreakerState : uint8_t { kClosed, kOpen, kHalfOpen };
// What the last change of state came from.
enum class BreakerCause : uint8_t {
  kNone,
  kFailures,
  kFailedShare,
  kSlowShare,
  kProbeFailed,
  kTimeOver,  // of an open one: half-open
  kProbesGood,
  kOperator,
};

const char* breaker_state_name(BreakerState state);
const char* breaker_cause_text(BreakerCause cause);

// breaker[0], unpacked. From bit 0: state (2), cause (3), openings (5), successes (7), epoch (7),
// moment (40).
struct BreakerStand {
  BreakerState state = BreakerState::kClosed;
  BreakerCause cause = BreakerCause::kNone;
  uint8_t openings = 0;   // without a good time between them; how the open time grows
  uint8_t successes = 0;  // of probes, half-open
  uint8_t epoch = 0;
  // Milliseconds of CLOCK_MONOTONIC: open: until when; else: since when.
  uint64_t moment_ms = 0;

  static constexpr uint64_t kForever = (uint64_t{1} << 40) - 1;
  static BreakerStand unpack(uint64_t word);
  uint64_t pack() const;
};

// Where the words of one breaker are, for one worker.
struct BreakerCells {
  TrafficTable* table = nullptr;
  uint32_t index = 0;
  TrafficRow* row = nullptr;
  TrafficCell* own = nullptr;  // null where the caller has no column: it only looks
};

enum class BreakerVerdict : uint8_t { kPass, kProbe, kRefuse };

// A change of state that the caller made; kNone where it made none. It is the only one to know, and
// should log it.
struct BreakerChange {
  bool changed = false;
  BreakerState to = BreakerState::kClosed;
  BreakerCause cause = BreakerCause::kNone;
  uint32_t open_ms = 0;  // to kOpen: for how long
};

// What a try was admitted with: to be given back to breaker_record() or breaker_cancel() once.
struct BreakerPass {
  BreakerVerdict verdict = BreakerVerdict::kPass;
  uint8_t epoch = 0;
};

// May the target (or upstream) be asked? A kProbe counts as under way until it is given back.
// `change` is set where the answer made the breaker half-open. REQUIRES: cells.own.
BreakerPass breaker_admit_slow(const BreakerCells& cells, const BreakerRules& rules,
                               uint64_t now_ms, BreakerChange& change);
inline BreakerPass breaker_admit(const BreakerCells& cells, const BreakerRules& rules,
                                 uint64_t now_ms, BreakerChange& change) {
  const uint64_t word = cells.row->breaker[0].load(std::memory_order_acquire);
  if ((word & 3) == 0) [[likely]]
    return {BreakerVerdict::kPass, static_cast<uint8_t>(word >> 17 & 0x7f)};
  return breaker_admit_slow(cells, rules, now_ms, change);
}
// What breaker_admit() would say, without taking a probe or changing anything.
BreakerVerdict breaker_look_slow(const BreakerCells& cells, const BreakerRules& rules,
                                 uint64_t now_ms);
inline BreakerVerdict breaker_look(const BreakerCells& cells, const BreakerRules& rules,
                                   uint64_t now_ms) {
  const uint64_t word = cells.row->breaker[0].load(std::memory_order_acquire);
  return (word & 3) == 0 ? BreakerVerdict::kPass : breaker_look_slow(cells, rules, now_ms);
}

// Empties the own window for a new epoch.
void begin_window(TrafficCell& own, uint8_t epoch);

// How a try that was admitted went. A probe that was slow has failed, where slow calls matter.
// REQUIRES: cells.own; pass.verdict is not kRefuse.
BreakerChange breaker_record_slow(const BreakerCells& cells, const BreakerRules& rules,
                                  BreakerPass pass, bool failed, bool slow, uint64_t now_ms);
inline BreakerChange breaker_record(const BreakerCells& cells, const BreakerRules& rules,
                                    BreakerPass pass, bool failed, uint64_t latency_ms,
                                    uint64_t now_ms) {
  const bool slow = rules.slow_share != 0 && latency_ms >= rules.slow_ms;
  const uint64_t word = cells.row->breaker[0].load(std::memory_order_acquire);
  const bool usual = (word & 3) == 0 && (word >> 17 & 0x7f) == pass.epoch && !failed && !slow &&
                     pass.verdict == BreakerVerdict::kPass;
  const uint64_t in_row = cells.row->breaker[1].load(std::memory_order_relaxed) & 0xffffffffu;
  if (usual && (in_row == 0 || rules.failures == 0)) [[likely]] {
    if (!rules.looks_at_shares()) return {};
    if (cells.own->window_epoch.load(std::memory_order_relaxed) != pass.epoch) {
      begin_window(*cells.own, pass.epoch);
    }
    window_add(cells.own->window, rules.quarter_ms(), now_ms, false, false);
    return {};
  }
  return breaker_record_slow(cells, rules, pass, failed, slow, now_ms);
}
// The try came to nothing that says anything about the target (its client left).
void breaker_cancel(const BreakerCells& cells, BreakerPass pass);

// An operator's word. Open for `open_ms`, 0: until closed. From anywhere, on any breaker.
void breaker_force_open(TrafficRow& row, uint32_t open_ms, uint64_t now_ms);
void breaker_force_close(TrafficRow& row, uint64_t now_ms);

// Notes in the row whether a configuration has a breaker for it, for who lists them.
void breaker_set_configured(TrafficRow& row, bool configured);

// For status and metrics.
struct BreakerReport {
  bool configured = false;
  BreakerStand stand;
  uint32_t failures_in_row = 0;
  uint64_t opened_total = 0;
  uint64_t changed_ms = 0;  // 0: never
};
BreakerReport breaker_report(const TrafficRow& row);

}  // namespace gatehouse
