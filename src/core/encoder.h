// Encoders: the content codings that a response may be sent in (gzip, brotli, zstd), as streams.
//
// An encoder takes bytes in pieces and gives bytes in pieces; what it holds back it gives up when
// told to flush, so that a streamed response arrives as it comes. Working memory is large (a
// quarter of a megabyte for gzip, up to a few for the others), so each worker keeps the encoders,
// or their memory, of responses that are over (kEncodersKept of each coding) and lends no more than
// kEncoderMemoryMax altogether: then borrow_encoder() gives none, and the response goes out as it
// is. Windows are kept at 256 KiB, which costs little on pages and saves most of the memory.
//
// Encoding runs on the event loop. The highest levels would hold it up (brotli 11 takes seconds for
// a megabyte); kEncoderLevels says how far it may go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace gatehouse {

enum class Coding : uint8_t { kGzip, kBrotli, kZstd };
inline constexpr unsigned kCodings = 3;

// How Content-Encoding names it (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
inline constexpr std::string_view kCodingNames[kCodings] = {"gzip", "br", "zstd"};

struct LevelRange {
  int low;
  int high;
};
inline constexpr LevelRange kEncoderLevels[kCodings] = {{1, 9}, {0, 6}, {1, 9}};

inline constexpr size_t kEncoderMemoryMax = size_t{64} << 20;  // of one worker
inline constexpr uint32_t kEncodersKept = 8;                   // at rest, of each coding

class Encoder;

struct EncoderReturn {
  void operator()(Encoder* encoder) const;
};
// Goes back to its worker.
using BorrowedEncoder = std::unique_ptr<Encoder, EncoderReturn>;

class Encoder {
 public:
  enum class Flush : uint8_t {
    kNone,   // may hold bytes back
    kPiece,  // all that was given can be decoded from what was put out
    kEnd,    // this is the end
  };
  struct Step {
    size_t consumed = 0;
    size_t written = 0;
    bool done = false;  // all consumed, and flushed as asked; else call again with what is left
    bool failed = false;
  };

  Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  virtual ~Encoder() = default;

  // Encodes from `in` into `out`, which is not empty.
  virtual Step encode(std::string_view in, Flush flush, std::span<char> out) = 0;

  Coding coding() const { return coding_; }

 protected:
  explicit Encoder(Coding coding) : coding_(coding) {}

 private:
  friend struct EncoderReturn;
  friend BorrowedEncoder borrow_encoder(Coding coding, int level, uint64_t size);
  // Makes it ready for another body. False: it is of no more use.
  virtual bool begin(int level, uint64_t size) = 0;
  // What it holds, in bytes.
  virtual size_t memory() const = 0;
  // A body is over: lets go of what is not for the next one.
  virtual void end() = 0;

  Coding coding_ = Coding::kGzip;
  size_t counted_ = 0;
  Encoder* next_free_ = nullptr;
};

// An encoder for a body of exactly `size` bytes (0: not known), or null where the worker's memory
// for encoders is lent, or the system has none. `level` is within kEncoderLevels.
BorrowedEncoder borrow_encoder(Coding coding, int level, uint64_t size);

// What this thread has lent, in bytes; for tests.
size_t encoder_memory_lent();

}  // namespace gatehouse
