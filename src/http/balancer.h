// Balancers: which of some candidates gets a try. Pure functions of what they are given.
//
// Whoever chooses (http/target_choice) makes the list of candidates: targets that may be chosen
// now, with the weights that count now (a target in its slow start weighs less) and with what the
// balancer asks for. All cost a few nanoseconds for each candidate and allocate nothing.
//
//   round robin   smooth and weighted: over any sum-of-weights choices each candidate gets exactly
//                 its weight, spread evenly
//   least_conn    the fewest tries in flight for its weight, over all workers; equals take turns
//   least_time    of two at random, the one that would answer first (http/peak_latency)
//   hash          rendezvous (highest random weight): the same key goes to the same candidate for
//                 as long as it is there. When one leaves only its keys move, 1/n of all, and they
//                 spread over the others; when it returns, just they return. `bound` keeps any
//                 candidate from getting more than that share of what is in flight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace gatehouse {

// A weight of 1 of the configuration; less is a target in its slow start.
inline constexpr uint32_t kWeightUnit = 256;

struct Candidate {
  uint32_t index = 0;             // of the target in its set
  uint32_t weight = kWeightUnit;  // from 1
  int64_t* position = nullptr;    // in the round robin; round robin and least_conn need it
  uint64_t load = 0;              // tries in flight over all workers; least_*, and a bounded hash
  uint64_t latency_us = 0;        // expected; 0: none was measured yet; least_time
  uint64_t seed = 0;              // target_seed(); hash
};

// Each returns an index into `candidates`. REQUIRES: there is one.
size_t pick_round_robin(std::span<const Candidate> candidates);
size_t pick_least_conn(std::span<const Candidate> candidates);
// `random`: 64 random bits.
size_t pick_least_time(std::span<const Candidate> candidates, uint64_t random);
// `bound_percent`: the largest load, in percent of an even share; from 101, or 0 for no bound.
size_t pick_hash(std::span<const Candidate> candidates, uint64_t key, uint32_t bound_percent = 0);

// What a target is in the hash: made from its name, the same in every worker and on every host.
uint64_t target_seed(std::string_view name);
// The key of a text, likewise.
uint64_t hash_key(std::string_view text);

// A sequence of random bits, good enough for balancing.
class BalancerRandom {
 public:
  explicit BalancerRandom(uint64_t seed) : state_(seed) {}
  uint64_t next();

 private:
  uint64_t state_;
};

}  // namespace gatehouse
