// What each byte may be in a message: one table of classes, and the scans that every parser needs.
//
// The scans look at 16 bytes at a time with SSE2, which every x86-64 has, and byte by byte
// elsewhere and at the end of the input. They never read beyond `end`.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace gatehouse::chars {

enum Class : uint8_t {
  kToken = 1,    // tchar (RFC 9110 §5.6.2)
  kPlain = 2,    // letter, digit or '-': in a name, what everybody reads the same way
  kValue = 4,    // field-vchar, SP, HTAB: may stand in a field value
  kDigit = 8,    // 0-9
  kHex = 16,     // 0-9 A-F a-f
  kTarget = 32,  // 0x21-0x7E: may stand in a request target, before it is looked at closely
};

constexpr bool is_alpha(unsigned c) {
  return (c | 0x20U) - 'a' < 26;
}

constexpr std::array<uint8_t, 256> make_table() {
  std::array<uint8_t, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    unsigned bits = 0;
    const bool digit = c >= '0' && c <= '9';
    const bool plain = digit || is_alpha(c) || c == '-';
    if (plain) bits |= kPlain | kToken;
    for (const char other : std::string_view("!#$%&'*+.^_`|~")) {
      if (c == static_cast<unsigned char>(other)) bits |= kToken;
    }
    if ((c >= 0x20 && c != 0x7F) || c == '\t') bits |= kValue;
    if (digit) bits |= kDigit | kHex;
    if ((c | 0x20U) >= 'a' && (c | 0x20U) <= 'f') bits |= kHex;
    if (c > 0x20 && c < 0x7F) bits |= kTarget;
    table[c] = static_cast<uint8_t>(bits);
  }
  return table;
}

inline constexpr std::array<uint8_t, 256> kTable = make_table();

constexpr uint8_t classes(char c) {
  return kTable[static_cast<unsigned char>(c)];
}
constexpr bool is(char c, Class wanted) {
  return (classes(c) & wanted) != 0;
}

constexpr bool all_of(std::string_view text, Class wanted) {
  for (const char c : text) {
    if (!is(c, wanted)) return false;
  }
  return true;
}

constexpr bool is_token(std::string_view text) {
  return !text.empty() && all_of(text, kToken);
}

// ASCII only; every other byte is returned as it is.
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// 0 to 15. REQUIRES: is(c, kHex).
constexpr unsigned hex_value(char c) {
  return c <= '9' ? static_cast<unsigned>(c - '0') : static_cast<unsigned>((c | 0x20) - 'a') + 10;
}

// Without SP and HTAB at both ends.
constexpr std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The first byte that may not stand in a field value (CR and LF among them), or `end`.
inline const char* scan_value(const char* p, const char* end) {
#if defined(__SSE2__)
  const __m128i last_control = _mm_set1_epi8(0x1F);
  const __m128i tab = _mm_set1_epi8('\t');
  const __m128i del = _mm_set1_epi8(0x7F);
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, last_control), v);
    const __m128i bad =
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control), _mm_cmpeq_epi8(v, del));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(bad));
    if (mask != 0) return p + std::countr_zero(mask);
  }
#endif
  while (p != end && is(*p, kValue)) ++p;
  return p;
}

// The first byte that is not 0x21 to 0x7E, or `end`.
inline const char* scan_target(const char* p, const char* end) {
#if defined(__SSE2__)
  const __m128i space = _mm_set1_epi8(0x20);
  const __m128i del = _mm_set1_epi8(0x7F);
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    // Signed comparison: bytes from 0x80 on are negative, so they are not above the space.
    const __m128i good = _mm_and_si128(_mm_cmpgt_epi8(v, space), _mm_cmplt_epi8(v, del));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(good)) ^ 0xFFFFU;
    if (mask != 0) return p + std::countr_zero(mask);
  }
#endif
  while (p != end && is(*p, kTarget)) ++p;
  return p;
}

}  // namespace gatehouse::chars
