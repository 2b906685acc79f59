// What each balancer makes of 100,000 choices, against what theory says: chi-square at a level of
// one in a thousand, with fixed seeds, so that a run is like any other.
#include "http/balancer.h"

#include <criterion/criterion.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace gatehouse;

constexpr size_t kChoices = 100'000;

struct Candidates {
  std::vector<int64_t> positions;
  std::vector<Candidate> list;

  explicit Candidates(const std::vector<uint32_t>& weights) : positions(weights.size()) {
    for (size_t i = 0; i < weights.size(); ++i) {
      Candidate candidate;
      candidate.index = static_cast<uint32_t>(i);
      candidate.weight = weights[i] * kWeightUnit;
      candidate.position = &positions[i];
      candidate.seed = target_seed(fmt::format("users/10.0.0.{}:8080", i + 1));
      list.push_back(candidate);
    }
  }
};

std::string key_of(size_t i) {
  return fmt::format("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255);
}

// The sum of (seen - expected)² / expected, where each is expected by its weight.
double chi_square(const std::vector<size_t>& seen, const std::vector<uint32_t>& weights) {
  double total = 0;
  double all = 0;
  for (const uint32_t weight : weights) total += weight;
  for (const size_t count : seen) all += static_cast<double>(count);
  double sum = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    const double expected = all * weights[i] / total;
    const double difference = static_cast<double>(seen[i]) - expected;
    sum += difference * difference / expected;
  }
  return sum;
}

// Above this is one sample in a thousand (Wilson and Hilferty's approximation).
double chi_square_bound(size_t degrees) {
  const double k = static_cast<double>(degrees);
  const double term = 1 - 2 / (9 * k) + 3.0902 * std::sqrt(2 / (9 * k));
  return k * term * term * term;
}

void expect_shares(const char* what, const std::vector<size_t>& seen,
                   const std::vector<uint32_t>& weights) {
  const double sum = chi_square(seen, weights);
  const double bound = chi_square_bound(seen.size() - 1);
  cr_log_info("%s: chi-square %.2f, bound %.2f", what, sum, bound);
  cr_assert_lt(sum, bound, "%s: chi-square %.2f over %.2f", what, sum, bound);
}

const std::vector<uint32_t> kEven(10, 1);
const std::vector<uint32_t> kUneven{5, 1, 3, 2, 8, 1};

}  // namespace

Test(balancer, round_robin_is_exact_and_smooth) {
  Candidates candidates({5, 1, 1});
  std::string order;
  for (int i = 0; i < 14; ++i) {
    order += static_cast<char>('a' + pick_round_robin(candidates.list));
  }
  cr_assert_str_eq(order.c_str(), "aabacaaaabacaa");
  Candidates more(kUneven);
  std::vector<size_t> seen(kUneven.size());
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_round_robin(more.list)];
  for (size_t i = 0; i < seen.size(); ++i) {
    cr_assert_leq(std::abs(static_cast<double>(seen[i]) - kChoices * kUneven[i] / 20.0), 1.0);
  }
}

Test(balancer, least_conn_takes_the_least_loaded_for_its_weight) {
  Candidates candidates({1, 1, 2});
  candidates.list[0].load = 3;
  candidates.list[1].load = 2;
  candidates.list[2].load = 5;
  cr_assert_eq(pick_least_conn(candidates.list), 1u);
  candidates.list[2].load = 3;
  cr_assert_eq(pick_least_conn(candidates.list), 2u, "3 of a weight of 2 are fewer than 2 of 1");
}

Test(balancer, least_conn_lets_equals_take_turns) {
  Candidates candidates(kUneven);
  std::vector<size_t> seen(kUneven.size());
  // Nothing is in flight: by weight.
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_least_conn(candidates.list)];
  for (size_t i = 0; i < seen.size(); ++i) {
    cr_assert_leq(std::abs(static_cast<double>(seen[i]) - kChoices * kUneven[i] / 20.0), 1.0);
  }
  // 2,000 tries stay in flight; in random order one ends and another begins. The loads stay in the
  // proportion of the weights, so that those chosen do too.
  BalancerRandom random(1);
  std::vector<size_t> flights;
  std::fill(seen.begin(), seen.end(), 0);
  for (size_t i = 0; i < kChoices; ++i) {
    const size_t chosen = pick_least_conn(candidates.list);
    ++seen[chosen];
    ++candidates.list[chosen].load;
    flights.push_back(chosen);
    if (flights.size() <= 2000) continue;
    const size_t over = random.next() % flights.size();
    --candidates.list[flights[over]].load;
    flights[over] = flights.back();
    flights.pop_back();
  }
  expect_shares("least_conn", seen, kUneven);
  for (size_t i = 0; i < seen.size(); ++i) {
    cr_assert_leq(std::abs(static_cast<double>(candidates.list[i].load) - 100.0 * kUneven[i]), 1.0);
  }
}

Test(balancer, least_time_shares_among_equals) {
  Candidates candidates(kEven);
  for (Candidate& candidate : candidates.list) candidate.latency_us = 1000;
  BalancerRandom random(2);
  std::vector<size_t> seen(kEven.size());
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_least_time(candidates.list, random.next())];
  expect_shares("least_time, equal targets", seen, kEven);
}

