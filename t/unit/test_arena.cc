// The arena: what it hands out does not overlap, is aligned, and is all given back by reset().
#include "core/arena.h"

#include <criterion/criterion.h>

#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <string>
#include <vector>

namespace gatehouse {
namespace {

Test(arena, copies_and_joins_texts) {
  Arena arena;
  std::string source = "text";
  const std::string_view copy = arena.copy(source);
  source.assign("gone");
  cr_assert_eq(copy, "text");
  cr_assert_eq(arena.concat("a", "bc"), "abc");
  cr_assert_eq(arena.concat("a", "", "bc"), "abc");
  cr_assert(arena.concat("", "", "").empty());
  cr_assert(arena.copy({}).empty());
  cr_assert_eq(copy, "text");
}

Test(arena, keeps_apart_what_it_hands_out_across_blocks) {
  Arena arena;
  std::vector<std::string_view> texts;
  std::vector<std::string> expected;
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < 400; ++i) {
      expected.emplace_back((i * 37) % 900 + 1, static_cast<char>('a' + i % 26));
      texts.push_back(arena.copy(expected.back()));
    }
    // One that fits no block of the usual sizes, and small ones after it.
    expected.emplace_back(300'000, '#');
    texts.push_back(arena.copy(expected.back()));
    for (int i = 0; i < 100; ++i) {
      expected.emplace_back(3, static_cast<char>('0' + i % 10));
      texts.push_back(arena.copy(expected.back()));
    }
    for (size_t i = 0; i < texts.size(); ++i) cr_assert_eq(texts[i], expected[i]);
    texts.clear();
    expected.clear();
    arena.reset();
  }
  arena.reset();
}

Test(arena, keeps_every_alignment) {
  Arena arena;
  std::pmr::memory_resource& resource = arena;
  for (size_t i = 0; i < 300; ++i) {
    for (size_t alignment = 1; alignment <= 256; alignment *= 2) {
      const size_t size = i % 70 + 1;
      void* block = resource.allocate(size, alignment);
      cr_assert_eq(reinterpret_cast<uintptr_t>(block) % alignment, 0u);
      std::memset(block, 0x5a, size);
    }
  }
}

Test(arena, serves_containers) {
  Arena arena;
  {
    std::pmr::vector<std::pmr::string> list(&arena);
    for (int i = 0; i < 2000; ++i) list.emplace_back("a text too long for the small-string room");
    cr_assert_eq(list.size(), 2000u);
    cr_assert_str_eq(list.back().c_str(), "a text too long for the small-string room");
  }
  arena.reset();
  cr_assert_eq(arena.copy("again"), "again");
}

Test(arena, refuses_a_size_that_would_wrap_around) {
  Arena arena;
  arena.copy("a block is there");
  bool refused = false;
  try {
    arena.bytes(SIZE_MAX - 64);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  cr_assert(refused);
  cr_assert_eq(arena.copy("still good"), "still good");
}

}  // namespace
}  // namespace gatehouse
