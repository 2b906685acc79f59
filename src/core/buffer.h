// Borrowed buffers: blocks of bytes from a worker's free lists, given back by scope exit.
//
// A connection at rest holds none. Sizes are fixed classes; the lists keep a bounded number of
// blocks of each and hand the rest back to the system, so that a burst does not stay in memory.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace gatehouse {

enum class BufferClass : uint8_t {
  kHead,  // 16 KiB less the allocator's header: heads and most bodies
  kBulk,  // 64 KiB: heads up to the largest head_max, bodies that fill the former
  kHuge,  // 256 KiB: bodies that keep filling kBulk
};
inline constexpr unsigned kBufferClasses = 3;
inline constexpr size_t kBufferSizes[kBufferClasses] = {16 * 1024, 64 * 1024, 256 * 1024};
// How many blocks of each class a worker keeps for the next borrower.
inline constexpr uint32_t kBuffersKept[kBufferClasses] = {128, 32, 8};

// A borrowed block with a filled part [begin, end). Empty when default-constructed,
// moved from or released.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(BufferClass size_class);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        begin_(std::exchange(other.begin_, 0)),
        end_(std::exchange(other.end_, 0)),
        capacity_(std::exchange(other.capacity_, 0)),
        class_(other.class_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      release();
      data_ = std::exchange(other.data_, nullptr);
      begin_ = std::exchange(other.begin_, 0);
      end_ = std::exchange(other.end_, 0);
      capacity_ = std::exchange(other.capacity_, 0);
      class_ = other.class_;
    }
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) give_back();
  }

  explicit operator bool() const { return data_ != nullptr; }
  void release() {
    begin_ = end_ = 0;
    if (data_ != nullptr) give_back();
  }

  BufferClass size_class() const { return class_; }
  size_t capacity() const { return capacity_; }
  char* data() { return data_; }

  // The filled part.
  std::string_view view() const { return {data_ + begin_, size_t{end_} - begin_}; }
  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  // Bytes consumed from the front so far.
  size_t begin() const { return begin_; }

  // Room behind the filled part.
  char* tail() { return data_ + end_; }
  size_t room() const { return capacity_ - end_; }

  // `n` bytes were written to tail(). REQUIRES: n <= room().
  void commit(size_t n) {
    assert(n <= room());
    end_ += static_cast<uint32_t>(n);
  }
  // Drops `n` bytes from the front. REQUIRES: n <= size(). Views of what is left stay valid.
  void consume(size_t n) {
    assert(n <= size());
    begin_ += static_cast<uint32_t>(n);
  }
  void clear() { begin_ = end_ = 0; }
  // Copies `bytes` behind the filled part. REQUIRES: they fit room().
  void append(std::string_view bytes) {
    assert(bytes.size() <= room());
    if (bytes.empty()) return;
    std::memcpy(tail(), bytes.data(), bytes.size());
    commit(bytes.size());
  }
  // Moves the filled part to the front. Invalidates views.
  void compact();
  // Exchanges the block for one of a larger class, contents kept. Invalidates views.
  void grow(BufferClass larger);

 private:
  // REQUIRES: there is a block.
  void give_back();

  char* data_ = nullptr;
  uint32_t begin_ = 0;
  uint32_t end_ = 0;
  uint32_t capacity_ = 0;  // 0 without a block
  BufferClass class_ = BufferClass::kHead;
};

}  // namespace gatehouse
