// The chunked transfer coding (RFC 9112 §7.1): an incremental decoder, and helpers to encode.
//
// The decoder is given the bytes as they arrive and hands back views of the data in them; it
// copies nothing but trailer lines. It reads the grammar to the letter: 1 to 16 hex digits, CRLF
// and nothing else at a line's end, extensions only in their exact syntax and in bounded number,
// since every known smuggling trick with chunks lives in what a lenient reader skips. Extensions
// are never handed on. The verdict depends on the bytes alone, not on how they were split.
//
// Extension bytes are bounded for one chunk, and for the message by a debt that data pays back, so
// that tiny chunks with long extensions cannot make the gateway work for nothing, while a long
// stream may use them. Trailer fields are read like head fields; those that have no business in a
// trailer are marked dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/field.h"
#include "http/h1_parser.h"
#include "http/reason.h"

namespace gatehouse {

struct ChunkedLimits {
  size_t extension_max = 256;   // bytes after the size in one chunk's line
  size_t overhead_max = 16384;  // extension bytes not yet paid for by data, 2 for each byte
  size_t trailer_max = 8192;    // bytes of the trailer section
  size_t trailer_fields_max = 32;
};

class ChunkedDecoder {
 public:
  enum class Status : uint8_t {
    kNeedMore,  // all bytes were consumed; feed more
    kData,      // `data` is a piece of the body
    kDone,      // the body and its trailer section have ended; what follows is another message
    kRefused,   // reason() says why; the connection is of no use any more
  };
  struct Step {
    Status status;
    size_t consumed;        // bytes of the input that are done with
    std::string_view data;  // kData only: a view into the input, never empty
  };

  ChunkedDecoder() = default;
  explicit ChunkedDecoder(const ChunkedLimits& limits) : limits_(limits) {}

  // Ready for another body; keeps the limits.
  void reset();

  // Reads up to the next piece of data, the end, a fault, or the end of `bytes`. The caller
  // removes `consumed` bytes and calls again while the status is kData and bytes are left.
  Step next(std::string_view bytes);

  // After kDone: the trailer fields, null where there are none. They live until reset().
  FieldList* trailers() { return trailer_ ? &trailer_->fields : nullptr; }

  Reason reason() const { return reason_; }
  bool done() const { return state_ == State::kDone; }

 private:
  enum class State : uint8_t {
    kSize,       // in the hex digits
    kExtension,  // in the grammar of the extensions, see extension_
    kSizeLf,     // CR of the size line seen
    kData,
    kDataCr,  // after the data
    kDataLf,
    kTrailer,  // at the start of the trailer section, or in it where trailer_ is set
    kEndLf,    // CR of the last, empty line seen
    kDone,
    kRefused,
  };
  enum class Extension : uint8_t {
    kBeforeSemicolon,  // white space after the size or after an extension
    kBeforeName,
    kName,
    kAfterName,
    kBeforeValue,
    kToken,
    kQuoted,
    kQuotedPair,
    kAfterQuoted,
  };

  struct Trailer {
    std::string bytes;
    FieldSectionParser section;
    FieldList fields;
  };

  Step refuse(Reason reason);
  bool size_line_byte(char c);
  bool extension_byte(char c);
  Step trailer(std::string_view bytes, size_t at);

  ChunkedLimits limits_;
  uint64_t left_ = 0;          // size of the chunk, then bytes of it still to come
  size_t overhead_ = 0;        // extension bytes not paid for
  size_t extension_size_ = 0;  // of this chunk
  State state_ = State::kSize;
  Extension extension_ = Extension::kBeforeSemicolon;
  uint8_t digits_ = 0;
  Reason reason_ = Reason::kNone;
  std::unique_ptr<Trailer> trailer_;  // made when the first trailer line begins
};

// Room for the line that begins a chunk: 16 digits, CRLF.
inline constexpr size_t kChunkHeaderMax = 18;

// Writes "SIZE CRLF" for a chunk of `size` > 0 bytes into `out` and returns the bytes written. The
// caller sends that, the data, and kChunkEnd.
size_t write_chunk_header(char (&out)[kChunkHeaderMax], uint64_t size);

inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";    // no trailers
inline constexpr std::string_view kLastChunkHeader = "0\r\n";  // trailer lines and CRLF follow

}  // namespace gatehouse
