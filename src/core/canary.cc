// See canary.h.
#include "core/canary.h"

#include <fmt/format.h>
#include <algorithm>
#include <iterator>

namespace gatehouse {
namespace {

constexpr std::string_view kStates[] = {"not begun", "running", "paused", "promoted",
                                        "rolled back"};
constexpr std::string_view kCauses[] = {
    "",         "it has begun", "a step was passed",     "every step was passed", "too many errors",
    "too slow", "a command",    "the steps have changed"};

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

std::string_view canary_state_name(CanaryState state) {
  return kStates[static_cast<size_t>(state)];
}

std::string_view canary_cause_text(CanaryCause cause) {
  return kCauses[static_cast<size_t>(cause)];
}

bool canary_state_from(std::string_view name, CanaryState& state) {
  const auto* found = std::find(std::begin(kStates), std::end(kStates), name);
  if (found == std::end(kStates)) return false;
  state = static_cast<CanaryState>(found - kStates);
  return true;
}

uint64_t CanaryStand::pack() const {
  return uint64_t{share & 0x3FFFU} | uint64_t{stage & 0x3FU} << 14 |
         static_cast<uint64_t>(state) << 20 | static_cast<uint64_t>(cause) << 24 |
         uint64_t{changes} << 32;
}

CanaryStand CanaryStand::unpack(uint64_t word) {
  CanaryStand stand;
  stand.share = static_cast<uint16_t>(std::min<uint64_t>(word & 0x3FFF, kWholeShare));
  stand.stage = static_cast<uint8_t>(word >> 14 & 0x3F);
  const auto state = static_cast<size_t>(word >> 20 & 7);
  stand.state = state < std::size(kStates) ? static_cast<CanaryState>(state) : CanaryState::kNone;
  const auto cause = static_cast<size_t>(word >> 24 & 0xFF);
  stand.cause = cause < std::size(kCauses) ? static_cast<CanaryCause>(cause) : CanaryCause::kNone;
  stand.changes = static_cast<uint32_t>(word >> 32);
  return stand;
}

bool change_canary(TrafficRow& row, uint64_t& seen, CanaryStand next, uint64_t now_ms) {
  next.changes = CanaryStand::unpack(seen).changes + 1;
  const uint64_t word = next.pack();
  if (!row.share.compare_exchange_strong(seen, word, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
    return false;
  }
  seen = word;
  row.up_since_ms.store(now_ms, kRelaxed);
  return true;
}

void store_canary_figures(TrafficRow& row, const CanaryFigures& figures) {
  for (size_t i = 0; i < 2; ++i) {
    row.breaker[i].store(figures.requests[i], kRelaxed);
    row.breaker[2 + i].store(figures.errors[i], kRelaxed);
    row.concurrency[i].store(figures.p95_us[i], kRelaxed);
  }
}

CanaryFigures load_canary_figures(const TrafficRow& row) {
  CanaryFigures figures;
  for (size_t i = 0; i < 2; ++i) {
    figures.requests[i] = row.breaker[i].load(kRelaxed);
    figures.errors[i] = row.breaker[2 + i].load(kRelaxed);
    figures.p95_us[i] = row.concurrency[i].load(kRelaxed);
  }
  return figures;
}

std::string canary_row_name(std::string_view canary, std::string_view route,
                            std::string_view upstream) {
  return fmt::format("{} {} {}", canary, route, upstream);
}

}  // namespace gatehouse