Test(balancer, least_time_avoids_the_slow_and_measures_the_unknown) {
  Candidates candidates({1, 1, 1, 1});
  for (Candidate& candidate : candidates.list) candidate.latency_us = 1000;
  candidates.list[2].latency_us = 50'000;
  BalancerRandom random(3);
  std::vector<size_t> seen(4);
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_least_time(candidates.list, random.next())];
  cr_assert_eq(seen[2], 0u, "any other of two is faster");
  candidates.list[0].load = 60;
  cr_assert_eq(seen[2], 0u);
  // One that nobody has measured is tried when it is among the two, but not twice at once.
  candidates.list[1].latency_us = 0;
  std::fill(seen.begin(), seen.end(), 0);
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_least_time(candidates.list, random.next())];
  cr_assert_float_eq(static_cast<double>(seen[1]) / kChoices, 0.5, 0.01, "one of two of four");
  candidates.list[1].load = 1;
  std::fill(seen.begin(), seen.end(), 0);
  for (size_t i = 0; i < kChoices; ++i) ++seen[pick_least_time(candidates.list, random.next())];
  cr_assert_eq(seen[1], 0u);
}

Test(balancer, least_time_goes_by_weight) {
  Candidates candidates({3, 1});
  candidates.list[0].latency_us = 2000;
  candidates.list[1].latency_us = 1000;
  cr_assert_eq(pick_least_time(candidates.list, 77), 0u);
  candidates.list[0].load = 1;
  cr_assert_eq(pick_least_time(candidates.list, 77), 1u);
  Candidates alone({1});
  cr_assert_eq(pick_least_time(alone.list, 77), 0u);
}

Test(balancer, hash_shares_keys_evenly) {
  for (const std::vector<uint32_t>& weights : {kEven, kUneven}) {
    const Candidates candidates(weights);
    std::vector<size_t> seen(weights.size());
    for (size_t i = 0; i < kChoices; ++i) {
      ++seen[pick_hash(candidates.list, hash_key(key_of(i)))];
    }
    expect_shares(weights == kEven ? "hash" : "hash, weighted", seen, weights);
  }
}

// When one leaves, its keys move and no other; when it comes back, the same come back.
Test(balancer, hash_moves_only_the_keys_of_what_leaves) {
  for (const std::vector<uint32_t>& weights : {kEven, kUneven}) {
    Candidates candidates(weights);
    std::vector<size_t> before;
    for (size_t i = 0; i < kChoices; ++i) {
      before.push_back(pick_hash(candidates.list, hash_key(key_of(i))));
    }
    const size_t gone = 3;
    std::vector<Candidate> left = candidates.list;
    left.erase(left.begin() + gone);
    size_t moved = 0;
    std::vector<size_t> heirs(weights.size());
    for (size_t i = 0; i < kChoices; ++i) {
      const size_t now = left[pick_hash(left, hash_key(key_of(i)))].index;
      if (now == before[i]) continue;
      ++moved;
      ++heirs[now];
      cr_assert_eq(before[i], gone, "the key of one that stays has moved");
    }
    double total = 0;
    for (const uint32_t weight : weights) total += weight;
    const double share = weights[gone] / total;
    cr_log_info("keys moved: %zu of %zu, %.4f; even share %.4f", moved, kChoices,
                static_cast<double>(moved) / kChoices, share);
    cr_assert_leq(static_cast<double>(moved) / kChoices, share + 0.005);
    // What it had is spread over the others by weight.
    heirs.erase(heirs.begin() + gone);
    std::vector<uint32_t> rest = weights;
    rest.erase(rest.begin() + gone);
    expect_shares("heirs", heirs, rest);
  }
}

// A change of one weight moves keys only towards it or away from it.
Test(balancer, hash_follows_a_weight) {
  Candidates candidates(kEven);
  std::vector<size_t> before;
  for (size_t i = 0; i < kChoices; ++i) {
    before.push_back(pick_hash(candidates.list, hash_key(key_of(i))));
  }
  candidates.list[4].weight /= 2;
  for (size_t i = 0; i < kChoices; ++i) {
    const size_t now = pick_hash(candidates.list, hash_key(key_of(i)));
    if (now != before[i]) cr_assert_eq(before[i], 4u);
  }
}

// Keys of which one makes up half of the traffic: no target gets more than the bound, and a key
// whose target has room stays there.
Test(balancer, a_bounded_hash_holds_its_bound) {
  Candidates candidates(kEven);
  BalancerRandom random(4);
  std::vector<size_t> flights;
  size_t at_home = 0;
  for (size_t i = 0; i < kChoices; ++i) {
    const uint64_t key = hash_key(i % 2 == 0 ? "popular" : key_of(i));
    const size_t chosen = pick_hash(candidates.list, key, 125);
    cr_assert_lt(chosen, candidates.list.size());
    if (chosen == pick_hash(candidates.list, key)) ++at_home;
    ++candidates.list[chosen].load;
    flights.push_back(chosen);
    const double bound = std::ceil(1.25 * static_cast<double>(flights.size()) / 10);
    cr_assert_leq(static_cast<double>(candidates.list[chosen].load), bound);
    if (flights.size() < 500) continue;
    const size_t over = random.next() % flights.size();
    --candidates.list[flights[over]].load;
    flights[over] = flights.back();
    flights.pop_back();
  }
  cr_log_info("bounded hash: %.3f of the choices were the key's own target",
              static_cast<double>(at_home) / kChoices);
  cr_assert_gt(at_home, kChoices * 35 / 100);
}

Test(balancer, a_seed_is_of_the_name_alone) {
  cr_assert_eq(target_seed("users/10.0.0.1:80"), target_seed("users/10.0.0.1:80"));
  cr_assert_neq(target_seed("users/10.0.0.1:80"), target_seed("users/10.0.0.1:81"));
  // On every host and in every release: what was cached behind a target stays there.
  cr_assert_eq(hash_key("gatehouse"), 0x651bae95f3b68821u);
}
