// What the load client and its upstream need of RFC 6455: the accept key and short frames.
//
// Written apart from src/ on purpose, like ../bench/net.h: what tests the gateway shares no code
// with it. Frames are final, unfragmented and at most 125 bytes, which is all these two send;
// anything else is reported as broken.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace gatehouse::load {

// FIPS 180-4, for the handshake alone.
inline std::array<uint8_t, 20> sha1(std::string_view text) {
  std::array<uint32_t, 5> h{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::string padded(text);
  padded += static_cast<char>(0x80);
  while (padded.size() % 64 != 56) padded += '\0';
  const uint64_t bits = uint64_t{text.size()} * 8;
  for (int shift = 56; shift >= 0; shift -= 8) padded += static_cast<char>(bits >> shift);
  for (size_t block = 0; block < padded.size(); block += 64) {
    std::array<uint32_t, 80> w{};
    for (size_t i = 0; i < 64; ++i) {
      w[i / 4] = w[i / 4] << 8 | static_cast<uint8_t>(padded[block + i]);
    }
    for (size_t i = 16; i < 80; ++i) {
      w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    auto [a, b, c, d, e] = h;
    for (size_t i = 0; i < 80; ++i) {
      uint32_t f = b ^ c ^ d;
      uint32_t k = 0xca62c1d6;
      if (i < 20) {
        f = (b & c) | (~b & d);
        k = 0x5a827999;
      } else if (i < 40) {
        k = 0x6ed9eba1;
      } else if (i < 60) {
        f = (b & c) | (b & d) | (c & d);
        k = 0x8f1bbcdc;
      }
      const uint32_t next = std::rotl(a, 5) + f + e + k + w[i];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    h = {h[0] + a, h[1] + b, h[2] + c, h[3] + d, h[4] + e};
  }
  std::array<uint8_t, 20> digest{};
  for (size_t i = 0; i < 20; ++i) {
    digest[i] = static_cast<uint8_t>(h[i / 4] >> (24 - 8 * (i % 4)));
  }
  return digest;
}

template <typename Octets>
std::string base64(const Octets& octets) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < octets.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = i; j < i + 3; ++j) group = group << 8 | (j < octets.size() ? octets[j] : 0u);
    for (size_t j = 0; j < 4; ++j) {
      text += i + j > octets.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
    }
  }
  return text;
}

// Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, 4.2.2).
inline std::string accept_key(std::string_view key) {
  return base64(sha1(std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
}

inline constexpr uint8_t kTextFrame = 1;
inline constexpr uint8_t kCloseFrame = 8;
inline constexpr size_t kFramePayloadMax = 125;

// A final frame; masked where it comes from a client. REQUIRES: at most kFramePayloadMax bytes.
inline std::string frame(uint8_t opcode, std::string_view payload, bool masked, uint32_t mask) {
  std::string bytes;
  bytes += static_cast<char>(0x80 | opcode);
  bytes += static_cast<char>((masked ? 0x80u : 0u) | payload.size());
  if (!masked) return bytes.append(payload);
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(mask >> (24 - 8 * i));
  for (size_t i = 0; i < payload.size(); ++i) {
    bytes += static_cast<char>(payload[i] ^ static_cast<char>(mask >> (24 - 8 * (i % 4))));
  }
  return bytes;
}

struct Frame {
  enum class Kind { kWhole, kPart, kBroken } kind = Kind::kPart;
  uint8_t opcode = 0;
  std::string payload;  // unmasked
  size_t size = 0;      // of the frame, in bytes of the stream
};

// Reads the frame at the beginning of `bytes`; one that is masked although it must not be, or the
// other way round, is broken (RFC 6455, 5.1).
inline Frame read_frame(std::string_view bytes, bool masked) {
  if (bytes.size() < 2) return {};
  const auto first = static_cast<uint8_t>(bytes[0]);
  const auto second = static_cast<uint8_t>(bytes[1]);
  const size_t length = second & 0x7f;
  const bool is_masked = (second & 0x80) != 0;
  if ((first & 0xf0) != 0x80 || length > kFramePayloadMax || is_masked != masked) {
    return {Frame::Kind::kBroken, 0, {}, 0};
  }
  const size_t head = masked ? 6 : 2;
  if (bytes.size() < head + length) return {};
  Frame found{Frame::Kind::kWhole, static_cast<uint8_t>(first & 0x0f),
              std::string(bytes.substr(head, length)), head + length};
  if (masked) {
    for (size_t i = 0; i < length; ++i) {
      found.payload[i] = static_cast<char>(found.payload[i] ^ bytes[2 + i % 4]);
    }
  }
  return found;
}

}  // namespace gatehouse::load
