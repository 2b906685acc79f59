// SipHash: a 64-bit hash of bytes that clients choose, under a key that they do not know.
//
// Tables in the shared segment are indexed by it (the key is SharedMemory::secret()), so that
// nobody can pick keys that fall into one set, or that share a tag. SipHash-1-3 is what the tables
// use; SipHash-2-4 is the same code with more rounds, and the one that the authors publish vectors
// for (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
// Leaves out: incremental hashing of one text. Parts are joined by KeyedHash::join(), which keeps
// ("ab", "c") and ("a", "bc") apart.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace gatehouse {

static_assert(std::endian::native == std::endian::little, "words are read as they stand");

struct HashKey {
  uint64_t low = 0;
  uint64_t high = 0;

  static HashKey from_bytes(const std::array<uint8_t, 16>& bytes) {
    HashKey key;
    std::memcpy(&key.low, bytes.data(), 8);
    std::memcpy(&key.high, bytes.data() + 8, 8);
    return key;
  }
};

// `Compress` rounds for each word of eight bytes, `Finish` rounds at the end.
template <int Compress, int Finish>
inline uint64_t siphash(HashKey key, const void* data, size_t size) {
  uint64_t v0 = key.low ^ 0x736f6d6570736575U;
  uint64_t v1 = key.high ^ 0x646f72616e646f6dU;
  uint64_t v2 = key.low ^ 0x6c7967656e657261U;
  uint64_t v3 = key.high ^ 0x7465646279746573U;
  const auto round = [&] {
    v0 += v1;
    v2 += v3;
    v1 = std::rotl(v1, 13) ^ v0;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 = std::rotl(v0, 32);
    v2 += v1;
    v0 += v3;
    v1 = std::rotl(v1, 17) ^ v2;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 = std::rotl(v2, 32);
  };
  const auto mix = [&](uint64_t word) {
    v3 ^= word;
    for (int i = 0; i < Compress; ++i) round();
    v0 ^= word;
  };
  const auto* bytes = static_cast<const unsigned char*>(data);
  size_t left = size;
  for (; left >= 8; left -= 8, bytes += 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    mix(word);
  }
  uint64_t last = static_cast<uint64_t>(size) << 56;
  for (size_t i = 0; i < left; ++i) last |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  mix(last);
  v2 ^= 0xff;
  for (int i = 0; i < Finish; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

// Hashes one text, or several parts one after the other.
class KeyedHash {
 public:
  explicit KeyedHash(HashKey key) : key_(key) {}
  explicit KeyedHash(const std::array<uint8_t, 16>& secret) : key_(HashKey::from_bytes(secret)) {}

  uint64_t operator()(std::string_view text) const {
    return siphash<1, 3>(key_, text.data(), text.size());
  }
  uint64_t operator()(std::span<const uint8_t> bytes) const {
    return siphash<1, 3>(key_, bytes.data(), bytes.size());
  }
  // The hash of what `so_far` is the hash of, and then `text`.
  uint64_t join(uint64_t so_far, std::string_view text) const {
    return siphash<1, 3>({key_.low ^ so_far, key_.high}, text.data(), text.size());
  }

 private:
  HashKey key_;
};

}  // namespace gatehouse
