// The frame pool: blocks that do not overlap, reuse of the last one freed, and its bounds.
#include "core/frame_pool.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace gatehouse {
namespace {

Test(frame_pool, gives_blocks_of_every_size_that_do_not_overlap) {
  struct Taken {
    char* block;
    size_t size;
  };
  std::vector<Taken> taken;
  for (size_t size = 1; size < FramePool::kMaxPooled + 3 * FramePool::kGrain; size += 13) {
    auto* block = static_cast<char*>(FramePool::allocate(size));
    cr_assert_eq(reinterpret_cast<uintptr_t>(block) % alignof(std::max_align_t), 0u);
    std::memset(block, static_cast<int>(size % 251), size);
    taken.push_back({block, size});
  }
  for (const Taken& one : taken) {
    for (size_t i = 0; i < one.size; ++i) {
      cr_assert_eq(static_cast<unsigned char>(one.block[i]), one.size % 251);
    }
    FramePool::release(one.block, one.size);
  }
}

Test(frame_pool, hands_out_the_last_freed_block_of_a_class) {
  void* first = FramePool::allocate(100);
  void* second = FramePool::allocate(128);
  FramePool::release(first, 100);
  FramePool::release(second, 128);
  void* third = FramePool::allocate(65);
  void* fourth = FramePool::allocate(128);
#if GATEHOUSE_POOLS
  cr_assert_eq(third, second);
  cr_assert_eq(fourth, first);
  void* other_class = FramePool::allocate(129);
  cr_assert_neq(other_class, first);
  FramePool::release(other_class, 129);
#endif
  FramePool::release(third, 65);
  FramePool::release(fourth, 128);
}

// More than are kept, twice: what goes back to malloc is not handed out as well.
Test(frame_pool, survives_more_blocks_than_it_keeps) {
  for (int round = 0; round < 2; ++round) {
    std::vector<void*> blocks;
    for (uint32_t i = 0; i < FramePool::kMaxKept * 2; ++i) {
      blocks.push_back(FramePool::allocate(200));
      std::memset(blocks.back(), static_cast<int>(i), 200);
    }
    std::vector<void*> sorted = blocks;
    std::sort(sorted.begin(), sorted.end());
    cr_assert(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
    for (void* block : blocks) FramePool::release(block, 200);
  }
}

}  // namespace
}  // namespace gatehouse
