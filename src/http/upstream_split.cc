// Choosing one of a route's upstreams. See upstream_split.h.
#include "http/upstream_split.h"

#include <sys/random.h>
#include <unistd.h>

#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

#include "http/chars.h"
#include "http/cookie.h"
#include "http/proxy.h"

namespace gatehouse {
namespace {

constexpr size_t kHalf = kSplitCookieSize / 2;

// The finalizer of MurmurHash3: every bit of the input moves about half of the output's.
uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xFF51AFD7ED558CCDU;
  x ^= x >> 33;
  x *= 0xC4CEB9FE1A85EC53U;
  return x ^ x >> 33;
}

// SplitMix64, seeded once in each process. Draws need to be even, not secret.
uint64_t next_random() {
  thread_local uint64_t state = 0;
  thread_local bool seeded = false;
  if (!seeded) [[unlikely]] {
    if (getrandom(&state, sizeof state, 0) != sizeof state) {
      // No kernel that we run on fails here; should one, processes still differ.
      state = mix(static_cast<uint64_t>(getpid()) ^ reinterpret_cast<uintptr_t>(&state));
    }
    seeded = true;
  }
  state += 0x9E3779B97F4A7C15U;
  uint64_t x = state;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9U;
  x = (x ^ x >> 27) * 0x94D049BB133111EBU;
  return x ^ x >> 31;
}

uint64_t tag_of(HashKey key, std::string_view name, uint64_t point) {
  const KeyedHash hash(key);
  return hash.join(hash(name), {reinterpret_cast<const char*>(&point), sizeof point});
}

void write_hex(char* to, uint64_t value) {
  for (size_t i = kHalf; i-- > 0; value >>= 4) to[i] = "0123456789abcdef"[value & 15];
}

// Lower case only: a value has one spelling.
bool read_hex(std::string_view digits, uint64_t& value) {
  value = 0;
  for (const char c : digits) {
    if (!chars::is(c, chars::kHex) || (c >= 'A' && c <= 'F')) return false;
    value = value << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return true;
}

}  // namespace

uint64_t split_identity(std::string_view upstream) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : upstream) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3U;
  return mix(hash);
}

size_t split_by_draw(std::span<const SplitWeight> sides, uint64_t draw) {
  uint64_t total = 0;
  for (const SplitWeight& side : sides) total += side.share;
  assert(total > 0 && total <= kSplitSidesMax * kWholeShare);
  // The upper 32 bits are enough: what they leave uneven is below one in 400,000.
  auto place = static_cast<int64_t>((draw >> 32) * total >> 32);
  size_t i = 0;
  while ((place -= sides[i].share) >= 0) ++i;
  return i;
}

size_t split_by_point(std::span<const SplitWeight> sides, uint64_t point) {
  size_t best = 0;
  double lowest = HUGE_VAL;
  for (size_t i = 0; i < sides.size(); ++i) {
    if (sides[i].share == 0) continue;
    // 53 bits as a number between 0 and 1, neither included.
    const double u = (static_cast<double>(mix(point ^ sides[i].identity) >> 11) + 0.5) * 0x1.0p-53;
    const double score = -std::log(u) / sides[i].share;
    if (score >= lowest) continue;
    lowest = score;
    best = i;
  }
  return best;
}

void write_split_cookie(HashKey key, std::string_view name, uint64_t point,
                        char (&into)[kSplitCookieSize]) {
  write_hex(into, point);
  write_hex(into + kHalf, tag_of(key, name, point));
}

std::optional<uint64_t> read_split_cookie(HashKey key, std::string_view name,
                                          std::string_view value) {
  uint64_t point = 0;
  uint64_t tag = 0;
  if (value.size() != kSplitCookieSize || !read_hex(value.substr(0, kHalf), point) ||
      !read_hex(value.substr(kHalf), tag) || tag != tag_of(key, name, point)) {
    return std::nullopt;
  }
  return point;
}

UpstreamSplit::UpstreamSplit(RouteUpstream conf, std::vector<const Upstream*> upstreams,
                             std::string_view secret, SplitCanary canary)
    : conf_(std::move(conf)),
      upstreams_(std::move(upstreams)),
      secret_(secret),
      canary_(std::move(canary)) {
  for (uint32_t i = 0; i < conf_.sides.size(); ++i) {
    const SplitSide& side = conf_.sides[i];
    if (side.condition) {
      asked_.push_back(i);
      continue;
    }
    if (upstreams_[i] == canary_.fresh) fresh_ = dealt_.size();
    dealt_.push_back(i);
    weights_.push_back(
        {split_identity(side.upstream), side.share ? side.share->hundredths : kWholeShare});
  }
}

