// Cells of budgets, changed without a lock; see limit_table.h.
#include "core/limit_table.h"

#include <bit>
#include <limits>

namespace gatehouse {
namespace {

constexpr auto kOrdered = std::memory_order_seq_cst;

}  // namespace

// A bit for each cell that has the tag.
uint32_t LimitTable::ways_with(const LimitSet& set, uint64_t tag) {
  uint32_t ways = 0;
  for (uint32_t way = 0; way < LimitSet::kWays; ++way) {
    const uint64_t there = set.tags[way].load(std::memory_order_acquire) >> kTurnBits;
    ways |= static_cast<uint32_t>(there == tag) << way;
  }
  return ways;
}

// The count of the cell under the newest rule, which `epoch` becomes; 0 where its state is another
// key's. `tag`: as it was read, with its turn.
uint64_t LimitTable::count_in(const LimitRules& rules, const LimitSet& set, uint32_t way,
                              uint64_t tag, uint32_t& epoch, bool* is_new) {
  const uint64_t state = set.states[way].load(kOrdered);
  // After the state: nobody writes it under a rule that we do not see then.
  epoch = rules.epoch.load(std::memory_order_acquire);
  const bool strange = limit_state_turn(state) != (tag & kTurnMask);
  if (is_new != nullptr) *is_new = strange;
  return strange ? 0 : limit_count_at(rules, epoch, state);
}

uint64_t LimitTable::count_before(const LimitRules& rules, uint64_t hash, uint32_t epoch) const {
  if (before_ == nullptr || before_->empty()) return 0;
  const LimitSet& set = before_->set_of(hash);
  const uint64_t tag = tag_of(hash);
  const uint32_t ways = ways_with(set, tag);
  if (ways == 0) return 0;
  const auto way = static_cast<uint32_t>(std::countr_zero(ways));
  const uint64_t whole = set.tags[way].load(kOrdered);
  uint32_t newest = 0;
  const uint64_t count = count_in(rules, set, way, whole, newest);
  return newest == epoch ? count : 0;
}

bool LimitTable::take(const LimitRules& rules, uint64_t hash, int64_t now_us, uint64_t cost,
                      Taken& taken) {
  const uint64_t tag = tag_of(hash);
  LimitSet& set = set_of(hash);
  for (;;) {
    const uint32_t way = find_or_claim(rules, set, tag, now_us, taken.evicted);
    const uint64_t whole = set.tags[way].load(kOrdered);
    if (whole >> kTurnBits != tag) continue;
    uint64_t state = set.states[way].load(kOrdered);
    const uint32_t epoch = rules.epoch.load(std::memory_order_acquire);
    const LimitRule& rule = rules.at(epoch);
    uint64_t count = limit_state_turn(state) == (whole & kTurnMask)
                         ? limit_count_at(rules, epoch, state)
                         : count_before(rules, hash, epoch);
    const bool has_room = limit_take(rule, count, now_us, cost, &taken.piece);
    taken.count = count;
    taken.epoch = epoch;
    taken.tag = 0;
    if (!has_room) return false;
    const uint64_t next = make_limit_state(static_cast<unsigned>(whole & kTurnMask), epoch, count);
    if (!set.states[way].compare_exchange_strong(state, next, kOrdered)) continue;
    // The cell may have been claimed for another key, or joined with another cell of this one.
    if (set.tags[way].load(kOrdered) != whole) continue;
    taken.set = index_of(hash);
    taken.way = way;
    taken.tag = whole;
    return true;
  }
}

bool LimitTable::has_room(const LimitRules& rules, uint64_t hash, int64_t now_us, uint64_t cost,
                          Taken& seen) const {
  const LimitSet& set = set_of(hash);
  const uint64_t tag = tag_of(hash);
  const uint32_t ways = ways_with(set, tag);
  bool is_new = true;
  if (ways != 0) {
    const auto way = static_cast<uint32_t>(std::countr_zero(ways));
    const uint64_t whole = set.tags[way].load(kOrdered);
    seen.count = count_in(rules, set, way, whole, seen.epoch, &is_new);
  }
  if (is_new) {
    seen.epoch = rules.epoch.load(std::memory_order_acquire);
    seen.count = count_before(rules, hash, seen.epoch);
  }
  uint64_t count = seen.count;
  return limit_take(rules.at(seen.epoch), count, now_us, cost);
}

void LimitTable::give_back(const LimitRules& rules, const Taken& taken, uint64_t cost) {
  if (taken.tag == 0) return;
  LimitSet& set = sets_[taken.set];
  uint64_t state = set.states[taken.way].load(kOrdered);
  for (;;) {
    // A budget that was forgotten, or came under another rule, gives nothing back: that errs
    // towards refusing.
    if (set.tags[taken.way].load(kOrdered) != taken.tag) return;
    const auto epoch = static_cast<uint32_t>(state >> kLimitCountBits) % kLimitEpochs;
    if (limit_state_turn(state) != (taken.tag & kTurnMask) || epoch != taken.epoch % kLimitEpochs) {
      return;
    }
    const uint64_t count =
        limit_give_back(rules.at(taken.epoch), state & kLimitCountMask, cost, taken.piece);
    const uint64_t next = make_limit_state(limit_state_turn(state), epoch, count);
    if (set.states[taken.way].compare_exchange_weak(state, next, kOrdered)) return;
  }
}

// The key's cell; claims one where it has none. `evicted`: another key lost its budget for that.
uint32_t LimitTable::find_or_claim(const LimitRules& rules, LimitSet& set, uint64_t tag,
                                   int64_t now_us, bool& evicted) {
  for (;;) {
    const uint32_t ways = ways_with(set, tag);
    if (ways != 0) {
      if (!std::has_single_bit(ways)) [[unlikely]]
        join(rules, set, tag, ways, now_us);
      return static_cast<uint32_t>(std::countr_zero(ways));
    }
    uint64_t seen = 0;
    bool in_use = false;
    const uint32_t way = choose_victim(rules, set, now_us, seen, in_use);
    const uint64_t claimed = tag << kTurnBits | ((seen + 1) & kTurnMask);
    // The next round sees whether somebody else has claimed a cell for the same key.
    if (set.tags[way].compare_exchange_strong(seen, claimed, kOrdered) && in_use) evicted = true;
  }
}

// A free cell; else one whose budget is unused; else the one that will be unused first. `seen` is
// its tag as it was read.
uint32_t LimitTable::choose_victim(const LimitRules& rules, const LimitSet& set, int64_t now_us,
                                   uint64_t& seen, bool& in_use) {
  uint32_t best = 0;
  int64_t shortest = std::numeric_limits<int64_t>::max();
  for (uint32_t way = 0; way < LimitSet::kWays; ++way) {
    const uint64_t tag = set.tags[way].load(kOrdered);
    int64_t life = -1;
    bool is_new = false;
    if (tag >> kTurnBits != 0) {
      uint32_t epoch = 0;
      const uint64_t count = count_in(rules, set, way, tag, epoch, &is_new);
      // One that was just claimed is about to be used.
      life = is_new ? 1 : limit_life_us(rules.at(epoch), count, now_us);
    }
    if (life >= shortest) continue;
    shortest = life;
    best = way;
    seen = tag;
    in_use = life > 0 && !is_new;
    if (life < 0) break;
  }
  return best;
}

// Several cells have the tag: the first of `ways` gets what was used of the others.
void LimitTable::join(const LimitRules& rules, LimitSet& set, uint64_t tag, uint32_t ways,
                      int64_t now_us) {
  for (ways &= ways - 1; ways != 0; ways &= ways - 1) {
    const auto way = static_cast<uint32_t>(std::countr_zero(ways));
    uint64_t whole = set.tags[way].load(kOrdered);
    if (whole >> kTurnBits != tag) continue;
    // Only who frees the tag moves what was used, and before it reads that.
    if (!set.tags[way].compare_exchange_strong(whole, whole & kTurnMask, kOrdered)) continue;
    uint32_t epoch = 0;
    const uint64_t count = count_in(rules, set, way, whole, epoch);
    const uint64_t units = limit_used_units(rules.at(epoch), count, now_us);
    if (units != 0) charge(rules, set, tag, now_us, units);
  }
}

void LimitTable::charge(const LimitRules& rules, LimitSet& set, uint64_t tag, int64_t now_us,
                        uint64_t units) {
  for (;;) {
    const uint32_t ways = ways_with(set, tag);
    if (ways == 0) return;  // the budget was forgotten meanwhile
    const auto way = static_cast<uint32_t>(std::countr_zero(ways));
    const uint64_t whole = set.tags[way].load(kOrdered);
    if (whole >> kTurnBits != tag) continue;
    uint64_t state = set.states[way].load(kOrdered);
    const uint32_t epoch = rules.epoch.load(std::memory_order_acquire);
    const bool is_new = limit_state_turn(state) != (whole & kTurnMask);
    const uint64_t count = limit_charge(
        rules.at(epoch), is_new ? 0 : limit_count_at(rules, epoch, state), now_us, units);
    const uint64_t next = make_limit_state(static_cast<unsigned>(whole & kTurnMask), epoch, count);
    if (!set.states[way].compare_exchange_strong(state, next, kOrdered)) continue;
    if (set.tags[way].load(kOrdered) == whole) return;
  }
}

bool LimitTable::reset(uint64_t hash) {
  LimitSet& set = set_of(hash);
  const uint64_t tag = tag_of(hash);
  bool known = false;
  for (auto& word : set.tags) {
    uint64_t whole = word.load(kOrdered);
    if (whole >> kTurnBits != tag) continue;
    known |= word.compare_exchange_strong(whole, whole & kTurnMask, kOrdered);
  }
  return known;
}

void LimitTable::reset_all() {
  for (uint32_t s = 0; s < count_; ++s) {
    for (auto& word : sets_[s].tags) {
      uint64_t whole = word.load(std::memory_order_relaxed);
      if (whole >> kTurnBits == 0) continue;
      (void)word.compare_exchange_strong(whole, whole & kTurnMask, kOrdered);
    }
  }
}

void LimitTable::refresh(const LimitRules& rules) {
  for (uint32_t s = 0; s < count_; ++s) {
    LimitSet& set = sets_[s];
    for (uint32_t way = 0; way < LimitSet::kWays; ++way) {
      if (set.tags[way].load(std::memory_order_relaxed) >> kTurnBits == 0) continue;
      uint64_t state = set.states[way].load(kOrdered);
      const uint32_t epoch = rules.epoch.load(std::memory_order_acquire);
      const uint64_t next =
          make_limit_state(limit_state_turn(state), epoch, limit_count_at(rules, epoch, state));
      // Where it fails somebody has just used it, under the newest rule.
      if (next != state) (void)set.states[way].compare_exchange_strong(state, next, kOrdered);
    }
  }
}

uint64_t LimitTable::used_keys(const LimitRules& rules, int64_t now_us) const {
  uint64_t used = 0;
  each(rules, [&](uint64_t, uint64_t count) {
    if (limit_life_us(rules.current(), count, now_us) > 0) ++used;
  });
  return used;
}

}  // namespace gatehouse
