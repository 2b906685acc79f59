// The router's inside: what router_build.cc makes and router.cc reads. No business of anybody else.
//
// Every (route, host, path) is an Entry. Entries that share host and path stand next to each other,
// most specific first, the last one marked: a "leaf" is the index of the first. For each host
// there is a hash of literal paths, a tree of segments for patterns with {name} or *, a list of
// expressions and the leaf of routes without a path. All hosts share the hash tables: a key there
// is a text within a scope (the host's or the tree node's number).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "http/route.h"
#include "http/router.h"

namespace gatehouse {

inline constexpr uint32_t kNoIndex = ~uint32_t{0};

// A hash table from (scope, text) to a number, filled once and then only read. Collisions cost a
// step each; requests cannot make any, for they add nothing.
class ScopedTextTable {
 public:
  static uint64_t hash(uint32_t scope, std::string_view text) {
    uint64_t state = mix(scope + 0x9E3779B97F4A7C15U, text.size() ^ 0xD6E8FEB86659FD93U);
    const char* at = text.data();
    size_t left = text.size();
    for (; left > 8; at += 8, left -= 8) state = mix(state ^ load(at, 8), 0xA0761D6478BD642FU);
    return mix(state ^ load(at, left), 0xE7037ED1A0B428DBU);
  }

  bool empty() const { return used_ == 0; }

  // kNoIndex where it is absent.
  uint32_t find(uint32_t scope, std::string_view text) const {
    if (used_ == 0) return kNoIndex;
    const uint64_t key = hash(scope, text);
    for (size_t i = key & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.value == kNoIndex) return kNoIndex;
      if (slot.hash == key && slot.scope == scope && slot.size == text.size() &&
          (text.empty() || std::memcmp(slot.text, text.data(), text.size()) == 0)) {
        return slot.value;
      }
    }
  }

  // The value of the key, `value` where it is new. `text` must outlive the table.
  uint32_t find_or_add(uint32_t scope, std::string_view text, uint32_t value);

  // Replaces every value by what `change` makes of it.
  template <class Change>
  void change_values(Change change) {
    for (Slot& slot : slots_) {
      if (slot.value != kNoIndex) slot.value = change(slot.value);
    }
  }

 private:
  struct Slot {
    uint64_t hash = 0;
    const char* text = nullptr;
    uint32_t size = 0;
    uint32_t scope = 0;
    uint32_t value = kNoIndex;  // none: the slot is free
  };

  __extension__ using Wide = unsigned __int128;
  static uint64_t mix(uint64_t a, uint64_t b) {
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  // Up to eight bytes as a number.
  static uint64_t load(const char* at, size_t size) {
    if (size >= 4) {
      uint32_t low = 0;
      uint32_t high = 0;
      std::memcpy(&low, at, 4);
      std::memcpy(&high, at + size - 4, 4);
      return uint64_t{high} << 32 | low;
    }
    if (size == 0) return 0;
    const auto byte = [at](size_t i) { return uint64_t{static_cast<unsigned char>(at[i])}; };
    return byte(0) << 16 | byte(size / 2) << 8 | byte(size - 1);
  }
  void grow();

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t used_ = 0;
};

struct RouterEntry {
  const Route* route = nullptr;
  const RouteConf* conf = nullptr;
  const HostPattern* host = nullptr;  // null: the route names none
  const PathPattern* path = nullptr;  // null: the route names none
  uint32_t methods = ~uint32_t{0};    // a bit for each Method; all where the route names none
  uint16_t conditions = 0;
  uint16_t exact_conditions = 0;
  bool other_methods = false;  // compare by name too
  bool last = false;           // of its leaf
  uint8_t name_count = 0;      // of its captures, without `*`
  uint32_t names = 0;          // the first of them in Tables::names
  uint32_t order = 0;          // the route's place among those of the listener
};

// One node of the tree of segments. Most nodes have one literal edge, which stands in the node so
// that following it costs no other cache line; where there are more, all are in Tables::edges.
struct RouterNode {
  uint32_t capture = kNoIndex;  // the node behind {name}
  uint32_t whole = kNoIndex;    // leaf of the patterns that end here
  uint32_t prefix = kNoIndex;   // leaf of the patterns that go on with *
  uint32_t edges = 0;           // how many literal edges there are
  const char* text = nullptr;   // the only one's text
  uint32_t text_size = 0;
  uint32_t child = kNoIndex;
};

struct RouterHost {
  bool has_literal = false;  // paths in Tables::literal
  uint32_t root = kNoIndex;  // of its tree
  // Its expressions in Tables::regexes.
  uint32_t regex_first = 0;
  uint32_t regex_count = 0;
  uint32_t without_path = kNoIndex;  // leaf
};

// The scopes of Tables::hosts.
inline constexpr uint32_t kExactHosts = 0;
inline constexpr uint32_t kWildcardHosts = 1;

struct Router::Tables {
  std::vector<RouterEntry> entries;
  std::vector<RouterHost> hosts;
  std::vector<RouterNode> nodes;
  // The names of captures. Patterns with the same ones share them, so that they stay in the cache.
  std::vector<std::string_view> names;
  std::vector<uint32_t> regexes;  // leaves, each of entries with one expression
  ScopedTextTable host_names;
  ScopedTextTable literal;  // (host, path) -> leaf
  ScopedTextTable edges;    // (node, segment) -> node, of nodes with more than one
  bool has_wildcards = false;
  uint32_t any_host = kNoIndex;
  std::pmr::monotonic_buffer_resource texts;  // the paths and segments
};

}  // namespace gatehouse
