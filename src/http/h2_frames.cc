// See h2_frames.h.
#include "http/h2_frames.h"

#include <algorithm>
#include <cstring>

namespace gatehouse {

size_t H2FrameScanner::wanted() const {
  if (have_ < kHeadSize) return kHeadSize;
  const size_t length = static_cast<size_t>(byte(0) << 16 | byte(1) << 8 | byte(2));
  switch (static_cast<H2FrameType>(byte(3))) {
    case H2FrameType::kData:
    case H2FrameType::kHeaders:
      return (byte(4) & kH2Padded) != 0 && length != 0 ? kHeadSize + 1 : kHeadSize;
    case H2FrameType::kPriority:
      return length == 5 ? kHeadSize + 4 : kHeadSize;
    case H2FrameType::kPriorityUpdate:
      return length >= 4 ? kHeadSize + 4 : kHeadSize;
    default:
      return kHeadSize;
  }
}

bool H2FrameScanner::next(std::string_view bytes, size_t& at, size_t& begin, H2FrameHead& head) {
  const auto skip = [&](size_t& left) {
    const size_t n = std::min(left, bytes.size() - at);
    at += n;
    left -= n;
  };
  skip(preface_left_);
  skip(payload_left_);
  if (at == bytes.size()) return false;
  if (have_ == 0) begin = at;
  for (size_t more = wanted() - have_; more != 0; more = wanted() - have_) {
    const size_t n = std::min(more, bytes.size() - at);
    std::memcpy(held_ + have_, bytes.data() + at, n);
    have_ += n;
    at += n;
    if (n < more) return false;
  }
  head.length = static_cast<uint32_t>(byte(0) << 16 | byte(1) << 8 | byte(2));
  head.type = byte(3);
  head.flags = byte(4);
  const auto number = [this](size_t i) {
    return (static_cast<uint32_t>(byte(i)) << 24 | static_cast<uint32_t>(byte(i + 1)) << 16 |
            static_cast<uint32_t>(byte(i + 2)) << 8 | byte(i + 3)) &
           0x7FFFFFFFU;
  };
  head.stream = number(5);
  head.padding = have_ == kHeadSize + 1 ? byte(kHeadSize) : uint8_t{0};
  head.other_stream = have_ == kHeadSize + 4 ? number(kHeadSize) : 0;
  payload_left_ = head.length - (have_ - kHeadSize);
  have_ = 0;
  return true;
}

}  // namespace gatehouse
