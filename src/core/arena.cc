// The exchange's arena; see arena.h.
#include "core/arena.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "core/frame_pool.h"

namespace gatehouse {

namespace {
constexpr size_t kFirstBlock = 2048;
constexpr size_t kLargestBlock = 64 * 1024;  // but for what needs a larger one
}  // namespace

std::string_view Arena::copy(std::string_view text) {
  if (text.empty()) return {};
  char* to = bytes(text.size());
  std::memcpy(to, text.data(), text.size());
  return {to, text.size()};
}

std::string_view Arena::concat(std::string_view a, std::string_view b, std::string_view c) {
  const size_t size = a.size() + b.size() + c.size();
  if (size == 0) return {};
  char* to = bytes(size);
  char* end = to;
  for (std::string_view part : {a, b, c}) {
    if (!part.empty()) std::memcpy(end, part.data(), part.size());
    end += part.size();
  }
  return {to, size};
}

void* Arena::take_from_new_block(size_t size, size_t alignment) {
  if (size > SIZE_MAX / 2 - alignment) throw std::bad_alloc();
  const size_t needed = sizeof(Block) + size + alignment;
  size_t block_size = blocks_ == nullptr ? kFirstBlock : std::min(blocks_->size * 2, kLargestBlock);
  block_size = std::max(block_size, needed);
  auto* block = static_cast<Block*>(FramePool::allocate(block_size));
  block->next = blocks_;
  block->size = block_size;
  blocks_ = block;
  position_ = reinterpret_cast<uintptr_t>(block) + sizeof(Block);
  limit_ = reinterpret_cast<uintptr_t>(block) + block_size;
  return take(size, alignment);
}

void Arena::reset() {
  while (blocks_ != nullptr) {
    Block* block = blocks_;
    blocks_ = block->next;
    FramePool::release(block, block->size);
  }
  position_ = limit_ = 0;
}

}  // namespace gatehouse
