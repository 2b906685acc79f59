// Exchanges under way, by key; see limit_holds.h.
#include "core/limit_holds.h"

namespace gatehouse {

Result<LimitHolds> LimitHolds::open(SharedMemory& shared) {
  LimitHolds holds;
  Result<ColumnTable<LimitHoldSet>> columns =
      ColumnTable<LimitHoldSet>::open(shared, "limit.holds", 1, kSets);
  if (!columns) return columns.error();
  holds.columns_ = std::move(*columns);
  return holds;
}

Result<void> LimitHolds::open_column(uint32_t row) {
  Result<LimitHoldSet*> own = columns_.own(row);
  if (!own) return own.error();
  own_ = *own;
  return {};
}

LimitHolds::Outcome LimitHolds::hold(uint64_t hash, uint32_t limit, std::atomic<uint64_t>** word) {
  LimitHoldSet& set = own_[set_of(hash)];
  std::atomic<uint64_t>* place = nullptr;
  for (auto& each : set.words) {
    const uint64_t there = each.load(std::memory_order_relaxed);
    if (has_tag(there, hash)) {
      place = &each;
      break;
    }
    if ((there & kCountMax) == 0 && place == nullptr) place = &each;
  }
  if (place == nullptr) return Outcome::kUncounted;
  const uint64_t before = place->load(std::memory_order_relaxed);
  const uint64_t now = has_tag(before, hash) ? before + 1 : (hash & ~uint64_t{kCountMax}) + 1;
  if ((before & kCountMax) == kCountMax) return Outcome::kRefused;
  // Only this worker writes the word. Counted before the others are asked.
  place->store(now, std::memory_order_seq_cst);
  if (count(hash) > limit) {
    place->store(now - 1, std::memory_order_seq_cst);
    return Outcome::kRefused;
  }
  *word = place;
  return Outcome::kHeld;
}

void LimitHolds::release(void* word) {
  auto& place = *static_cast<std::atomic<uint64_t>*>(word);
  place.store(place.load(std::memory_order_relaxed) - 1, std::memory_order_seq_cst);
}

uint64_t LimitHolds::count(uint64_t hash) const {
  const uint32_t set = set_of(hash);
  uint64_t total = 0;
  columns_.each([&](const LimitHoldSet* column) {
    for (const auto& each : column[set].words) {
      const uint64_t word = each.load(std::memory_order_seq_cst);
      if (has_tag(word, hash)) total += word & kCountMax;
    }
  });
  return total;
}

}  // namespace gatehouse
