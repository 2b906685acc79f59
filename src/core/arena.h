// The arena of one exchange: memory that is handed out in order and given back all at once.
//
// A std::pmr::memory_resource whose first block is borrowed from the frame pool; what does not fit
// comes from further blocks that double in size up to 64 KiB. Nothing is freed before reset().
// After reset() the arena holds no memory at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>

namespace gatehouse {

class Arena final : public std::pmr::memory_resource {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() override { reset(); }

  // Uninitialised bytes that live until reset().
  char* bytes(size_t size) { return static_cast<char*>(take(size, 1)); }
  // A copy of `text` that lives until reset().
  std::string_view copy(std::string_view text);
  // The texts one after the other, as one.
  std::string_view concat(std::string_view a, std::string_view b, std::string_view c = {});
  void reset();

 private:
  struct Block {
    Block* next;
    size_t size;  // of the whole block
  };
  void* take(size_t size, size_t alignment) {
    const auto aligned = (position_ + alignment - 1) & ~(alignment - 1);
    if (aligned <= limit_ && size <= limit_ - aligned) [[likely]] {
      position_ = aligned + size;
      return reinterpret_cast<void*>(aligned);
    }
    return take_from_new_block(size, alignment);
  }
  void* take_from_new_block(size_t size, size_t alignment);

  void* do_allocate(size_t size, size_t alignment) override { return take(size, alignment); }
  void do_deallocate(void*, size_t, size_t) override {}
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  uintptr_t position_ = 0;
  uintptr_t limit_ = 0;
  Block* blocks_ = nullptr;
};

}  // namespace gatehouse
