// The heads of the HTTP/2 frames in a stream of bytes (RFC 9113 §4.1), and little of the payloads.
//
// libnghttp2 reads the frames themselves. It says nothing of those that it ignores, though: frames
// of unknown types, DATA for a stream that is closed, PRIORITY. The session asks this scanner what
// comes next before libnghttp2 is given the bytes, so that it can count them and judge them by its
// own rules. Bytes may be split anywhere. It never fails: what is no legal frame is libnghttp2's to
// refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse {

enum class H2FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoaway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
  kPriorityUpdate = 16,
};

inline constexpr uint8_t kH2EndStream = 1;     // DATA, HEADERS
inline constexpr uint8_t kH2Ack = 1;           // SETTINGS, PING
inline constexpr uint8_t kH2EndHeaders = 4;    // HEADERS, CONTINUATION
inline constexpr uint8_t kH2Padded = 8;        // DATA, HEADERS
inline constexpr uint8_t kH2Prioritized = 32;  // HEADERS

// What a client sends before its first frame.
inline constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct H2FrameHead {
  uint32_t length = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
  // PRIORITY of five bytes: the stream it depends on. PRIORITY_UPDATE: the stream that it is for.
  uint32_t other_stream = 0;
  uint8_t padding = 0;  // DATA and HEADERS with kH2Padded: the Pad Length

  bool is(H2FrameType wanted) const { return type == static_cast<uint8_t>(wanted); }
};

class H2FrameScanner {
 public:
  static constexpr size_t kHeadSize = 9;

  // Looks at `bytes` from offset `at` on. True where the next frame's head is complete: `head` is
  // filled, and `begin` says where the frame begins in `bytes` (0, where it began in earlier
  // bytes). False at the end of the bytes. Either way `at` is behind what was looked at.
  bool next(std::string_view bytes, size_t& at, size_t& begin, H2FrameHead& head);

 private:
  // The head, and what is looked at of the payload.
  size_t wanted() const;
  uint8_t byte(size_t i) const { return static_cast<uint8_t>(held_[i]); }

  char held_[kHeadSize + 4];
  size_t have_ = 0;
  size_t preface_left_ = kH2Preface.size();
  size_t payload_left_ = 0;
};

}  // namespace gatehouse
