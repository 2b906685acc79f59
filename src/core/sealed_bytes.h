// Bytes in a sealed memfd: they can be read by whoever gets the descriptor, and changed by nobody.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// A memfd of this name (as /proc shows it) that holds `bytes`, sealed against every change.
Result<UniqueFd> seal_bytes(const char* name, std::string_view bytes);

// The same for a memfd that is there already, made with MFD_ALLOW_SEALING.
Result<void> write_and_seal(int fd, std::string_view bytes);

// Reads all of it back. Leaves `fd` open, and does not depend on its position. Fails unless it is
// fully sealed (unsealed bytes could change while they are read) and at most `max` bytes.
Result<std::string> read_sealed(int fd, size_t max);

// The bytes of a sealed memfd, mapped for reading: shared by all processes that map it, and in no
// core dump. A process that is forked afterwards does not have the mapping.
class SealedView {
 public:
  // Fails unless it is fully sealed, not empty and at most `max` bytes. `fd` may be closed then.
  static Result<SealedView> map(int fd, size_t max);
  SealedView() = default;
  SealedView(SealedView&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  SealedView& operator=(SealedView&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~SealedView();

  // Keeps it out of swap, where this process may do so.
  void lock() const;
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace gatehouse
