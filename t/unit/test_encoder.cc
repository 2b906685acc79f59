// Encoders: any sizes of pieces give what was put in, flushed pieces can be read at once, and no
// more memory is lent than there is. (brotli's decoder is not linked: t/e2e/test_compression.py.)
#include "core/encoder.h"

#include <criterion/criterion.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace gatehouse;

std::string text_of(size_t size) {
  std::string text;
  unsigned state = 1;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += "word" + std::to_string(state >> 24) + ((state & 7) == 0 ? "\n" : " ");
  }
  text.resize(size);
  return text;
}

// What can be decoded of the bytes, whether they have an end or not.
std::string decoded(Coding coding, const std::string& bytes) {
  std::string plain(1 << 21, '\0');
  if (coding == Coding::kGzip) {
    z_stream stream{};
    cr_assert(inflateInit2(&stream, 15 + 16) == Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(plain.data());
    stream.avail_out = static_cast<uInt>(plain.size());
    const int result = inflate(&stream, Z_SYNC_FLUSH);
    cr_assert(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
    plain.resize(stream.total_out);
    inflateEnd(&stream);
    return plain;
  }
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  ZSTD_outBuffer out{plain.data(), plain.size(), 0};
  const size_t left = ZSTD_decompressStream(context, &out, &in);
  cr_assert_not(ZSTD_isError(left));
  ZSTD_freeDCtx(context);
  plain.resize(out.pos);
  return plain;
}

std::string encode(Encoder& encoder, std::string_view text, size_t piece, size_t room,
                   Encoder::Flush each) {
  std::string all;
  std::vector<char> out(room);
  for (bool last = false; !last;) {
    std::string_view part = text.substr(0, piece);
    text.remove_prefix(part.size());
    last = text.empty();
    Encoder::Step step;
    do {
      step = encoder.encode(part, last ? Encoder::Flush::kEnd : each, out);
      cr_assert_not(step.failed);
      cr_assert(step.written <= room && step.consumed <= part.size());
      part.remove_prefix(step.consumed);
      all.append(out.data(), step.written);
    } while (!step.done);
    cr_assert(part.empty());
  }
  return all;
}

constexpr Coding kDecodable[] = {Coding::kGzip, Coding::kZstd};

}  // namespace

Test(encoder, any_pieces_and_any_room_give_the_same_text) {
  const std::string text = text_of(100'000);
  for (const Coding coding : kDecodable) {
    for (const size_t piece : {size_t{1000}, size_t{16384}, text.size()}) {
      for (const size_t room : {size_t{7}, size_t{512}, size_t{200'000}}) {
        for (const auto each : {Encoder::Flush::kNone, Encoder::Flush::kPiece}) {
          const BorrowedEncoder encoder = borrow_encoder(coding, 1, 0);
          cr_assert(encoder != nullptr);
          const std::string bytes = encode(*encoder, text, piece, room, each);
          cr_expect(decoded(coding, bytes) == text, "%u %zu %zu", unsigned(coding), piece, room);
        }
      }
    }
  }
  cr_expect_eq(encoder_memory_lent(), 0);
}

Test(encoder, all_levels_work_one_after_the_other) {
  const std::string text = text_of(20'000);
  for (const Coding coding : kDecodable) {
    const LevelRange range = kEncoderLevels[static_cast<unsigned>(coding)];
    for (int level = range.low; level <= range.high; ++level) {
      const BorrowedEncoder encoder = borrow_encoder(coding, level, text.size());
      cr_assert(encoder != nullptr);
      const std::string bytes = encode(*encoder, text, 4096, 1024, Encoder::Flush::kNone);
      cr_expect(decoded(coding, bytes) == text);
      cr_expect(bytes.size() < text.size() / 2);
    }
  }
}

Test(encoder, a_flushed_piece_can_be_read) {
  for (const Coding coding : {Coding::kGzip, Coding::kBrotli, Coding::kZstd}) {
    const BorrowedEncoder encoder = borrow_encoder(coding, 1, 0);
    std::string bytes;
    std::string text;
    for (int i = 0; i < 20; ++i) {
      const std::string piece = "data: " + std::to_string(i) + "\n\n";
      std::vector<char> out(1000);
      const Encoder::Step step = encoder->encode(piece, Encoder::Flush::kPiece, out);
      cr_assert(step.done && step.written > 0);
      bytes.append(out.data(), step.written);
      text += piece;
      if (coding != Coding::kBrotli) cr_assert(decoded(coding, bytes) == text);
    }
  }
}

Test(encoder, one_that_was_left_in_the_middle_begins_anew) {
  const std::string text = text_of(10'000);
  for (const Coding coding : kDecodable) {
    {
      const BorrowedEncoder encoder = borrow_encoder(coding, 1, 0);
      std::vector<char> out(100);
      encoder->encode(text, Encoder::Flush::kEnd, out);
    }
    const BorrowedEncoder encoder = borrow_encoder(coding, 1, 0);
    const std::string bytes = encode(*encoder, text, 777, 100, Encoder::Flush::kNone);
    cr_expect(decoded(coding, bytes) == text);
  }
}

Test(encoder, an_empty_body_has_an_end) {
  for (const Coding coding : kDecodable) {
    const BorrowedEncoder encoder = borrow_encoder(coding, 1, 0);
    const std::string bytes = encode(*encoder, "", 1, 100, Encoder::Flush::kNone);
    cr_expect(!bytes.empty());
    cr_expect(decoded(coding, bytes).empty());
  }
}

Test(encoder, memory_is_bounded_and_given_back) {
  for (const Coding coding : {Coding::kGzip, Coding::kBrotli, Coding::kZstd}) {
    std::vector<BorrowedEncoder> lent;
    for (BorrowedEncoder one = borrow_encoder(coding, 1, 0); one != nullptr;
         one = borrow_encoder(coding, 1, 0)) {
      lent.push_back(std::move(one));
      cr_assert(lent.size() < 1000, "there is no end");
    }
    cr_expect(lent.size() >= 30, "only %zu", lent.size());
    cr_expect(encoder_memory_lent() <= kEncoderMemoryMax);
    lent.pop_back();
    cr_expect(borrow_encoder(coding, 1, 0) != nullptr);
    lent.clear();
    cr_expect_eq(encoder_memory_lent(), 0);
  }
}
