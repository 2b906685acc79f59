// See breaker.h.
#include "core/breaker.h"

#include <algorithm>

#include "core/breaker_window.h"

namespace gatehouse {
namespace {

constexpr unsigned kCauseShift = 2;
constexpr unsigned kOpeningsShift = 5;
constexpr unsigned kSuccessesShift = 10;
constexpr unsigned kEpochShift = 17;
constexpr unsigned kMomentShift = 24;
constexpr uint8_t kOpeningsMax = 31;
constexpr uint8_t kEpochMask = 0x7f;
constexpr uint64_t kConfigured = uint64_t{1} << 63;

uint8_t next_epoch(uint8_t epoch) {
  return static_cast<uint8_t>((epoch + 1) & kEpochMask);
}

// Spreads what opened at the same moment: breakers of several targets, gateways of a fleet.
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

uint64_t grown_open_ms(const BreakerRules& rules, unsigned openings) {
  uint64_t ms = rules.open_ms;
  const uint64_t most = std::max(rules.open_max_ms, rules.open_ms);
  for (unsigned i = 1; i < openings && ms < most; ++i) ms *= 2;
  return std::min(ms, most);
}

// What one of several callers did: only the one whose exchange succeeded.
bool replace(TrafficRow& row, uint64_t& word, const BreakerStand& next, uint64_t now_ms) {
  if (!row.breaker[0].compare_exchange_strong(word, next.pack(), std::memory_order_seq_cst)) {
    return false;
  }
  uint64_t noted = row.breaker[3].load(std::memory_order_relaxed);
  while (!row.breaker[3].compare_exchange_weak(noted, (noted & kConfigured) | now_ms,
                                               std::memory_order_relaxed)) {
  }
  return true;
}

BreakerChange changed_to(const BreakerStand& stand) {
  BreakerChange change;
  change.changed = true;
  change.to = stand.state;
  change.cause = stand.cause;
  return change;
}

// Opens it, where it is still as `word` says.
BreakerChange trip(TrafficRow& row, const BreakerRules& rules, uint64_t word, BreakerCause cause,
                   uint64_t now_ms) {
  const BreakerStand before = BreakerStand::unpack(word);
  BreakerStand next;
  next.state = BreakerState::kOpen;
  next.cause = cause;
  // A good time as long as the last open one was makes up for what came before.
  const bool recovered =
      before.state == BreakerState::kClosed &&
      now_ms - std::min(now_ms, before.moment_ms) > grown_open_ms(rules, before.openings);
  const unsigned openings = recovered ? 1u : before.openings + 1u;
  next.openings = static_cast<uint8_t>(std::min<unsigned>(openings, kOpeningsMax));
  next.epoch = next_epoch(before.epoch);
  const uint64_t plain = grown_open_ms(rules, next.openings);
  const uint64_t salt = reinterpret_cast<uintptr_t>(&row);
  const uint64_t open_ms = plain + mixed(now_ms ^ salt) % (plain / 10 + 1);
  next.moment_ms = std::min(now_ms + open_ms, BreakerStand::kForever - 1);
  if (!replace(row, word, next, now_ms)) return {};
  row.breaker[2].fetch_add(1, std::memory_order_relaxed);
  BreakerChange change = changed_to(next);
  change.open_ms = static_cast<uint32_t>(open_ms);
  return change;
}

// Failures in a row, this one included.
uint32_t count_failure(TrafficRow& row, uint8_t epoch) {
  uint64_t word = row.breaker[1].load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t before = word >> 32 == epoch ? word & 0xffffffffu : 0;
    const uint64_t count = std::min<uint64_t>(before + 1, 0xffffffffu);
    const uint64_t next = uint64_t{epoch} << 32 | count;
    if (row.breaker[1].compare_exchange_weak(word, next, std::memory_order_relaxed)) {
      return static_cast<uint32_t>(count);
    }
  }
}

void end_failures(TrafficRow& row, uint8_t epoch) {
  uint64_t word = row.breaker[1].load(std::memory_order_relaxed);
  if ((word & 0xffffffffu) == 0 || word >> 32 != epoch) return;
  // Where somebody counts another failure just now, that one came last.
  (void)row.breaker[1].compare_exchange_strong(word, uint64_t{epoch} << 32,
                                               std::memory_order_relaxed);
}

// What the shares of all workers' windows say.
BreakerCause judge_window(const BreakerCells& cells, const BreakerRules& rules, uint8_t epoch,
                          uint64_t now_ms) {
  WindowCounts sum;
  cells.table->columns().each([&](const TrafficCell* column) {
    const TrafficCell& cell = column[cells.index];
    if (cell.window_epoch.load(std::memory_order_acquire) != epoch) return;
    window_sum(cell.window, rules.quarter_ms(), now_ms, sum);
  });
  if (sum.tries < uint64_t{rules.volume} * kWindowScale) return BreakerCause::kNone;
  const auto reaches = [&](uint64_t part, uint32_t share) {
    return share != 0 && part * 10'000 >= sum.tries * share;
  };
  if (reaches(sum.failed, rules.failed_share)) return BreakerCause::kFailedShare;
  if (reaches(sum.slow, rules.slow_share)) return BreakerCause::kSlowShare;
  return BreakerCause::kNone;
}

BreakerChange record_closed(const BreakerCells& cells, const BreakerRules& rules, uint64_t word,
                            bool failed, bool slow, uint64_t now_ms) {
  TrafficRow& row = *cells.row;
  const uint8_t epoch = BreakerStand::unpack(word).epoch;
  if (rules.looks_at_shares()) {
    if (cells.own->window_epoch.load(std::memory_order_relaxed) != epoch) {
      begin_window(*cells.own, epoch);
    }
    window_add(cells.own->window, rules.quarter_ms(), now_ms, failed, slow);
  }
  if (rules.failures != 0) {
    if (!failed) {
      end_failures(row, epoch);
    } else if (count_failure(row, epoch) >= rules.failures) {
      return trip(row, rules, word, BreakerCause::kFailures, now_ms);
    }
  }
  if (!(failed || slow) || !rules.looks_at_shares()) return {};
  const BreakerCause cause = judge_window(cells, rules, epoch, now_ms);
  if (cause == BreakerCause::kNone) return {};
  return trip(row, rules, word, cause, now_ms);
}

// A probe has been answered.
BreakerChange record_probe(TrafficRow& row, const BreakerRules& rules, uint64_t word, bool failed,
                           uint64_t now_ms) {
  const uint8_t epoch = BreakerStand::unpack(word).epoch;
  for (;;) {
    const BreakerStand before = BreakerStand::unpack(word);
    if (before.state != BreakerState::kHalfOpen || before.epoch != epoch) return {};
    if (failed) {
      const BreakerChange change = trip(row, rules, word, BreakerCause::kProbeFailed, now_ms);
      if (change.changed) return change;
      word = row.breaker[0].load(std::memory_order_acquire);
      continue;
    }
    BreakerStand next = before;
    ++next.successes;
    if (next.successes < std::min(rules.close_after, kBreakerCloseAfterMax)) {
      if (row.breaker[0].compare_exchange_strong(word, next.pack())) return {};
      continue;
    }
    next.state = BreakerState::kClosed;
    next.cause = BreakerCause::kProbesGood;
    next.successes = 0;
    next.epoch = next_epoch(before.epoch);
    next.moment_ms = now_ms;
    if (replace(row, word, next, now_ms)) return changed_to(next);
  }
}

uint64_t probes_under_way(const BreakerCells& cells) {
  return cells.table->sum(cells.index, &TrafficCell::probes);
}

}  // namespace

