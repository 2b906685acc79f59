// See h2_memory.h.
#include "http/h2_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/frame_pool.h"

namespace gatehouse {
namespace {

alignas(64) thread_local char shared[kH2PieceMax];

// Stands before each block: the library does not say how large one is that it gives back.
struct alignas(std::max_align_t) BlockHead {
  size_t size;  // of the block behind it
};

BlockHead* head_of(void* block) {
  return static_cast<BlockHead*>(block) - 1;
}

void* take(size_t size) {
  // No request of the library is near this.
  if (size > SIZE_MAX / 2) return nullptr;
  auto* head = static_cast<BlockHead*>(FramePool::allocate(sizeof(BlockHead) + size));
  head->size = size;
  return head + 1;
}

void* allocate(size_t size, void* lent) {
  if (size != kH2PieceMax || *static_cast<bool*>(lent)) return take(size);
  *static_cast<bool*>(lent) = true;
  return shared;
}

void release(void* block, void* lent) {
  if (block == nullptr) return;
  if (block == shared) {
    *static_cast<bool*>(lent) = false;
    return;
  }
  BlockHead* const head = head_of(block);
  FramePool::release(head, sizeof(BlockHead) + head->size);
}

void* allocate_zeroed(size_t count, size_t size, void*) {
  if (size != 0 && count > SIZE_MAX / size) return nullptr;
  void* const block = take(count * size);
  if (block != nullptr) std::memset(block, 0, count * size);
  return block;
}

void* reallocate(void* block, size_t size, void* lent) {
  if (block == nullptr) return allocate(size, lent);
  void* const other = take(size);
  if (other == nullptr) return nullptr;
  const size_t had = block == shared ? kH2PieceMax : head_of(block)->size;
  std::memcpy(other, block, std::min(had, size));
  release(block, lent);
  return other;
}

}  // namespace

nghttp2_mem h2_memory(bool& lent) {
  return {&lent, &allocate, &release, &allocate_zeroed, &reallocate};
}

}  // namespace gatehouse
