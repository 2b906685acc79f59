// Host names and ports; see the header for what is accepted.
#include "http/host.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/format.h"
#include "http/chars.h"

namespace gatehouse {
namespace {

constexpr size_t kNameMax = 253;  // RFC 1035 §2.3.4, without the trailing dot
constexpr size_t kLabelMax = 63;
constexpr size_t kPortDigits = 5;

enum HostByte : uint8_t { kNoName, kLabel, kUpper, kDot };

constexpr std::array<uint8_t, 256> make_host_bytes() {
  std::array<uint8_t, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    if (chars::is(static_cast<char>(c), chars::kPlain)) table[c] = kLabel;
    if (c >= 'A' && c <= 'Z') table[c] = kUpper;
  }
  table['_'] = kLabel;
  table['.'] = kDot;
  return table;
}

constexpr std::array<uint8_t, 256> kHostBytes = make_host_bytes();

// ":port", ":" or nothing. `plain` becomes false where the digits are not the usual ones.
bool parse_port(std::string_view text, uint16_t& port, bool& plain) {
  port = 0;
  if (text.empty()) return true;
  if (text.front() != ':') return false;
  text.remove_prefix(1);
  if (text.empty()) {
    plain = false;
    return true;
  }
  if (text.size() > kPortDigits) return false;
  unsigned value = 0;
  for (const char c : text) {
    if (!chars::is(c, chars::kDigit)) return false;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  if (value == 0 || value > 65535) return false;
  if (text.front() == '0') plain = false;
  port = static_cast<uint16_t>(value);
  return true;
}

// Writes `host` in lower case and the port into the arena.
void rewrite(std::string_view host, uint16_t port, std::pmr::memory_resource& arena,
             Authority& out) {
  const size_t room = host.size() + 1 + kPortDigits;
  char* const text = static_cast<char*>(arena.allocate(room, 1));
  char* end = std::transform(host.begin(), host.end(), text, chars::lower);
  if (port != 0) end = fmt::format_to(end, ":{}", port);
  out.host = {text, host.size()};
  out.text = {text, static_cast<size_t>(end - text)};
}

bool parse_bracketed(std::string_view raw, std::pmr::memory_resource& arena, Authority& out) {
  const size_t close = raw.find(']');
  if (close == std::string_view::npos) return false;
  const std::string_view inner = raw.substr(1, close - 1);
  char text[INET6_ADDRSTRLEN + 2];
  if (inner.empty() || inner.size() >= INET6_ADDRSTRLEN) return false;
  std::memcpy(text, inner.data(), inner.size());
  text[inner.size()] = '\0';
  if (std::strlen(text) != inner.size()) return false;
  in6_addr address;
  if (inet_pton(AF_INET6, text, &address) != 1) return false;
  if (inet_ntop(AF_INET6, &address, text + 1, INET6_ADDRSTRLEN) == nullptr) return false;
  text[0] = '[';
  size_t size = std::strlen(text);
  text[size++] = ']';
  const std::string_view canonical(text, size);

  bool plain = true;
  if (!parse_port(raw.substr(close + 1), out.port, plain)) return false;
  if (plain && canonical == raw.substr(0, close + 1)) {
    out.host = raw.substr(0, close + 1);
    out.text = raw;
  } else {
    rewrite(canonical, out.port, arena, out);
  }
  return true;
}

}  // namespace

bool parse_authority(std::string_view raw, std::pmr::memory_resource& arena, Authority& out) {
  if (raw.empty()) return false;
  if (raw.front() == '[') return parse_bracketed(raw, arena, out);

  bool plain = true;
  size_t end = 0;
  size_t label = 0;  // where the present one begins
  for (; end < raw.size(); ++end) {
    const uint8_t byte = kHostBytes[static_cast<unsigned char>(raw[end])];
    if (byte == kLabel) [[likely]]
      continue;
    if (byte == kNoName) break;
    if (byte == kUpper) {
      plain = false;
      continue;
    }
    if (end == label || end - label > kLabelMax) return false;
    label = end + 1;
  }
  if (end - label > kLabelMax) return false;
  std::string_view host = raw.substr(0, end);
  if (host.empty()) return false;
  if (host.back() == '.') {
    host.remove_suffix(1);
    plain = false;
  }
  if (host.size() > kNameMax) return false;
  if (!parse_port(raw.substr(end), out.port, plain)) return false;
  if (plain) {
    out.host = host;
    out.text = raw;
  } else {
    rewrite(host, out.port, arena, out);
  }
  return true;
}

}  // namespace gatehouse
