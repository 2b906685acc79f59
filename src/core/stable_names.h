// Names of bounded size, and a hash of texts that is the same in every process and on every host.
//
// For what the operator names (series, targets, log files). Texts that a client chooses need a
// keyed hash, or he makes them collide.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gatehouse {

// FNV-1a, 64 bits. `seed` tells kinds of names apart.
inline uint64_t stable_hash(std::string_view text, uint64_t seed = 0) {
  uint64_t hash = 0xCBF29CE484222325 + seed;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return hash;
}

// The name, or where it has more than `max` bytes its beginning and a hash that tells it from its
// like. REQUIRES: max > 17.
inline std::string fitting_name(std::string_view name, size_t max) {
  if (name.size() <= max) return std::string(name);
  return fmt::format("{}~{:016x}", name.substr(0, max - 17), stable_hash(name));
}

}  // namespace gatehouse