BreakerStand BreakerStand::unpack(uint64_t word) {
  BreakerStand stand;
  // The fourth value of two bits is never written.
  stand.state = static_cast<BreakerState>(std::min<uint64_t>(word & 3, 2));
  stand.cause = static_cast<BreakerCause>(word >> kCauseShift & 7);
  stand.openings = static_cast<uint8_t>(word >> kOpeningsShift & kOpeningsMax);
  stand.successes = static_cast<uint8_t>(word >> kSuccessesShift & 0x7f);
  stand.epoch = static_cast<uint8_t>(word >> kEpochShift & kEpochMask);
  stand.moment_ms = word >> kMomentShift;
  return stand;
}

uint64_t BreakerStand::pack() const {
  return static_cast<uint64_t>(state) | static_cast<uint64_t>(cause) << kCauseShift |
         uint64_t{openings} << kOpeningsShift | uint64_t{successes} << kSuccessesShift |
         uint64_t{epoch} << kEpochShift | std::min(moment_ms, kForever) << kMomentShift;
}

BreakerPass breaker_admit_slow(const BreakerCells& cells, const BreakerRules& rules,
                               uint64_t now_ms, BreakerChange& change) {
  TrafficRow& row = *cells.row;
  uint64_t word = row.breaker[0].load(std::memory_order_acquire);
  for (;;) {
    const BreakerStand stand = BreakerStand::unpack(word);
    if (stand.state == BreakerState::kClosed) return {BreakerVerdict::kPass, stand.epoch};
    if (stand.state == BreakerState::kOpen) {
      if (stand.moment_ms == BreakerStand::kForever || now_ms < stand.moment_ms) {
        return {BreakerVerdict::kRefuse, stand.epoch};
      }
      BreakerStand next = stand;
      next.state = BreakerState::kHalfOpen;
      next.cause = BreakerCause::kTimeOver;
      next.successes = 0;
      next.epoch = next_epoch(stand.epoch);
      next.moment_ms = now_ms;
      if (!replace(row, word, next, now_ms)) continue;
      change = changed_to(next);
      word = next.pack();
      continue;
    }
    cells.own->probes.fetch_add(1, std::memory_order_seq_cst);
    if (probes_under_way(cells) > rules.probes) {
      cells.own->probes.fetch_sub(1, std::memory_order_seq_cst);
      return {BreakerVerdict::kRefuse, stand.epoch};
    }
    // It may have changed while the probes were counted.
    const uint64_t now = row.breaker[0].load(std::memory_order_seq_cst);
    const BreakerStand after = BreakerStand::unpack(now);
    if (after.state == BreakerState::kHalfOpen && after.epoch == stand.epoch) {
      return {BreakerVerdict::kProbe, stand.epoch};
    }
    cells.own->probes.fetch_sub(1, std::memory_order_seq_cst);
    word = now;
  }
}

