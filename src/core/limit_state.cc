// Token bucket and sliding window on one word; see limit_state.h.
#include "core/limit_state.h"

#include <algorithm>
#include <bit>

namespace gatehouse {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr unsigned kSlopeBits = 48;
constexpr unsigned kPieceNumberBits = 18;
constexpr uint32_t kPieceNumberMask = (1U << kPieceNumberBits) - 1;
constexpr unsigned kCountsBits = kLimitCountBits - kPieceNumberBits;
constexpr uint32_t kPiecesMax = 8;
// Workers read the time once a turn of their loop, so that one may be behind another.
constexpr uint32_t kPiecesBehind = 8;
// More than any burst: a level this far ahead is one that the clock has passed long ago.
constexpr uint64_t kLevelAheadMax = uint64_t{1} << 40;
static_assert(kBurstMax * kTokenUnits < kLevelAheadMax);

uint64_t passed_us(const LimitRule& rule, int64_t now_us) {
  return now_us > rule.from_us ? static_cast<uint64_t>(now_us - rule.from_us) : 0;
}

int64_t ceil_div(Wide dividend, Wide divisor) {
  const Wide result = (dividend + divisor - 1) / divisor;
  constexpr Wide kMax = Wide{1} << 62;
  return static_cast<int64_t>(std::min(result, kMax));
}

// ---- Token bucket -------------------------------------------------------------------------------

uint64_t bucket_clock(const LimitRule& rule, int64_t now_us) {
  return static_cast<uint64_t>(Wide{passed_us(rule, now_us)} * rule.slope >> kSlopeBits) &
         kLimitCountMask;
}

// How far the level is ahead of the clock: what is used.
uint64_t bucket_used(uint64_t count, uint64_t clock) {
  const uint64_t ahead = (count - clock) & kLimitCountMask;
  return ahead < kLevelAheadMax ? ahead : 0;
}

// When the clock will have moved on by `units`. It shows whole units only, so that the first of
// them may be nearly over.
int64_t bucket_us(const LimitRule& rule, int64_t now_us, uint64_t units) {
  const uint64_t passed = passed_us(rule, now_us);
  const Wide wanted = (Wide{passed} * rule.slope >> kSlopeBits) + units;
  return ceil_div(wanted << kSlopeBits, rule.slope) - static_cast<int64_t>(passed);
}

// ---- Sliding window -----------------------------------------------------------------------------

// The counts as they stand now: pieces that have passed are shifted out.
struct Window {
  uint32_t number;      // of the newest piece
  uint64_t counts;      // packed, newest lowest
  uint64_t elapsed_us;  // in the newest piece
};

uint64_t counts_mask(const LimitRule& rule) {
  return (uint64_t{1} << rule.piece_bits * (rule.pieces + 1)) - 1;
}

uint64_t count_of(const LimitRule& rule, uint64_t counts, uint32_t place) {
  return counts >> place * rule.piece_bits & ((uint64_t{1} << rule.piece_bits) - 1);
}

uint64_t shifted(const LimitRule& rule, uint64_t counts, uint32_t pieces) {
  if (pieces > rule.pieces) return 0;
  return counts << pieces * rule.piece_bits & counts_mask(rule);
}

uint64_t sum_of(const LimitRule& rule, uint64_t counts) {
  uint64_t sum = 0;
  for (; counts != 0; counts >>= rule.piece_bits) {
    sum += counts & ((uint64_t{1} << rule.piece_bits) - 1);
  }
  return sum;
}

Window window_at(const LimitRule& rule, uint64_t count, int64_t now_us) {
  const uint64_t passed = passed_us(rule, now_us);
  const auto piece = static_cast<uint64_t>(rule.piece_us);
  Window window;
  const uint64_t absolute = passed / piece;
  window.elapsed_us = passed - absolute * piece;
  window.number = static_cast<uint32_t>(absolute) & kPieceNumberMask;
  window.counts = count >> kPieceNumberBits;
  const uint32_t stored = static_cast<uint32_t>(count) & kPieceNumberMask;
  const uint32_t ahead = (window.number - stored) & kPieceNumberMask;
  if (ahead > kPieceNumberMask - kPiecesBehind && window.counts != 0) {
    // Another worker's time is ahead of ours: its piece has just begun, for us.
    window.number = stored;
    window.elapsed_us = 0;
  } else {
    window.counts = shifted(rule, window.counts, ahead);
  }
  return window;
}

uint64_t window_count(const Window& window) {
  return window.counts << kPieceNumberBits | window.number;
}

// What of the oldest piece's count the window has certainly left: its share by time, but no more
// than N/C, rounded up. 256 units a request, rounded down.
uint64_t credit_units(const LimitRule& rule, uint64_t oldest, uint64_t elapsed_us) {
  const Wide share = Wide{oldest} * elapsed_us * kTokenUnits / static_cast<uint64_t>(rule.piece_us);
  return std::min(static_cast<uint64_t>(share), rule.credit_max() * kTokenUnits);
}

uint64_t window_used(const LimitRule& rule, const Window& window) {
  const uint64_t sum = sum_of(rule, window.counts) * kTokenUnits;
  return sum - credit_units(rule, count_of(rule, window.counts, rule.pieces), window.elapsed_us);
}

bool window_has_room(const LimitRule& rule, const Window& window, uint64_t cost) {
  const uint64_t wanted = sum_of(rule, window.counts) + cost;
  if (wanted <= rule.count) return true;
  const uint64_t credit = wanted - rule.count;
  const uint64_t oldest = count_of(rule, window.counts, rule.pieces);
  if (credit > rule.credit_max() || credit > oldest) return false;
  return Wide{credit} * static_cast<uint64_t>(rule.piece_us) <= Wide{oldest} * window.elapsed_us;
}

int64_t window_retry_us(const LimitRule& rule, Window window, uint64_t cost) {
  int64_t until = -static_cast<int64_t>(window.elapsed_us);  // the beginning of the newest piece
  for (uint32_t piece = 0; piece <= rule.pieces; ++piece, until += rule.piece_us) {
    const uint64_t wanted = sum_of(rule, window.counts) + cost;
    if (wanted <= rule.count) return std::max<int64_t>(until, 0);
    const uint64_t credit = wanted - rule.count;
    const uint64_t oldest = count_of(rule, window.counts, rule.pieces);
    if (credit <= rule.credit_max() && credit <= oldest) {
      const int64_t at =
          ceil_div(Wide{credit} * static_cast<uint64_t>(rule.piece_us), Wide{oldest});
      if (at < rule.piece_us) return std::max<int64_t>(until + at, 0);
    }
    window.counts = shifted(rule, window.counts, 1);
  }
  return until;
}

}  // namespace

