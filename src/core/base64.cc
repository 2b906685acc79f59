// Base64; see base64.h.
#include "core/base64.h"

#include <array>

namespace gatehouse {

namespace {

constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr uint8_t kNone = 0xFF;
constexpr std::array<uint8_t, 256> kValues = [] {
  std::array<uint8_t, 256> values{};
  for (uint8_t& value : values) value = kNone;
  for (size_t i = 0; i < kLetters.size(); ++i) {
    values[static_cast<uint8_t>(kLetters[i])] = static_cast<uint8_t>(i);
  }
  return values;
}();

}  // namespace

void append_base64(std::string_view bytes, std::string& out) {
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t there = bytes.size() - at < 3 ? bytes.size() - at : 3;
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) {
      group = group << 8 | (i < there ? static_cast<uint8_t>(bytes[at + i]) : 0U);
    }
    for (size_t i = 0; i < 4; ++i) {
      out += i <= there ? kLetters[group >> (18 - 6 * i) & 0x3F] : '=';
    }
  }
}

bool Base64Decoder::decode(std::string_view text, std::string& out) {
  for (const char c : text) {
    if (failed_) return false;
    const uint8_t value = kValues[static_cast<uint8_t>(c)];
    if (value == kNone) {
      // At most two at the end of a group, and nothing behind them.
      failed_ = c != '=' || count_ < 2;
      ++padding_;
      bits_ <<= 6;
    } else {
      failed_ = padding_ != 0;
      bits_ = bits_ << 6 | value;
    }
    if (failed_) return false;
    if (++count_ < 4) continue;
    const uint32_t left_over = bits_ & ((uint32_t{1} << (8 * padding_)) - 1);
    if (left_over != 0) {
      failed_ = true;
      return false;
    }
    for (int shift = 16; shift >= 8 * padding_; shift -= 8) {
      out += static_cast<char>(bits_ >> shift & 0xFF);
    }
    bits_ = 0;
    count_ = padding_ = 0;
  }
  return !failed_;
}

}  // namespace gatehouse
