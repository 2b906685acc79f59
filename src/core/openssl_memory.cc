// Buffers for OpenSSL; see openssl_memory.h.
#include "core/openssl_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/frame_pool.h"

namespace gatehouse {

#if GATEHOUSE_POOLS

namespace {

// A record holds 16 KiB, and its header, its padding and its tag come on top (RFC 8446 §5.2).
constexpr size_t kSmallest = 16 * 1024;
constexpr size_t kBlock = 18 * 1024;
constexpr uint32_t kKept = 64;

struct Block {
  Block* next;
};

struct Kept {
  Block* head = nullptr;
  uint32_t count = 0;
};

// Threads here live as long as their process.
thread_local constinit Kept kept;

void* take(size_t size, const char*, int) {
  if (size < kSmallest || size > kBlock) return size != 0 ? std::malloc(size) : nullptr;
  if (kept.head == nullptr) return std::malloc(kBlock);
  Block* block = kept.head;
  kept.head = block->next;
  --kept.count;
  return block;
}

void give_back(void* pointer, const char*, int) {
  if (pointer == nullptr) return;
  // Whatever malloc gave that is as large as a block serves as one.
  const size_t size = malloc_usable_size(pointer);
  if (size < kBlock || size > kBlock + 64 || kept.count >= kKept) {
    std::free(pointer);
    return;
  }
  auto* block = static_cast<Block*>(pointer);
  block->next = kept.head;
  kept.head = block;
  ++kept.count;
}

void* resize(void* pointer, size_t size, const char* file, int line) {
  if (size != 0) return std::realloc(pointer, size);
  give_back(pointer, file, line);
  return nullptr;
}

}  // namespace

void keep_openssl_buffers() {
  (void)CRYPTO_set_mem_functions(&take, &resize, &give_back);
}

#else

void keep_openssl_buffers() {}

#endif

}  // namespace gatehouse
