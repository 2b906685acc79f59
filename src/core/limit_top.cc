// Counting the keys that come most; see limit_top.h.
#include "core/limit_top.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace gatehouse {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr size_t kWords = (LimitTop::kTextMax + 1) / 8;

uint32_t check_of(uint64_t tag, const std::array<uint64_t, kWords>& words) {
  uint64_t hash = tag ^ 0xCBF29CE484222325U;
  for (const uint64_t word : words) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29;
  }
  return static_cast<uint32_t>(hash >> 32);
}

void halve(LimitTop& top) {
  for (uint32_t i = 0; i < LimitTop::kPlaces; ++i) {
    for (std::atomic<uint32_t>* count : {&top.requests[i], &top.refused[i], &top.error[i]}) {
      count->store(count->load(kRelaxed) / 2, kRelaxed);
    }
  }
}

// Stays at the top instead of beginning anew.
void raise(std::atomic<uint32_t>& count, uint32_t weight) {
  const uint32_t before = count.load(kRelaxed);
  count.store(before + std::min(weight, UINT32_MAX - before), kRelaxed);
}

}  // namespace

bool LimitTop::add(uint64_t tag, uint32_t weight, bool is_refused, int64_t now_us,
                   uint32_t& place) {
  int64_t halved = halved_us.load(kRelaxed);
  if (now_us - halved >= kHalfLifeUs &&
      halved_us.compare_exchange_strong(halved, now_us, kRelaxed)) {
    halve(*this);
  }
  uint32_t least = 0;
  for (place = 0; place < kPlaces; ++place) {
    if (tags[place].load(kRelaxed) == tag) break;
    if (requests[place].load(kRelaxed) < requests[least].load(kRelaxed)) least = place;
  }
  const bool is_new = place == kPlaces;
  if (is_new) {
    place = least;
    tags[place].store(tag, kRelaxed);
    error[place].store(requests[place].load(kRelaxed), kRelaxed);
    refused[place].store(0, kRelaxed);
  }
  raise(requests[place], weight);
  if (is_refused) raise(refused[place], weight);
  return is_new;
}

void LimitTop::set_text(uint32_t place, uint64_t tag, std::string_view text) {
  char bytes[kTextMax + 1] = {};
  std::memcpy(bytes, text.data(), std::min(text.size(), kTextMax));
  if (text.size() > kTextMax) bytes[kTextMax - 1] = '~';
  std::array<uint64_t, kWords> words;
  std::memcpy(words.data(), bytes, sizeof(bytes));
  for (size_t i = 0; i < kWords; ++i) texts[place][i].store(words[i], kRelaxed);
  checks[place].store(check_of(tag, words), kRelaxed);
}

void LimitTop::clear() {
  for (uint32_t i = 0; i < kPlaces; ++i) {
    tags[i].store(0, kRelaxed);
    requests[i].store(0, kRelaxed);
    refused[i].store(0, kRelaxed);
    error[i].store(0, kRelaxed);
  }
}

std::vector<LimitTopKey> merge_limit_tops(const LimitTop* tops, size_t count) {
  std::map<uint64_t, LimitTopKey> by_tag;
  for (size_t t = 0; t < count; ++t) {
    const LimitTop& top = tops[t];
    for (uint32_t i = 0; i < LimitTop::kPlaces; ++i) {
      const uint64_t tag = top.tags[i].load(kRelaxed);
      const uint32_t requests = top.requests[i].load(kRelaxed);
      if (tag == 0 || requests == 0) continue;
      LimitTopKey& key = by_tag[tag];
      key.tag = tag;
      key.requests += requests;
      key.refused += top.refused[i].load(kRelaxed);
      key.error += top.error[i].load(kRelaxed);
      std::array<uint64_t, kWords> words;
      for (size_t w = 0; w < kWords; ++w) words[w] = top.texts[i][w].load(kRelaxed);
      if (!key.text.empty() || top.checks[i].load(kRelaxed) != check_of(tag, words)) continue;
      char text[LimitTop::kTextMax + 1];
      std::memcpy(text, words.data(), sizeof(text));
      key.text.assign(text, strnlen(text, sizeof(text)));
    }
  }
  std::vector<LimitTopKey> keys;
  keys.reserve(by_tag.size());
  for (auto& each : by_tag) keys.push_back(std::move(each.second));
  std::stable_sort(keys.begin(), keys.end(), [](const LimitTopKey& a, const LimitTopKey& b) {
    return a.requests > b.requests;
  });
  return keys;
}

}  // namespace gatehouse
