// See h2_memory.h.
#include "http/h2_memory.h"

#include <cstdlib>
#include <cstring>

namespace gatehouse {
namespace {

alignas(64) thread_local char shared[kH2PieceMax];

void* allocate(size_t size, void* lent) {
  if (size != kH2PieceMax || *static_cast<bool*>(lent)) return std::malloc(size);
  *static_cast<bool*>(lent) = true;
  return shared;
}

void release(void* block, void* lent) {
  if (block == shared) {
    *static_cast<bool*>(lent) = false;
  } else {
    std::free(block);
  }
}

void* allocate_zeroed(size_t count, size_t size, void*) {
  return std::calloc(count, size);
}

void* reallocate(void* block, size_t size, void* lent) {
  if (block == nullptr) return allocate(size, lent);
  if (block != shared) return std::realloc(block, size);
  void* larger = std::malloc(size);
  if (larger == nullptr) return nullptr;
  std::memcpy(larger, shared, size < kH2PieceMax ? size : kH2PieceMax);
  release(block, lent);
  return larger;
}

}  // namespace

nghttp2_mem h2_memory(bool& lent) {
  return {&lent, &allocate, &release, &allocate_zeroed, &reallocate};
}

}  // namespace gatehouse
