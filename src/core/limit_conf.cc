// Reading and writing rates and keys; see limit_conf.h.
#include "core/limit_conf.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace gatehouse {
namespace {

constexpr std::string_view kAll = "all";
constexpr std::string_view kAddresses[] = {"client_address", "peer_address"};

bool names_address(std::string_view name) {
  return std::find(std::begin(kAddresses), std::end(kAddresses), name) != std::end(kAddresses);
}

Result<uint8_t> parse_prefix(std::string_view text, uint8_t most) {
  const Result<uint64_t> bits = parse_unsigned(text, most);
  if (!bits || *bits == 0) {
    return Error{fmt::format("\"/{}\" is no prefix length: expected 1 to {}", text, most)};
  }
  return static_cast<uint8_t>(*bits);
}

}  // namespace

// ---- Rates --------------------------------------------------------------------------------------

Result<LimitRate> ValueType<LimitRate>::parse(std::string_view text) {
  const Result<Rate> plain = ValueType<Rate>::parse(take_word(text));
  if (!plain) return plain.error();
  LimitRate rate;
  rate.count = plain->count;
  if (plain->per.count() > kLimitPeriodMaxUs / 1000) return Error{"a time above 400d"};
  rate.period_us = plain->per.count() * 1000;
  if (!text.empty()) {
    if (const std::string_view word = take_word(text); word != "burst") {
      return Error{fmt::format("unknown word \"{}\"", word)};
    }
    const Result<uint64_t> burst = parse_unsigned(take_word(text), kBurstMax);
    if (!burst || *burst == 0) {
      return Error{fmt::format("a burst is a number from 1 to {}", kBurstMax)};
    }
    if (!text.empty()) return Error{fmt::format("unknown word \"{}\"", take_word(text))};
    rate.burst = *burst;
  } else if (rate.count > kWindowCountMax) {
    return Error{
        fmt::format("a window counts to {}: give a burst, or a shorter time", kWindowCountMax)};
  }
  if (rate.count > kBurstMax || rate.count > static_cast<uint64_t>(rate.period_us)) {
    return Error{fmt::format("more than {} in a second", kRateMaxPerSecond)};
  }
  return rate;
}

std::string ValueType<LimitRate>::format(const LimitRate& rate) {
  const Duration per(rate.period_us / 1000);
  std::string text = fmt::format("{}/{}", rate.count, ValueType<Duration>::format(per));
  if (rate.burst) text += fmt::format(" burst {}", *rate.burst);
  return text;
}

std::string ValueType<LimitRate>::expected() {
  return "a number per time, such as 100/1s, optionally followed by burst N";
}

// ---- Keys ---------------------------------------------------------------------------------------

Result<LimitKey> ValueType<LimitKey>::parse(std::string_view text) {
  LimitKey key;
  if (text == kAll) return key;
  for (std::string_view word : split_words(text)) {
    if (word == kAll) return Error{"all stands alone"};
    if (word.front() == '/') {
      // The IPv6 prefix of the address before it.
      if (key.parts.empty() || !key.parts.back().is_address) {
        return Error{fmt::format("\"{}\" stands behind no address", word)};
      }
      const Result<uint8_t> bits = parse_prefix(word.substr(1), 128);
      if (!bits) return bits.error();
      key.parts.back().v6_bits = *bits;
      continue;
    }
    LimitKeyPart part;
    const size_t slash = word.find('/');
    if (word.front() == '$') word.remove_prefix(1);
    part.name = word.substr(0, word.find('/'));
    part.is_address = names_address(part.name);
    if (slash != std::string_view::npos) {
      if (!part.is_address) return Error{fmt::format("{} is no address", part.name)};
      const Result<uint8_t> bits = parse_prefix(word.substr(word.find('/') + 1), 32);
      if (!bits) return bits.error();
      part.v4_bits = *bits;
    }
    if (key.parts.size() == LimitKey::kPartsMax) {
      return Error{fmt::format("more than {} parts", LimitKey::kPartsMax)};
    }
    for (const LimitKeyPart& other : key.parts) {
      if (other.name == part.name) return Error{fmt::format("{} appears twice", part.name)};
    }
    key.parts.push_back(std::move(part));
  }
  if (key.parts.empty()) return Error{"empty"};
  return key;
}

std::string ValueType<LimitKey>::format(const LimitKey& key) {
  if (key.parts.empty()) return std::string(kAll);
  std::string text;
  for (const LimitKeyPart& part : key.parts) {
    if (!text.empty()) text += ' ';
    text += part.name;
    if (part.is_address) text += fmt::format("/{} /{}", part.v4_bits, part.v6_bits);
  }
  return text;
}

std::string ValueType<LimitKey>::expected() {
  return "all, or up to four variables, such as \"client_address/24 /64 header_x_api_key\"";
}

IpAddress cut_address(const LimitKeyPart& part, const IpAddress& address) {
  const std::span<const uint8_t> bytes = address.bytes();
  if (bytes.empty()) return address;
  std::array<uint8_t, 16> cut{};
  const unsigned bits = address.is_v4() ? part.v4_bits : part.v6_bits;
  for (unsigned i = 0; i < bytes.size() && i * 8 < bits; ++i) {
    const unsigned left = bits - i * 8;
    cut[i] = static_cast<uint8_t>(bytes[i] & (left >= 8 ? 0xFF : 0xFF00 >> left));
  }
  if (address.is_v4()) return IpAddress::from_bytes(std::span<const uint8_t, 4>(cut.data(), 4));
  return IpAddress::from_bytes(std::span<const uint8_t, 16>(cut));
}

std::string cut_address_text(const LimitKeyPart& part, const IpAddress& address) {
  const unsigned bits = address.is_v4() ? part.v4_bits : part.v6_bits;
  std::string text = cut_address(part, address).format();
  if (!address.is_none() && bits < address.bytes().size() * 8) text += fmt::format("/{}", bits);
  return text;
}

uint64_t join_limit_key(const KeyedHash& hash, uint64_t so_far, const LimitKeyPart& part,
                        const IpAddress& address) {
  const IpAddress cut = cut_address(part, address);
  const std::span<const uint8_t> bytes = cut.bytes();
  return hash.join(so_far, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<uint64_t> hash_limit_words(const KeyedHash& hash, std::string_view limit,
                                  const LimitKey& key, bool by_route,
                                  std::span<const std::string> words) {
  const size_t wanted = key.parts.size() + (by_route ? 1 : 0);
  if (words.size() != wanted) {
    return Error{fmt::format("the key has {} part{}: {}{}", wanted, wanted == 1 ? "" : "s",
                             by_route ? "route " : "", ValueType<LimitKey>::format(key))};
  }
  uint64_t sum = begin_limit_key(hash, limit);
  size_t next = 0;
  if (by_route) sum = join_limit_key(hash, sum, words[next++]);
  for (const LimitKeyPart& part : key.parts) {
    const std::string& word = words[next++];
    if (!part.is_address) {
      sum = join_limit_key(hash, sum, word);
      continue;
    }
    const std::optional<IpAddress> address =
        IpAddress::parse(std::string_view(word).substr(0, word.find('/')));
    if (!address && !word.empty()) return Error{fmt::format("\"{}\" is no address", word)};
    sum = join_limit_key(hash, sum, part, address.value_or(IpAddress()));
  }
  return sum;
}

}  // namespace gatehouse
