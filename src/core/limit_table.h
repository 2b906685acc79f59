// LimitTable: the budgets of many keys, in a zone of the shared segment, without a lock.
//
//   set, 256 bytes    0  tags[16]    bits 4-63 of the key's hash, and 4 bits of turn
//                   128  states[16]  see core/limit_state.h
//
// A key is a keyed 64-bit hash (core/keyed_hash.h); its upper half says which set, and in the set
// it may stand in any of the 16 cells. For keys_max keys there are 15/8 as many cells: 30 bytes a
// key. With keys_max keys in use one in a thousand finds its set full; then the cell that is
// nearest to being unused gives way, its budget is forgotten, and that is counted.
//
// Two words and no lock: a state belongs to a tag only while both have the same turn. Claiming a
// cell is one compare-and-swap of its tag, which moves the turn on, so that the state that was
// there means nothing any more; the first state is written by the take that follows. Whoever has
// changed a state looks at the tag again: where the cell was claimed meanwhile, it begins anew.
// So at every instruction, whoever is killed there, each cell is free, or has a valid budget.
//
// Two workers that bring in the same key at once may claim two cells for it. Whoever looks a key up
// sees all cells of the set; of several with the key's tag the first counts, the others are freed
// and what was used of them is charged to the first, in an order in which nothing that was taken
// is lost: the tag is freed before the state is read, and a taker writes the state before it looks
// at the tag again. So nobody gets two budgets. The one exception: a worker that is killed between
// those two steps takes with it what was used of that second cell, mostly one request.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/limit_state.h"
#include "core/shared_memory.h"

namespace gatehouse {

struct alignas(64) LimitSet {
  static constexpr uint32_t kWays = 16;
  std::atomic<uint64_t> tags[kWays];
  std::atomic<uint64_t> states[kWays];
};
static_assert(sizeof(LimitSet) == 256 && ZoneLayout<LimitSet>);

class LimitTable {
 public:
  static constexpr uint32_t kKeysMin = 64;
  static constexpr uint32_t kKeysMax = 64'000'000;

  // How large a zone for `keys` has to be: at most 32 bytes a key.
  static constexpr uint32_t sets_for(uint32_t keys) {
    const uint64_t cells = uint64_t{keys} * 15 / 8;
    return static_cast<uint32_t>(cells / LimitSet::kWays > 0 ? cells / LimitSet::kWays : 1);
  }
  static constexpr size_t bytes_for(uint32_t keys) { return sets_for(keys) * sizeof(LimitSet); }

  LimitTable() = default;
  explicit LimitTable(std::span<std::byte> zone)
      : sets_(zone_as<LimitSet>(zone, zone.size() / sizeof(LimitSet))),
        count_(sets_ == nullptr ? 0 : static_cast<uint32_t>(zone.size() / sizeof(LimitSet))) {}

  bool empty() const { return count_ == 0; }
  uint32_t cells() const { return count_ * LimitSet::kWays; }
  // Where keys are looked for that this table does not have yet: the same limit's table of another
  // size. It has to outlive this one.
  void set_before(const LimitTable* before) { before_ = before; }

  // Begins to fetch what take() needs.
  void prefetch(uint64_t hash) const {
    const auto* set = reinterpret_cast<const char*>(&set_of(hash));
    for (size_t line = 0; line < sizeof(LimitSet); line += 64) __builtin_prefetch(set + line, 1);
  }

  // What was decided about one key, for fields and for giving back.
  struct Taken {
    uint64_t count = 0;  // after it, under the rule `epoch`
    uint32_t epoch = 0;
    uint32_t set = 0;
    uint32_t way = 0;
    uint32_t piece = 0;
    uint64_t tag = 0;      // with the turn; 0: nothing was taken
    bool evicted = false;  // another key's budget was forgotten
  };

  // Takes `cost` from the key's budget, where there is room. A refusal changes nothing.
  // REQUIRES: the rules have a rate.
  bool take(const LimitRules& rules, uint64_t hash, int64_t now_us, uint64_t cost, Taken& taken);
  // As take(), but changes nothing at all.
  bool has_room(const LimitRules& rules, uint64_t hash, int64_t now_us, uint64_t cost,
                Taken& seen) const;
  // Undoes a take() of this process, unless the budget was forgotten meanwhile.
  void give_back(const LimitRules& rules, const Taken& taken, uint64_t cost);

  // Forgets what was used of the key's budget. False where nothing was known of it.
  bool reset(uint64_t hash);
  void reset_all();
  // Brings states that were written under old rules up to date. Call it after each change.
  void refresh(const LimitRules& rules);
  // How many keys have used some of their budget.
  uint64_t used_keys(const LimitRules& rules, int64_t now_us) const;

  // For tests: calls visit(tag without turn, count under the current rule) for each cell with one.
  template <typename Visit>
  void each(const LimitRules& rules, Visit visit) const {
    for (uint32_t s = 0; s < count_; ++s) {
      for (uint32_t way = 0; way < LimitSet::kWays; ++way) {
        const uint64_t tag = sets_[s].tags[way].load(std::memory_order_acquire);
        if (tag >> kTurnBits == 0) continue;
        uint32_t epoch = 0;
        visit(tag >> kTurnBits, count_in(rules, sets_[s], way, tag, epoch));
      }
    }
  }

 private:
  static constexpr unsigned kTurnBits = 4;
  static constexpr uint64_t kTurnMask = (1U << kTurnBits) - 1;

  static uint64_t tag_of(uint64_t hash) {
    const uint64_t tag = hash >> kTurnBits;
    return tag != 0 ? tag : 1;
  }
  uint32_t index_of(uint64_t hash) const {
    return static_cast<uint32_t>((hash >> 32) * count_ >> 32);
  }
  LimitSet& set_of(uint64_t hash) const { return sets_[index_of(hash)]; }

  static uint32_t ways_with(const LimitSet& set, uint64_t tag);
  static uint64_t count_in(const LimitRules& rules, const LimitSet& set, uint32_t way, uint64_t tag,
                           uint32_t& epoch, bool* is_new = nullptr);
  uint32_t find_or_claim(const LimitRules& rules, LimitSet& set, uint64_t tag, int64_t now_us,
                         bool& evicted);
  static uint32_t choose_victim(const LimitRules& rules, const LimitSet& set, int64_t now_us,
                                uint64_t& seen, bool& in_use);
  static void join(const LimitRules& rules, LimitSet& set, uint64_t tag, uint32_t ways,
                   int64_t now_us);
  static void charge(const LimitRules& rules, LimitSet& set, uint64_t tag, int64_t now_us,
                     uint64_t units);
  uint64_t count_before(const LimitRules& rules, uint64_t hash, uint32_t epoch) const;

  LimitSet* sets_ = nullptr;
  uint32_t count_ = 0;
  const LimitTable* before_ = nullptr;
};

}  // namespace gatehouse
