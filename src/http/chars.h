// What each byte may be in a message: one table of classes, and the scans that every parser needs.
//
// The scans look at 16 bytes at a time with SSE2, which every x86-64 has, then at 8, and byte by
// byte elsewhere and at the end of the input. They never read beyond `end`.
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

#if defined(__SSE2__)
// Of each class: 0xFF for the bytes that do not belong to it.
struct NoValue {
  static __m128i of(__m128i v) {
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1F)), v);
    return _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\t')), control),
                        _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7F)));
  }
};
struct NoTarget {
  static __m128i of(__m128i v) {
    // Signed comparison: bytes from 0x80 on are negative, so they are not above the space.
    const __m128i good = _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8(0x20)),
                                       _mm_cmplt_epi8(v, _mm_set1_epi8(0x7F)));
    return _mm_xor_si128(good, _mm_set1_epi8(-1));
  }
};
struct NoPlain {
  static __m128i of(__m128i v) {
    const __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
    const __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    const __m128i good =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('-')),
                     _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit),
                                  _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter)));
    return _mm_xor_si128(good, _mm_set1_epi8(-1));
  }
};
#else
struct NoValue {};
struct NoTarget {};
struct NoPlain {};
#endif

// The first byte that is not of the class, or `end`. `Outside` says the same as the table.
template <Class kWanted, typename Outside>
inline const char* scan(const char* p, const char* end) {
#if defined(__SSE2__)
  for (; end - p >= 16; p += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(Outside::of(v)));
    if (mask != 0) return p + std::countr_zero(mask);
  }
  if (end - p >= 8) {
    const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(Outside::of(v))) & 0xFFU;
    if (mask != 0) return p + std::countr_zero(mask);
    p += 8;
  }
#endif
  while (p != end && is(*p, kWanted)) ++p;
  return p;
}

// The first byte that may not stand in a field value (CR and LF among them), or `end`.
inline const char* scan_value(const char* p, const char* end) {
  return scan<kValue, NoValue>(p, end);
}

// The first byte that is not 0x21 to 0x7E, or `end`.
inline const char* scan_target(const char* p, const char* end) {
  return scan<kTarget, NoTarget>(p, end);
}

// The first byte that is no letter, digit or '-', or `end`: of a field name mostly the colon.
inline const char* scan_plain(const char* p, const char* end) {
  return scan<kPlain, NoPlain>(p, end);
}

}  // namespace gatehouse::chars
