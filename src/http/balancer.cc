// See balancer.h.
#include "http/balancer.h"

#include "core/stable_names.h"

#include <cmath>

namespace gatehouse {

namespace {

// The finisher of splitmix64: each bit of the result depends on each of the argument.
uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27;
  x *= 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// How long `candidate` would take, by what it took and what it has; for its weight.
uint64_t expected_time(const Candidate& candidate) {
  // One that was not measured gets one try, to be measured, and further ones when it has answered.
  constexpr uint64_t kUnknown = uint64_t{1} << 40;
  if (candidate.latency_us == 0) return candidate.load == 0 ? 0 : kUnknown + candidate.load;
  return candidate.latency_us * (candidate.load + 1);
}

// Whether a is less loaded than b for its weight.
bool less_loaded(const Candidate& a, const Candidate& b) {
  return a.load * b.weight < b.load * a.weight;
}

bool same_weights(std::span<const Candidate> candidates) {
  for (const Candidate& candidate : candidates) {
    if (candidate.weight != candidates.front().weight) return false;
  }
  return true;
}

// One turn among the candidates that `takes_part` admits.
template <typename Admit>
size_t take_turn(std::span<const Candidate> candidates, Admit takes_part) {
  int64_t total = 0;
  size_t best = candidates.size();
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!takes_part(candidates[i])) continue;
    const int64_t weight = candidates[i].weight;
    total += weight;
    *candidates[i].position += weight;
    if (best == candidates.size() || *candidates[i].position > *candidates[best].position) best = i;
  }
  *candidates[best].position -= total;
  return best;
}

}  // namespace

size_t pick_round_robin(std::span<const Candidate> candidates) {
  return take_turn(candidates, [](const Candidate&) { return true; });
}

size_t pick_least_conn(std::span<const Candidate> candidates) {
  size_t least = 0;
  size_t equals = 1;
  for (size_t i = 1; i < candidates.size(); ++i) {
    if (less_loaded(candidates[i], candidates[least])) {
      least = i;
      equals = 1;
    } else if (!less_loaded(candidates[least], candidates[i])) {
      ++equals;
    }
  }
  if (equals == 1) return least;
  const Candidate& bar = candidates[least];
  return take_turn(candidates, [&bar](const Candidate& candidate) {
    return !less_loaded(bar, candidate) && !less_loaded(candidate, bar);
  });
}

size_t pick_least_time(std::span<const Candidate> candidates, uint64_t random) {
  const size_t count = candidates.size();
  if (count == 1) return 0;
  // Two different ones, by the upper and the lower half of the bits.
  const size_t a = static_cast<size_t>((random >> 32) * count >> 32);
  size_t b = static_cast<size_t>((random & 0xffffffff) * (count - 1) >> 32);
  if (b >= a) ++b;
  const double cost_a = static_cast<double>(expected_time(candidates[a])) * candidates[b].weight;
  const double cost_b = static_cast<double>(expected_time(candidates[b])) * candidates[a].weight;
  if (cost_a != cost_b) return cost_a < cost_b ? a : b;
  // Equals share by weight.
  const uint64_t dice = mix(random) % (uint64_t{candidates[a].weight} + candidates[b].weight);
  return dice < candidates[a].weight ? a : b;
}

size_t pick_hash(std::span<const Candidate> candidates, uint64_t key, uint32_t bound_percent) {
  // A candidate over the bound is passed over; the average one never is, so that one is left.
  uint64_t load = 1;
  uint64_t weights = 0;
  if (bound_percent != 0) {
    for (const Candidate& candidate : candidates) {
      load += candidate.load;
      weights += candidate.weight;
    }
  }
  const auto is_full = [&](const Candidate& candidate) {
    if (bound_percent == 0) return false;
    // (load + 1) is more than bound × the even share, rounded up to a whole try.
    const uint64_t share =
        (load * candidate.weight * bound_percent + weights * 100 - 1) / (weights * 100);
    return candidate.load + 1 > share;
  };
  size_t best = candidates.size();
  if (same_weights(candidates)) {
    uint64_t highest = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (is_full(candidates[i])) continue;
      const uint64_t score = mix(key ^ candidates[i].seed);
      if (best == candidates.size() || score > highest) {
        highest = score;
        best = i;
      }
    }
    return best;
  }
  // With u even in (0, 1), -ln(u) / weight is the time of the first of events at the rate `weight`:
  // the one with the earliest is i with a probability of its share of all weights. Of equal weights
  // it is the one with the highest score, as above.
  double earliest = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (is_full(candidates[i])) continue;
    const uint64_t score = mix(key ^ candidates[i].seed);
    const double u = (static_cast<double>(score >> 11) + 0.5) * 0x1p-53;
    const double time = -std::log(u) / candidates[i].weight;
    if (best == candidates.size() || time < earliest) {
      earliest = time;
      best = i;
    }
  }
  return best;
}

uint64_t target_seed(std::string_view name) {
  return mix(stable_hash(name) + 0x9e3779b97f4a7c15);
}

uint64_t hash_key(std::string_view text) {
  return mix(stable_hash(text));
}

uint64_t BalancerRandom::next() {
  state_ += 0x9e3779b97f4a7c15;
  return mix(state_);
}

}  // namespace gatehouse
