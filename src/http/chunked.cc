// The chunked transfer coding, one byte of grammar at a time and data in whole pieces.
#include "http/chunked.h"

#include <algorithm>
#include <limits>

#include "http/body_framing.h"
#include "http/chars.h"

namespace gatehouse {
namespace {

constexpr uint8_t kDigitsMax = 16;

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

}  // namespace

void ChunkedDecoder::reset() {
  left_ = 0;
  overhead_ = 0;
  extension_size_ = 0;
  state_ = State::kSize;
  digits_ = 0;
  reason_ = Reason::kNone;
  trailer_.reset();
}

ChunkedDecoder::Step ChunkedDecoder::refuse(Reason reason) {
  state_ = State::kRefused;
  reason_ = reason;
  return {Status::kRefused, 0, {}};
}

ChunkedDecoder::Step ChunkedDecoder::next(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    switch (state_) {
      case State::kSize:
      case State::kExtension:
        if (!size_line_byte(c)) return refuse(Reason::kBadChunk);
        break;
      case State::kSizeLf:
        if (c != '\n') return refuse(Reason::kBadChunk);
        state_ = left_ == 0 ? State::kTrailer : State::kData;
        break;
      case State::kData: {
        const auto size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - i));
        left_ -= size;
        overhead_ -= std::min(overhead_, size * 2);
        if (left_ == 0) state_ = State::kDataCr;
        return {Status::kData, i + size, bytes.substr(i, size)};
      }
      case State::kDataCr:
        if (c != '\r') return refuse(Reason::kBadChunk);
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        if (c != '\n') return refuse(Reason::kBadChunk);
        state_ = State::kSize;
        break;
      case State::kTrailer:
        if (c != '\r' || trailer_ != nullptr) return trailer(bytes, i);
        state_ = State::kEndLf;
        break;
      case State::kEndLf:
        if (c != '\n') return refuse(Reason::kBadChunk);
        state_ = State::kDone;
        return {Status::kDone, i + 1, {}};
      case State::kDone:
        return {Status::kDone, i, {}};
      case State::kRefused:
        return {Status::kRefused, i, {}};
    }
  }
  const Status status = state_ == State::kDone      ? Status::kDone
                        : state_ == State::kRefused ? Status::kRefused
                                                    : Status::kNeedMore;
  return {status, bytes.size(), {}};
}

// A byte of "chunk-size [ chunk-ext ] CR"; false where it breaks the grammar or a limit.
bool ChunkedDecoder::size_line_byte(char c) {
  if (state_ == State::kSize) {
    if (chars::is(c, chars::kHex)) {
      if (digits_ == kDigitsMax) return false;
      if (digits_++ == 0) left_ = 0;
      left_ = left_ << 4 | chars::hex_value(c);
      return true;
    }
    if (digits_ == 0) return false;
    if (c != '\r') {
      state_ = State::kExtension;
      extension_ = Extension::kBeforeSemicolon;
    }
  }
  if (state_ == State::kExtension) {
    const bool may_end = extension_ == Extension::kName || extension_ == Extension::kToken ||
                         extension_ == Extension::kAfterQuoted;
    if (c != '\r' || !may_end)
      return ++extension_size_ <= limits_.extension_max && extension_byte(c);
  }
  // Signed sizes are common in other programs: one bit less than the field could hold.
  if (left_ > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  overhead_ += extension_size_;
  extension_size_ = 0;
  digits_ = 0;
  state_ = State::kSizeLf;
  return overhead_ <= limits_.overhead_max;
}

// chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), RFC 9112 §7.1.1
bool ChunkedDecoder::extension_byte(char c) {
  const bool token = chars::is(c, chars::kToken);
  switch (extension_) {
    case Extension::kBeforeSemicolon:
      if (c == ';') extension_ = Extension::kBeforeName;
      return c == ';' || is_space(c);
    case Extension::kBeforeName:
      if (token) extension_ = Extension::kName;
      return token || is_space(c);
    case Extension::kName:
    case Extension::kAfterName:
      if (token) return extension_ == Extension::kName;
      if (c == ';') extension_ = Extension::kBeforeName;
      if (c == '=') extension_ = Extension::kBeforeValue;
      if (is_space(c)) extension_ = Extension::kAfterName;
      return c == ';' || c == '=' || is_space(c);
    case Extension::kBeforeValue:
      if (token) extension_ = Extension::kToken;
      if (c == '"') extension_ = Extension::kQuoted;
      return token || c == '"' || is_space(c);
    case Extension::kQuoted:
      if (c == '"') extension_ = Extension::kAfterQuoted;
      if (c == '\\') extension_ = Extension::kQuotedPair;
      return chars::is(c, chars::kValue);
    case Extension::kQuotedPair:
      extension_ = Extension::kQuoted;
      return chars::is(c, chars::kValue);
    case Extension::kToken:
      if (token) return true;
      [[fallthrough]];
    case Extension::kAfterQuoted:
      if (c == ';') extension_ = Extension::kBeforeName;
      if (is_space(c)) extension_ = Extension::kBeforeSemicolon;
      return c == ';' || is_space(c);
  }
  return false;
}

// The trailer section is collected, for its fields must outlive the bytes that came.
ChunkedDecoder::Step ChunkedDecoder::trailer(std::string_view bytes, size_t at) {
  if (trailer_ == nullptr) {
    trailer_ = std::make_unique<Trailer>();
    trailer_->section.reset(0);
  }
  Trailer& section = *trailer_;
  const size_t before = section.bytes.size();
  section.bytes += bytes.substr(at, limits_.trailer_max - before);
  const ParseStatus status =
      section.section.parse(section.bytes, limits_.trailer_fields_max, section.fields);
  if (status == ParseStatus::kComplete) {
    for (Field& field : section.fields) {
      if (!trailer_allowed(field)) field.dropped = true;
    }
    state_ = State::kDone;
    return {Status::kDone, at + section.section.end() - before, {}};
  }
  if (status == ParseStatus::kRefused) {
    const Reason reason = section.section.reason();
    const bool too_large = reason == Reason::kTooManyFields || reason == Reason::kHeadTooLarge;
    return refuse(too_large ? Reason::kBadTrailer : reason);
  }
  if (section.bytes.size() >= limits_.trailer_max) return refuse(Reason::kBadTrailer);
  return {Status::kNeedMore, bytes.size(), {}};
}

size_t write_chunk_header(char (&out)[kChunkHeaderMax], uint64_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  size_t digits = 1;
  while (digits < kDigitsMax && size >> (4 * digits) != 0) ++digits;
  for (size_t i = digits; i-- > 0; size >>= 4) out[i] = kDigits[size & 15];
  out[digits] = '\r';
  out[digits + 1] = '\n';
  return digits + 2;
}

}  // namespace gatehouse