void begin_window(TrafficCell& own, uint8_t epoch) {
  window_clear(own.window);
  own.window_epoch.store(epoch, std::memory_order_release);
}

BreakerVerdict breaker_look_slow(const BreakerCells& cells, const BreakerRules& rules,
                                 uint64_t now_ms) {
  const uint64_t word = cells.row->breaker[0].load(std::memory_order_acquire);
  const BreakerStand stand = BreakerStand::unpack(word);
  if (stand.state == BreakerState::kClosed) return BreakerVerdict::kPass;
  if (stand.state == BreakerState::kOpen &&
      (stand.moment_ms == BreakerStand::kForever || now_ms < stand.moment_ms)) {
    return BreakerVerdict::kRefuse;
  }
  return probes_under_way(cells) < rules.probes ? BreakerVerdict::kProbe : BreakerVerdict::kRefuse;
}

BreakerChange breaker_record_slow(const BreakerCells& cells, const BreakerRules& rules,
                                  BreakerPass pass, bool failed, bool slow, uint64_t now_ms) {
  const uint64_t word = cells.row->breaker[0].load(std::memory_order_acquire);
  const BreakerStand stand = BreakerStand::unpack(word);
  BreakerChange change;
  if (stand.epoch == pass.epoch) {
    if (stand.state == BreakerState::kClosed) {
      change = record_closed(cells, rules, word, failed, slow, now_ms);
    } else if (stand.state == BreakerState::kHalfOpen && pass.verdict == BreakerVerdict::kProbe) {
      change = record_probe(*cells.row, rules, word, failed || slow, now_ms);
    }
  }
  // After the stand has been changed: who finds room for another probe meets the new one.
  breaker_cancel(cells, pass);
  return change;
}

