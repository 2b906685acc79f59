// The texts of rate limits: rates and keys as they are written, in the configuration and on the
// command line.
//
//   rate = 100/1s             at most 100 in any second (a sliding window)
//   rate = 100/1s burst 200   200 at once, refilled by 100 a second (a token bucket)
//   key  = all                one budget for everybody
//   key  = client_address/24 /64
//   key  = client_address header_x_api_key     one budget for each pair
//
// A part of a key is a variable's name without its '$' (http/variables.h). Addresses are cut to a
// prefix: IPv4 to 32 bits and IPv6 to 64 where nothing else is said, for one client has a /64.
// A part that a request does not have is empty, so that all such requests share one budget.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_values.h"
#include "core/keyed_hash.h"
#include "core/limit_state.h"
#include "core/result.h"
#include "core/sockets.h"

namespace gatehouse {

// One part of a key.
struct LimitKeyPart {
  std::string name;  // the variable's
  bool is_address = false;
  uint8_t v4_bits = 32;
  uint8_t v6_bits = 64;
  friend bool operator==(const LimitKeyPart&, const LimitKeyPart&) = default;
};

struct LimitKey {
  static constexpr size_t kPartsMax = 4;
  std::vector<LimitKeyPart> parts;  // none: "all"
  friend bool operator==(const LimitKey&, const LimitKey&) = default;
};

template <>
struct ValueType<LimitRate> {
  static Result<LimitRate> parse(std::string_view text);
  static std::string format(const LimitRate& rate);
  static std::string expected();
};

template <>
struct ValueType<LimitKey> {
  static Result<LimitKey> parse(std::string_view text);
  static std::string format(const LimitKey& key);
  static std::string expected();
};

// The hash of a key begins with this and goes on with join_limit_key() for each part; where the
// scope is the route, its name comes first, as text.
inline uint64_t begin_limit_key(const KeyedHash& hash, std::string_view limit) {
  return hash(limit);
}
inline uint64_t join_limit_key(const KeyedHash& hash, uint64_t so_far, std::string_view text) {
  return hash.join(so_far, text);
}
// An address, without the bits beyond the part's prefix.
uint64_t join_limit_key(const KeyedHash& hash, uint64_t so_far, const LimitKeyPart& part,
                        const IpAddress& address);

// `address` without the bits beyond the part's prefix, and in text: "192.0.2.0/24".
IpAddress cut_address(const LimitKeyPart& part, const IpAddress& address);
std::string cut_address_text(const LimitKeyPart& part, const IpAddress& address);

// The hash of a key that an operator wrote, one word for each part (an address may be written with
// its prefix length). The error says what is wrong with it.
Result<uint64_t> hash_limit_words(const KeyedHash& hash, std::string_view limit,
                                  const LimitKey& key, bool by_route,
                                  std::span<const std::string> words);

}  // namespace gatehouse
