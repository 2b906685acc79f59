// The per-thread free lists behind Buffer; see buffer.h.
#include "core/buffer.h"

#include <cassert>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/frame_pool.h"

namespace gatehouse {

#if GATEHOUSE_POOLS
namespace {

struct Block {
  Block* next;
};

struct FreeList {
  Block* head = nullptr;
  uint32_t kept = 0;
};

// Left to the process's end on purpose: a worker's buffers live as long as it does.
thread_local constinit FreeList free_lists[kBufferClasses] = {};

}  // namespace
#endif

Buffer::Buffer(BufferClass size_class)
    : capacity_(static_cast<uint32_t>(kBufferSizes[static_cast<unsigned>(size_class)])),
      class_(size_class) {
  const auto index = static_cast<unsigned>(size_class);
#if GATEHOUSE_POOLS
  FreeList& list = free_lists[index];
  if (list.head != nullptr) {
    data_ = reinterpret_cast<char*>(list.head);
    list.head = list.head->next;
    --list.kept;
    return;
  }
#endif
  data_ = static_cast<char*>(std::malloc(kBufferSizes[index]));
  if (data_ == nullptr) throw std::bad_alloc();
}

void Buffer::give_back() {
  char* data = std::exchange(data_, nullptr);
  capacity_ = 0;
#if GATEHOUSE_POOLS
  const auto index = static_cast<unsigned>(class_);
  FreeList& list = free_lists[index];
  if (list.kept < kBuffersKept[index]) {
    auto* block = reinterpret_cast<Block*>(data);
    block->next = list.head;
    list.head = block;
    ++list.kept;
    return;
  }
#endif
  std::free(data);
}

void Buffer::compact() {
  if (begin_ == 0) return;
  std::memmove(data_, data_ + begin_, size());
  end_ -= begin_;
  begin_ = 0;
}

void Buffer::grow(BufferClass larger) {
  assert(static_cast<unsigned>(larger) > static_cast<unsigned>(class_));
  Buffer next(larger);
  next.append(view());
  *this = std::move(next);
}

}  // namespace gatehouse
