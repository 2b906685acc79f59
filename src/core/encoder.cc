// The three encoders and where they are kept; see encoder.h.
#include "core/encoder.h"

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <utility>

namespace gatehouse {

namespace {

constexpr int kWindowBits = 18;  // of brotli and zstd

// What an encoder needs before its first byte, for the decision whether to lend one.
constexpr size_t kMemoryExpected[kCodings] = {size_t{270} << 10, size_t{1} << 20, size_t{1} << 20};

// ---- gzip ---------------------------------------------------------------------------------------

class GzipEncoder final : public Encoder {
 public:
  GzipEncoder() : Encoder(Coding::kGzip) {}
  ~GzipEncoder() override {
    if (level_ != 0) deflateEnd(&stream_);
  }

  Step encode(std::string_view in, Flush flush, std::span<char> out) override {
    const auto in_size = static_cast<uInt>(std::min<size_t>(in.size(), UINT_MAX));
    const auto out_size = static_cast<uInt>(std::min<size_t>(out.size(), UINT_MAX));
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = in_size;
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = out_size;
    const bool all = in_size == in.size();
    const int mode = !all || flush == Flush::kNone ? Z_NO_FLUSH
                     : flush == Flush::kPiece      ? Z_SYNC_FLUSH
                                                   : Z_FINISH;
    const int result = deflate(&stream_, mode);
    Step step;
    step.consumed = in_size - stream_.avail_in;
    step.written = out_size - stream_.avail_out;
    // Z_BUF_ERROR: there was nothing to do.
    step.failed = result < 0 && result != Z_BUF_ERROR;
    if (flush == Flush::kEnd) {
      step.done = result == Z_STREAM_END;
    } else {
      step.done = all && stream_.avail_in == 0 && stream_.avail_out != 0;
    }
    return step;
  }

 private:
  bool begin(int level, uint64_t) override {
    if (level_ == level) return deflateReset(&stream_) == Z_OK;
    if (level_ != 0) deflateEnd(&stream_);
    level_ = 0;
    stream_ = {};
    // 16 more than the window's bits asks for a gzip header and trailer.
    constexpr int kGzipWindow = 15 + 16;
    constexpr int kMemoryLevel = 8;
    if (deflateInit2(&stream_, level, Z_DEFLATED, kGzipWindow, kMemoryLevel, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
      return false;
    }
    level_ = level;
    return true;
  }
  size_t memory() const override { return kMemoryExpected[static_cast<unsigned>(Coding::kGzip)]; }
  void end() override {}

  z_stream stream_{};
  int level_ = 0;  // 0: not made yet
};

// ---- brotli -------------------------------------------------------------------------------------

// The library makes a new state for each body, from blocks of a few sizes: those of the last bodies
// are kept, since fresh ones of this size cost more in page faults than the encoding of a page.
struct alignas(std::max_align_t) Block {
  size_t size;
};
struct KeptBlocks {
  static constexpr size_t kPlaces = 32;
  static constexpr size_t kBytesMax = size_t{4} << 20;
  Block* places[kPlaces];
  size_t next;
  size_t bytes;
};
thread_local constinit KeptBlocks kept_blocks{};

// The memory functions of one encoder; `self` is where its bytes are counted.
void* take_block(void* self, size_t size) {
  *static_cast<size_t*>(self) += size;
  for (Block*& place : kept_blocks.places) {
    if (place == nullptr || place->size != size) continue;
    kept_blocks.bytes -= size;
    return std::exchange(place, nullptr) + 1;
  }
  auto* block = static_cast<Block*>(std::malloc(sizeof(Block) + size));
  if (block == nullptr) {
    *static_cast<size_t*>(self) -= size;
    return nullptr;
  }
  block->size = size;
  return block + 1;
}

void give_back_block(void* self, void* memory) {
  if (memory == nullptr) return;
  Block* block = static_cast<Block*>(memory) - 1;
  *static_cast<size_t*>(self) -= block->size;
  // The one that has been kept for longest makes room.
  Block*& place = kept_blocks.places[kept_blocks.next];
  const size_t gone = place != nullptr ? place->size : 0;
  if (kept_blocks.bytes - gone + block->size <= KeptBlocks::kBytesMax) {
    kept_blocks.next = (kept_blocks.next + 1) % KeptBlocks::kPlaces;
    kept_blocks.bytes = kept_blocks.bytes - gone + block->size;
    std::swap(place, block);
  }
  std::free(block);
}

class BrotliEncoder final : public Encoder {
 public:
  BrotliEncoder() : Encoder(Coding::kBrotli) {}
  ~BrotliEncoder() override { destroy(); }