// ---- Rules --------------------------------------------------------------------------------------

int64_t LimitRule::refill_us() const {
  if (!is_bucket()) return period_us;
  return ceil_div(Wide{burst} * static_cast<uint64_t>(period_us), count);
}

LimitRate LimitRule::rate() const {
  LimitRate rate{count, period_us, std::nullopt};
  if (is_bucket()) rate.burst = burst;
  return rate;
}

LimitRule make_limit_rule(const LimitRate& rate, int64_t from_us) {
  LimitRule rule;
  rule.count = rate.count;
  rule.period_us = rate.period_us;
  rule.burst = rate.burst.value_or(0);
  rule.from_us = from_us;
  const auto period = static_cast<uint64_t>(rate.period_us);
  rule.slope = static_cast<uint64_t>((Wide{rate.count * kTokenUnits} << kSlopeBits) / period);
  if (rule.slope == 0) rule.slope = 1;
  rule.piece_bits = static_cast<uint32_t>(std::bit_width(std::max<uint64_t>(rate.count, 1)));
  const uint64_t most = std::clamp<uint64_t>(rate.count, 1, kPiecesMax);
  rule.pieces =
      static_cast<uint32_t>(std::clamp<uint64_t>(kCountsBits / rule.piece_bits, 2, most + 1) - 1);
  rule.piece_us = (rate.period_us + rule.pieces - 1) / rule.pieces;
  return rule;
}

void LimitRules::change(const LimitRule& rule) {
  const uint32_t next = epoch.load(std::memory_order_relaxed) + 1;
  ring[next % kLimitEpochs] = rule;
  epoch.store(next, std::memory_order_release);
}

// ---- One count under one rule -------------------------------------------------------------------