void breaker_cancel(const BreakerCells& cells, BreakerPass pass) {
  if (pass.verdict != BreakerVerdict::kProbe) return;
  cells.own->probes.fetch_sub(1, std::memory_order_seq_cst);
}

void breaker_force_open(TrafficRow& row, uint32_t open_ms, uint64_t now_ms) {
  uint64_t word = row.breaker[0].load(std::memory_order_acquire);
  BreakerStand next;
  bool was_open = false;
  do {
    const BreakerStand before = BreakerStand::unpack(word);
    was_open = before.state == BreakerState::kOpen;
    next = before;
    next.state = BreakerState::kOpen;
    next.cause = BreakerCause::kOperator;
    next.openings = std::max<uint8_t>(before.openings, 1);
    next.successes = 0;
    next.epoch = next_epoch(before.epoch);
    next.moment_ms = open_ms == 0 ? BreakerStand::kForever : now_ms + open_ms;
  } while (!replace(row, word, next, now_ms));
  if (!was_open) row.breaker[2].fetch_add(1, std::memory_order_relaxed);
}

void breaker_force_close(TrafficRow& row, uint64_t now_ms) {
  uint64_t word = row.breaker[0].load(std::memory_order_acquire);
  BreakerStand next;
  do {
    const BreakerStand before = BreakerStand::unpack(word);
    next = BreakerStand();
    next.cause = BreakerCause::kOperator;
    next.epoch = next_epoch(before.epoch);
    next.moment_ms = now_ms;
  } while (!replace(row, word, next, now_ms));
}

void breaker_set_configured(TrafficRow& row, bool configured) {
  if (configured) {
    row.breaker[3].fetch_or(kConfigured, std::memory_order_relaxed);
  } else {
    row.breaker[3].fetch_and(~kConfigured, std::memory_order_relaxed);
  }
}

BreakerReport breaker_report(const TrafficRow& row) {
  BreakerReport report;
  report.stand = BreakerStand::unpack(row.breaker[0].load(std::memory_order_acquire));
  const uint64_t failures = row.breaker[1].load(std::memory_order_relaxed);
  if (failures >> 32 == report.stand.epoch) {
    report.failures_in_row = static_cast<uint32_t>(failures);
  }
  report.opened_total = row.breaker[2].load(std::memory_order_relaxed);
  const uint64_t noted = row.breaker[3].load(std::memory_order_relaxed);
  report.configured = (noted & kConfigured) != 0;
  report.changed_ms = noted & ~kConfigured;
  return report;
}

const char* breaker_state_name(BreakerState state) {
  switch (state) {
    case BreakerState::kClosed:
      return "closed";
    case BreakerState::kOpen:
      return "open";
    case BreakerState::kHalfOpen:
      return "half_open";
  }
  return "closed";
}

const char* breaker_cause_text(BreakerCause cause) {
  switch (cause) {
    case BreakerCause::kNone:
      return "";
    case BreakerCause::kFailures:
      return "failures in a row";
    case BreakerCause::kFailedShare:
      return "share of failures";
    case BreakerCause::kSlowShare:
      return "share of slow calls";
    case BreakerCause::kProbeFailed:
      return "a probe failed";
    case BreakerCause::kTimeOver:
      return "its time is over";
    case BreakerCause::kProbesGood:
      return "probes succeeded";
    case BreakerCause::kOperator:
      return "by command";
  }
  return "";
}

}  // namespace gatehouse