UpstreamSplit::~UpstreamSplit() {
  if (row_ != nullptr) table_->release(worker_row_, row_index_);
}

void UpstreamSplit::bind_key(const std::array<uint8_t, 16>& segment_secret) {
  if (secret_.empty()) {
    key_ = HashKey::from_bytes(segment_secret);
    return;
  }
  key_.low = siphash<2, 4>({0, 0}, secret_.data(), secret_.size());
  key_.high = siphash<2, 4>({0, 1}, secret_.data(), secret_.size());
}

Result<void> UpstreamSplit::bind(SharedMemory& shared, uint32_t worker_row, Metrics& metrics) {
  bind_key(shared.secret());
  for (const Upstream* upstream : upstreams_) {
    cells_.push_back(&metrics.cells(worker_row, SeriesKind::kUpstream, upstream->name));
  }
  if (canary() == nullptr) return {};
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  if (Result<void> column = (*table)->open_column(worker_row); !column) return column.error();
  const Result<uint32_t> index = (*table)->hold(worker_row, TrafficKind::kSplit, canary_.row_name);
  if (!index) return index.error();
  table_ = std::move(*table);
  worker_row_ = worker_row;
  row_index_ = *index;
  row_ = &table_->row(*index);
  return {};
}

const SplitSide* UpstreamSplit::side_by_condition(const FieldList& fields) const {
  for (const uint32_t i : asked_) {
    if (conf_.sides[i].condition->holds(fields)) return &conf_.sides[i];
  }
  return nullptr;
}

const Upstream& UpstreamSplit::choose(Exchange& exchange) const {
  if (!asked_.empty()) {
    if (const SplitSide* side = side_by_condition(exchange.request.fields)) {
      return chosen(exchange, static_cast<size_t>(side - conf_.sides.data()));
    }
  }
  if (dealt_.size() == 1) return chosen(exchange, dealt_[0]);
  if (row_ == nullptr) return chosen(exchange, dealt_[deal(exchange, weights_)]);
  // The other of the two sides has the rest.
  SplitWeight now[2] = {weights_[0], weights_[1]};
  const uint64_t word = row_->share.load(std::memory_order_relaxed);
  now[fresh_].share = canary_share(word, weights_[fresh_].share);
  now[1 - fresh_].share = kWholeShare - now[fresh_].share;
  return chosen(exchange, dealt_[deal(exchange, now)]);
}

size_t UpstreamSplit::deal(Exchange& exchange, std::span<const SplitWeight> weights) const {
  if (conf_.cookie.empty()) return split_by_draw(weights, next_random());
  return split_by_point(weights, point_of(exchange));
}

const Upstream& UpstreamSplit::chosen(Exchange& exchange, size_t side) const {
  if (!cells_.empty()) exchange.upstream_cells = cells_[side];
  return *upstreams_[side];
}

uint64_t UpstreamSplit::point_of(Exchange& exchange) const {
  const std::string& name = conf_.cookie;
  if (const auto value = find_cookie(exchange.request.fields, name)) {
    if (const auto point = read_split_cookie(key_, name, *value)) return *point;
  }
  const uint64_t point = next_random();
  char value[kSplitCookieSize];
  write_split_cookie(key_, name, point, value);
  constexpr std::string_view kAttributes = "; Path=/; HttpOnly; SameSite=Lax";
  constexpr std::string_view kSecure = "; Secure";
  const size_t size = name.size() + 1 + sizeof value + kAttributes.size() +
                      (exchange.client_https ? kSecure.size() : 0);
  char* const text = exchange.arena.bytes(size);
  char* at = text;
  const auto put = [&at](std::string_view part) {
    std::memcpy(at, part.data(), part.size());
    at += part.size();
  };
  put(name);
  put("=");
  put({value, sizeof value});
  put(kAttributes);
  if (exchange.client_https) put(kSecure);
  exchange.add_response_field("Set-Cookie", {text, size});
  return point;
}

Task<void> split_action(Exchange& exchange, const void* state) {
  const auto& split = *static_cast<const UpstreamSplit*>(state);
  return proxy_action(exchange, &split.choose(exchange));
}

}  // namespace gatehouse
