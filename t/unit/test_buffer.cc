// Borrowed buffers: the filled part under every operation, moves, growth and the free lists.
#include "core/buffer.h"

#include <criterion/criterion.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/frame_pool.h"

namespace gatehouse {
namespace {

Test(buffer, holds_nothing_until_it_is_given_a_class) {
  Buffer none;
  cr_assert_not(static_cast<bool>(none));
  cr_assert_eq(none.capacity(), 0u);
  cr_assert_eq(none.room(), 0u);
  cr_assert(none.empty());
  cr_assert(none.view().empty());
  none.release();
  none.compact();
  for (unsigned i = 0; i < kBufferClasses; ++i) {
    Buffer one(static_cast<BufferClass>(i));
    cr_assert_eq(one.capacity(), kBufferSizes[i]);
    cr_assert_eq(one.room(), kBufferSizes[i]);
    std::memset(one.tail(), 'x', one.room());
  }
}

Test(buffer, fills_at_the_end_and_empties_at_the_front) {
  Buffer buffer(BufferClass::kHead);
  buffer.append("hello, ");
  std::memcpy(buffer.tail(), "world", 5);
  buffer.commit(5);
  cr_assert_eq(buffer.view(), "hello, world");
  buffer.consume(7);
  cr_assert_eq(buffer.view(), "world");
  cr_assert_eq(buffer.begin(), 7u);
  cr_assert_eq(buffer.room(), buffer.capacity() - 12);
  buffer.compact();
  cr_assert_eq(buffer.view(), "world");
  cr_assert_eq(buffer.begin(), 0u);
  cr_assert_eq(buffer.room(), buffer.capacity() - 5);
  buffer.append(std::string(buffer.room(), 'z'));
  cr_assert_eq(buffer.room(), 0u);
  cr_assert_eq(buffer.size(), buffer.capacity());
  buffer.consume(buffer.size());
  cr_assert(buffer.empty());
  buffer.clear();
  cr_assert_eq(buffer.room(), buffer.capacity());
  buffer.append({});
  cr_assert(buffer.empty());
}

// The filled part is longer than what stands free before it: both lie over one another.
Test(buffer, compacts_what_overlaps) {
  Buffer buffer(BufferClass::kHead);
  std::string text;
  for (int i = 0; text.size() < 16'000; ++i) text += std::to_string(i) + ",";
  buffer.append(text);
  buffer.consume(3);
  buffer.compact();
  cr_assert_eq(buffer.view(), std::string_view(text).substr(3));
}

Test(buffer, grows_with_what_is_left_of_its_contents) {
  Buffer buffer(BufferClass::kHead);
  buffer.append("abcdef");
  buffer.consume(2);
  buffer.grow(BufferClass::kBulk);
  cr_assert_eq(buffer.size_class(), BufferClass::kBulk);
  cr_assert_eq(buffer.view(), "cdef");
  cr_assert_eq(buffer.begin(), 0u);
  buffer.grow(BufferClass::kHuge);
  cr_assert_eq(buffer.view(), "cdef");
  cr_assert_eq(buffer.capacity(), kBufferSizes[2]);
}

// Symptom: a Buffer that had been moved from said that it was not empty, and its room() was huge.
Test(buffer, is_empty_after_it_was_moved_from) {
  Buffer from(BufferClass::kHead);
  from.append("some bytes");
  from.consume(5);
  Buffer to(std::move(from));
  cr_assert_eq(to.view(), "bytes");
  cr_assert_not(static_cast<bool>(from));
  cr_assert(from.empty());
  cr_assert_eq(from.size(), 0u);
  cr_assert_eq(from.begin(), 0u);
  cr_assert_eq(from.room(), 0u);
  Buffer assigned(BufferClass::kBulk);
  assigned.append("other");
  assigned = std::move(to);
  cr_assert_eq(assigned.view(), "bytes");
  cr_assert_eq(assigned.size_class(), BufferClass::kHead);
  cr_assert(to.empty());
  cr_assert_eq(to.room(), 0u);
  assigned.release();
  cr_assert(assigned.empty());
  cr_assert_eq(assigned.room(), 0u);
}

Test(buffer, free_lists_hand_no_block_out_twice) {
  for (int round = 0; round < 2; ++round) {
    std::vector<Buffer> held;
    for (uint32_t i = 0; i < kBuffersKept[2] * 2 + 1; ++i) {
      held.emplace_back(BufferClass::kHuge);
      held.back().append(std::string(64, static_cast<char>('a' + i)));
    }
    for (uint32_t i = 0; i < held.size(); ++i) {
      cr_assert_eq(held[i].view(), std::string(64, static_cast<char>('a' + i)));
    }
  }
#if GATEHOUSE_POOLS
  Buffer first(BufferClass::kHead);
  const char* const block = first.data();
  first.release();
  Buffer second(BufferClass::kHead);
  cr_assert_eq(second.data(), block);
  cr_assert(second.empty());
#endif
}

}  // namespace
}  // namespace gatehouse
