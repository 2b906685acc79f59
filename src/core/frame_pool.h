// Free lists for coroutine frames and other small, short-lived blocks, one set per thread.
//
// Sizes are rounded up to a class of 64 bytes; a freed block goes to the list of its class and is
// handed out again last-in first-out, so that it is still in the cache. Lists are bounded
// (kMaxKept blocks a class): what is over goes back to malloc. Blocks above kMaxPooled bytes are
// never pooled. Under AddressSanitizer every block is a malloc of its own, so that a use after
// free is seen: GATEHOUSE_POOLS is 0 then, 1 otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

// g++ defines __SANITIZE_ADDRESS__, clang answers __has_feature.
#if defined(__SANITIZE_ADDRESS__)
#define GATEHOUSE_POOLS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GATEHOUSE_POOLS 0
#endif
#endif
#ifndef GATEHOUSE_POOLS
#define GATEHOUSE_POOLS 1
#endif

namespace gatehouse {

namespace detail {

struct FrameBlock {
  FrameBlock* next;
};

struct FrameList {
  FrameBlock* head = nullptr;
  uint32_t kept = 0;
};

}  // namespace detail

class FramePool {
 public:
  static constexpr std::size_t kGrain = 64;
  static constexpr std::size_t kMaxPooled = 4096;
  static constexpr uint32_t kMaxKept = 512;

  // REQUIRES: size > 0. Never returns null: throws std::bad_alloc where malloc fails, which ends
  // the worker.
  static void* allocate(std::size_t size) {
#if GATEHOUSE_POOLS
    const std::size_t index = (size + kGrain - 1) / kGrain;
    if (index < kClasses) {
      List& list = lists_[index];
      if (list.head != nullptr) {
        Block* block = list.head;
        list.head = block->next;
        --list.kept;
        return block;
      }
      size = index * kGrain;
    }
#endif
    void* block = std::malloc(size);
    if (block == nullptr) throw std::bad_alloc();
    return block;
  }

  // `size` is what allocate was asked for.
  static void release(void* pointer, std::size_t size) {
#if GATEHOUSE_POOLS
    const std::size_t index = (size + kGrain - 1) / kGrain;
    if (index < kClasses && lists_[index].kept < kMaxKept) {
      List& list = lists_[index];
      Block* block = static_cast<Block*>(pointer);
      block->next = list.head;
      list.head = block;
      ++list.kept;
      return;
    }
#else
    (void)size;
#endif
    std::free(pointer);
  }

 private:
  using Block = detail::FrameBlock;
  using List = detail::FrameList;
  static constexpr std::size_t kClasses = kMaxPooled / kGrain + 1;
  static inline thread_local constinit List lists_[kClasses] = {};
};

}  // namespace gatehouse
