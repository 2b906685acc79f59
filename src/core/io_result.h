// What came of reading or writing: the result of a Stream's operations and of the layers in it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gatehouse {

enum class IoStatus : uint8_t {
  kOk,
  kEof,      // the peer has finished sending
  kError,    // see IoResult::error
  kTimeout,  // nothing moved in the time allowed
};

struct IoResult {
  IoStatus status = IoStatus::kOk;
  int error = 0;     // errno, with kError
  size_t bytes = 0;  // moved; with kOk of a read at least 1
  bool ok() const { return status == IoStatus::kOk; }
};

}  // namespace gatehouse