bool limit_take(const LimitRule& rule, uint64_t& count, int64_t now_us, uint64_t cost,
                uint32_t* piece) {
  if (rule.is_bucket()) {
    const uint64_t clock = bucket_clock(rule, now_us);
    const uint64_t used = bucket_used(count, clock) + cost * kTokenUnits;
    if (used > rule.burst * kTokenUnits) return false;
    count = (clock + used) & kLimitCountMask;
    return true;
  }
  Window window = window_at(rule, count, now_us);
  if (!window_has_room(rule, window, cost)) return false;
  // No count outgrows its width: but the oldest, all of them together are at most N.
  window.counts += cost;
  count = window_count(window);
  if (piece != nullptr) *piece = window.number;
  return true;
}

uint64_t limit_give_back(const LimitRule& rule, uint64_t count, uint64_t cost, uint32_t piece) {
  if (rule.is_bucket()) return (count - cost * kTokenUnits) & kLimitCountMask;
  const uint32_t newest = static_cast<uint32_t>(count) & kPieceNumberMask;
  const uint32_t place = (newest - piece) & kPieceNumberMask;
  if (place > rule.pieces) return count;  // it is counted no more
  const uint64_t there = count_of(rule, count >> kPieceNumberBits, place);
  return count - (std::min(there, cost) << place * rule.piece_bits << kPieceNumberBits);
}

uint64_t limit_charge(const LimitRule& rule, uint64_t count, int64_t now_us, uint64_t units) {
  if (rule.is_bucket()) {
    const uint64_t clock = bucket_clock(rule, now_us);
    const uint64_t used = std::min(bucket_used(count, clock) + units, kLevelAheadMax - 1);
    return (clock + used) & kLimitCountMask;
  }
  Window window = window_at(rule, count, now_us);
  const uint64_t most = (uint64_t{1} << rule.piece_bits) - 1;
  const uint64_t newest = count_of(rule, window.counts, 0);
  const uint64_t added = (units + kTokenUnits - 1) / kTokenUnits;
  window.counts += std::min(added, most - newest);
  return window_count(window);
}

uint64_t limit_used_units(const LimitRule& rule, uint64_t count, int64_t now_us) {
  if (rule.is_bucket()) return bucket_used(count, bucket_clock(rule, now_us));
  return window_used(rule, window_at(rule, count, now_us));
}

uint64_t limit_remaining(const LimitRule& rule, uint64_t count, int64_t now_us) {
  const uint64_t capacity = rule.capacity() * kTokenUnits;
  const uint64_t used = limit_used_units(rule, count, now_us);
  return used >= capacity ? 0 : (capacity - used) / kTokenUnits;
}

int64_t limit_retry_us(const LimitRule& rule, uint64_t count, int64_t now_us, uint64_t cost) {
  if (!rule.is_bucket()) return window_retry_us(rule, window_at(rule, count, now_us), cost);
  const uint64_t used = limit_used_units(rule, count, now_us) + cost * kTokenUnits;
  const uint64_t capacity = rule.burst * kTokenUnits;
  return used <= capacity ? 0 : bucket_us(rule, now_us, used - capacity);
}

int64_t limit_life_us(const LimitRule& rule, uint64_t count, int64_t now_us) {
  if (rule.is_bucket()) {
    const uint64_t used = limit_used_units(rule, count, now_us);
    return used == 0 ? 0 : bucket_us(rule, now_us, used);
  }
  const Window window = window_at(rule, count, now_us);
  for (uint32_t place = 0; place <= rule.pieces; ++place) {
    if (count_of(rule, window.counts, place) == 0) continue;
    return (rule.pieces + 1 - place) * rule.piece_us - static_cast<int64_t>(window.elapsed_us);
  }
  return 0;
}

// ---- Epochs -------------------------------------------------------------------------------------

uint64_t limit_count_at(const LimitRules& rules, uint32_t epoch, uint64_t state) {
  uint64_t count = state & kLimitCountMask;
  const auto written = static_cast<uint32_t>(state >> kLimitCountBits) % kLimitEpochs;
  for (uint32_t behind = (epoch - written) % kLimitEpochs; behind > 0 && count != 0; --behind) {
    const LimitRule& then = rules.at(epoch - behind);
    const LimitRule& next = rules.at(epoch - behind + 1);
    // Before its first rule a limit has none.
    if (then.period_us == 0) return 0;
    const uint64_t used = limit_used_units(then, count, next.from_us);
    count = used == 0 ? 0 : limit_charge(next, 0, next.from_us, used);
  }
  return count;
}

}  // namespace gatehouse