  Step encode(std::string_view in, Flush flush, std::span<char> out) override {
    size_t in_left = in.size();
    size_t out_left = out.size();
    const auto* next_in = reinterpret_cast<const uint8_t*>(in.data());
    auto* next_out = reinterpret_cast<uint8_t*>(out.data());
    const BrotliEncoderOperation operation = flush == Flush::kNone    ? BROTLI_OPERATION_PROCESS
                                             : flush == Flush::kPiece ? BROTLI_OPERATION_FLUSH
                                                                      : BROTLI_OPERATION_FINISH;
    Step step;
    step.failed = BrotliEncoderCompressStream(state_, operation, &in_left, &next_in, &out_left,
                                              &next_out, nullptr) == BROTLI_FALSE;
    step.consumed = in.size() - in_left;
    step.written = out.size() - out_left;
    const bool empty = in_left == 0 && BrotliEncoderHasMoreOutput(state_) == BROTLI_FALSE;
    step.done = flush == Flush::kEnd ? BrotliEncoderIsFinished(state_) == BROTLI_TRUE : empty;
    return step;
  }

 private:
  bool begin(int level, uint64_t size) override {
    destroy();
    state_ = BrotliEncoderCreateInstance(&take_block, &give_back_block, &held_);
    if (state_ == nullptr) return false;
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, static_cast<uint32_t>(level));
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, kWindowBits);
    const auto hint = static_cast<uint32_t>(std::min<uint64_t>(size, uint32_t{1} << 30));
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_SIZE_HINT, hint);
    return true;
  }
  size_t memory() const override {
    return std::max(held_, kMemoryExpected[static_cast<unsigned>(Coding::kBrotli)]);
  }
  void end() override { destroy(); }
  void destroy() {
    if (state_ != nullptr) BrotliEncoderDestroyInstance(std::exchange(state_, nullptr));
  }

  size_t held_ = 0;
  BrotliEncoderState* state_ = nullptr;
};

// ---- zstd ---------------------------------------------------------------------------------------

class ZstdEncoder final : public Encoder {
 public:
  ZstdEncoder() : Encoder(Coding::kZstd), context_(ZSTD_createCCtx()) {}
  ~ZstdEncoder() override { ZSTD_freeCCtx(context_); }

  Step encode(std::string_view in, Flush flush, std::span<char> out) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const ZSTD_EndDirective directive = flush == Flush::kNone    ? ZSTD_e_continue
                                        : flush == Flush::kPiece ? ZSTD_e_flush
                                                                 : ZSTD_e_end;
    const size_t left = ZSTD_compressStream2(context_, &to, &from, directive);
    Step step;
    step.failed = ZSTD_isError(left) != 0;
    step.consumed = from.pos;
    step.written = to.pos;
    // Without a flush `left` may stand for bytes that are held back.
    step.done = !step.failed && from.pos == from.size &&
                (flush == Flush::kNone ? to.pos < to.size : left == 0);
    return step;
  }

 private:
  bool begin(int level, uint64_t size) override {
    if (context_ == nullptr) return false;
    ZSTD_CCtx_reset(context_, ZSTD_reset_session_and_parameters);
    // With the size known the tables are no larger than it wants.
    return ZSTD_isError(ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level)) == 0 &&
           ZSTD_isError(ZSTD_CCtx_setParameter(context_, ZSTD_c_windowLog, kWindowBits)) == 0 &&
           (size == 0 || ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context_, size)) == 0);
  }
  size_t memory() const override {
    return std::max(ZSTD_sizeof_CCtx(context_),
                    kMemoryExpected[static_cast<unsigned>(Coding::kZstd)]);
  }
  void end() override {}

  ZSTD_CCtx* context_;
};

// ---- Lending ------------------------------------------------------------------------------------

struct Lender {
  Encoder* free[kCodings];
  uint32_t kept[kCodings];
  size_t lent;
};
thread_local constinit Lender lender{};

std::unique_ptr<Encoder> make_encoder(Coding coding) {
  switch (coding) {
    case Coding::kGzip:
      return std::make_unique<GzipEncoder>();
    case Coding::kBrotli:
      return std::make_unique<BrotliEncoder>();
    case Coding::kZstd:
      break;
  }
  return std::make_unique<ZstdEncoder>();
}

}  // namespace

BorrowedEncoder borrow_encoder(Coding coding, int level, uint64_t size) {
  const auto which = static_cast<unsigned>(coding);
  if (lender.lent + kMemoryExpected[which] > kEncoderMemoryMax) return nullptr;
  std::unique_ptr<Encoder> encoder;
  if (lender.free[which] != nullptr) {
    encoder.reset(lender.free[which]);
    lender.free[which] = std::exchange(encoder->next_free_, nullptr);
    --lender.kept[which];
  } else {
    encoder = make_encoder(coding);
  }
  if (!encoder->begin(level, size)) return nullptr;
  encoder->counted_ = encoder->memory();
  lender.lent += encoder->counted_;
  return BorrowedEncoder(encoder.release());
}

void EncoderReturn::operator()(Encoder* encoder) const {
  lender.lent -= encoder->counted_;
  encoder->end();
  const auto which = static_cast<unsigned>(encoder->coding());
  if (lender.kept[which] >= kEncodersKept) {
    delete encoder;
    return;
  }
  encoder->next_free_ = lender.free[which];
  lender.free[which] = encoder;
  ++lender.kept[which];
}

size_t encoder_memory_lent() {
  return lender.lent;
}

}  // namespace gatehouse
