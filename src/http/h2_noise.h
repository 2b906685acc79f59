// H2Noise: how much an HTTP/2 peer may say that serves no exchange.
//
// PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA and frames of unknown kinds cost
// the one who reads them more than the one who sends them, and each well-meant peer sends some. So
// a connection has an allowance for each stretch of time, and earns more by frames that carry an
// answer. The frames are counted where they stand in the bytes (RFC 9113 §4.1), since libnghttp2
// tells of no unknown ones. A pure function of bytes and time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/units.h"

namespace gatehouse {

class H2Noise {
 public:
  static constexpr uint32_t kAllowance = 1000;  // frames in each stretch of time
  static constexpr int64_t kStretchUs = 10'000'000;
  static constexpr uint32_t kForUseful = 4;  // more, for each frame that carries something

  // Counts the frames whose headers end in these bytes, the next ones of the connection. False
  // where there were too many that serve nothing.
  [[nodiscard]] bool note(std::string_view bytes, Moment now) {
    if (now.us - since_.us >= kStretchUs) {
      since_ = now;
      noise_ = useful_ = 0;
    }
    while (!bytes.empty()) {
      if (skip_ != 0) {
        const size_t size = std::min(bytes.size(), skip_);
        skip_ -= size;
        bytes.remove_prefix(size);
        continue;
      }
      header_[have_++] = static_cast<uint8_t>(bytes.front());
      bytes.remove_prefix(1);
      if (have_ == kHeader) note_frame();
    }
    return noise_ <= kAllowance + uint64_t{kForUseful} * useful_;
  }

 private:
  static constexpr size_t kHeader = 9;

  void note_frame() {
    constexpr uint8_t kData = 0;
    constexpr uint8_t kHeaders = 1;
    constexpr uint8_t kContinuation = 9;
    constexpr uint8_t kEndStream = 1;
    have_ = 0;
    skip_ = size_t{header_[0]} << 16 | size_t{header_[1]} << 8 | header_[2];
    const uint8_t kind = header_[3];
    const bool says_something =
        kind == kHeaders || (kind == kData && (skip_ != 0 || (header_[4] & kEndStream) != 0));
    if (says_something) {
      useful_ += useful_ < (1U << 28) ? 1 : 0;
    } else if (kind != kContinuation) {  // libnghttp2 allows few of these
      noise_ += noise_ < UINT32_MAX ? 1 : 0;
    }
  }

  Moment since_;
  uint32_t noise_ = 0;
  uint32_t useful_ = 0;
  size_t skip_ = 0;  // bytes of the present frame that are still to come
  uint8_t have_ = 0;
  uint8_t header_[kHeader] = {};
};

}  // namespace gatehouse
