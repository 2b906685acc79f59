// Addresses: parsing, comparing, printing. The contract is in sockets.h.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/sockets.h"

namespace gatehouse {
namespace {

constexpr size_t kPathMax = sizeof(sockaddr_un{}.sun_path) - 1;
constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
constexpr uint8_t kMappedHead[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// A decimal number without sign or leading zeros, at most `max`.
std::optional<uint32_t> parse_number(std::string_view text, uint32_t max) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  uint32_t number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size() || number > max) {
    return std::nullopt;
  }
  return number;
}

Error not_an_address(std::string_view text, std::string_view expected) {
  return Error{fmt::format("'{}' is not an address: expected {}", text, expected)};
}

}  // namespace

// ---- IpAddress ----------------------------------------------------------------------------------

IpAddress IpAddress::v4(uint32_t host_order) {
  uint32_t bytes = htonl(host_order);
  IpAddress address;
  address.family_ = 4;
  std::memcpy(address.bytes_.data(), &bytes, sizeof bytes);
  return address;
}

IpAddress IpAddress::from_bytes(std::span<const uint8_t, 4> bytes) {
  IpAddress address;
  address.family_ = 4;
  std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
  return address;
}

IpAddress IpAddress::from_bytes(std::span<const uint8_t, 16> bytes) {
  if (std::equal(std::begin(kMappedHead), std::end(kMappedHead), bytes.begin())) {
    return from_bytes(bytes.last<4>());
  }
  IpAddress address;
  address.family_ = 6;
  std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  char terminated[kTextMax];
  if (text.empty() || text.size() >= sizeof terminated) return std::nullopt;
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  std::memcpy(terminated, text.data(), text.size());
  terminated[text.size()] = '\0';
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET, terminated, bytes.data()) == 1) {
    return from_bytes(std::span(bytes).first<4>());
  }
  if (inet_pton(AF_INET6, terminated, bytes.data()) == 1) {
    return from_bytes(std::span<const uint8_t, 16>(bytes));
  }
  return std::nullopt;
}

std::string_view IpAddress::write(std::span<char, kTextMax> buffer) const {
  if (is_none()) return {};
  if (is_v4()) {
    // By hand, because inet_ntop goes through printf, and each request writes an address.
    char* end = buffer.data();
    for (size_t i = 0; i < 4; ++i) {
      if (i != 0) *end++ = '.';
      end = std::to_chars(end, end + 3, bytes_[i]).ptr;
    }
    return {buffer.data(), static_cast<size_t>(end - buffer.data())};
  }
  // Cannot fail: the family is known and the buffer holds the longest text.
  if (inet_ntop(AF_INET6, bytes_.data(), buffer.data(), buffer.size()) == nullptr) return {};
  return {buffer.data()};
}

std::string IpAddress::format() const {
  std::array<char, kTextMax> buffer;
  return std::string(write(buffer));
}

// ---- NetworkPrefix ------------------------------------------------------------------------------

Result<NetworkPrefix> NetworkPrefix::parse(std::string_view text) {
  constexpr std::string_view kExpected = "a network such as 10.0.0.0/8 or 2001:db8::/32";
  size_t slash = text.find('/');
  std::string_view host = text.substr(0, slash);
  std::optional<IpAddress> base = IpAddress::parse(host);
  if (!base) return Error{fmt::format("'{}' is not a network: expected {}", text, kExpected)};
  NetworkPrefix prefix;
  prefix.base_ = *base;
  uint32_t bits_max = base->is_v4() ? 32 : 128;
  // Written as IPv6 but standing for IPv4: its length counts from the IPv6 form's first bit.
  bool mapped = base->is_v4() && host.find(':') != std::string_view::npos;
  uint32_t bits = mapped ? 128 : bits_max;
  if (slash != std::string_view::npos) {
    std::optional<uint32_t> number = parse_number(text.substr(slash + 1), mapped ? 128 : bits_max);
    if (!number) {
      return Error{fmt::format("'{}': the prefix length must be between 0 and {}", text, bits_max)};
    }
    bits = *number;
  }
  if (mapped && bits < 96) {
    return Error{fmt::format("'{}' covers more than the IPv4-mapped addresses", text)};
  }
  if (mapped) bits -= 96;
  prefix.bits_ = static_cast<uint8_t>(bits);
  std::span<const uint8_t> bytes = base->bytes();
  for (size_t bit = bits; bit < bytes.size() * 8; ++bit) {
    if ((bytes[bit / 8] & (0x80U >> (bit % 8))) != 0) {
      return Error{fmt::format("'{}' has bits set beyond its first {}", text, bits)};
    }
  }
  return prefix;
}

bool NetworkPrefix::contains(const IpAddress& address) const {
  std::span<const uint8_t> ours = base_.bytes();
  std::span<const uint8_t> theirs = address.bytes();
  if (ours.empty() || ours.size() != theirs.size()) return false;
  size_t whole = bits_ / 8U;
  if (std::memcmp(ours.data(), theirs.data(), whole) != 0) return false;
  unsigned rest = bits_ % 8U;
  return rest == 0 || ((ours[whole] ^ theirs[whole]) >> (8U - rest)) == 0;
}

std::string NetworkPrefix::format() const {
  return fmt::format("{}/{}", base_.format(), bits_);
}

// ---- SocketAddress ------------------------------------------------------------------------------

Result<SocketAddress> SocketAddress::parse(std::string_view text,
                                           std::optional<uint16_t> default_port) {
  constexpr std::string_view kExpected = "127.0.0.1:80, [::1]:80, *:80 or unix:/path";
  if (text.starts_with("unix:")) {
    std::string_view path = text.substr(5);
    if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) {
      return not_an_address(text, "an absolute path after 'unix:'");
    }
    if (path.size() > kPathMax) {
      return Error{
          fmt::format("'{}': the path of a unix socket has at most {} bytes", text, kPathMax)};
    }
    SocketAddress address;
    address.storage_.local.sun_family = AF_UNIX;
    std::memcpy(address.storage_.local.sun_path, path.data(), path.size());
    address.size_ = static_cast<socklen_t>(kPathOffset + path.size() + 1);
    return address;
  }

  std::string_view host = text;
  std::string_view rest;
  bool bracketed = text.starts_with('[');
  if (bracketed) {
    size_t close = text.find(']');
    if (close == std::string_view::npos) return not_an_address(text, kExpected);
    host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else if (size_t colon = text.find(':'); colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos) {
      return not_an_address(text, "an IPv6 address in brackets, such as [::1]:80");
    }
    host = text.substr(0, colon);
    rest = text.substr(colon);
  }

  std::optional<uint32_t> port;
  if (rest.starts_with(':')) port = parse_number(rest.substr(1), 65535);
  if (!rest.empty() && !port) {
    return Error{fmt::format("'{}': the port must be a number between 0 and 65535", text)};
  }
  if (!port && !default_port) {
    return Error{fmt::format("'{}' lacks a port: expected {}", text, kExpected)};
  }

  std::optional<IpAddress> address;
  if (host == "*" && !bracketed) {
    address = IpAddress::v4(INADDR_ANY);
  } else if (bracketed == (host.find(':') != std::string_view::npos)) {
    address = IpAddress::parse(host);
  }
  if (!address) return not_an_address(text, fmt::format("{} (names are not looked up)", kExpected));
  return ip(*address, static_cast<uint16_t>(port ? *port : *default_port));
}

SocketAddress SocketAddress::ip(const IpAddress& address, uint16_t port) {
  SocketAddress result;
  std::span<const uint8_t> bytes = address.bytes();
  if (address.is_v4()) {
    result.storage_.v4.sin_family = AF_INET;
    result.storage_.v4.sin_port = htons(port);
    std::memcpy(&result.storage_.v4.sin_addr, bytes.data(), bytes.size());
    result.size_ = sizeof(sockaddr_in);
  } else if (address.is_v6()) {
    result.storage_.v6.sin6_family = AF_INET6;
    result.storage_.v6.sin6_port = htons(port);
    std::memcpy(&result.storage_.v6.sin6_addr, bytes.data(), bytes.size());
    result.size_ = sizeof(sockaddr_in6);
  }
  return result;
}

SocketAddress SocketAddress::from_kernel(const sockaddr* address, socklen_t size) {
  SocketAddress result;
  if (size < sizeof(sa_family_t)) return result;
  if (address->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof v4);
    return ip(IpAddress::v4(ntohl(v4.sin_addr.s_addr)), ntohs(v4.sin_port));
  }
  if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof v6);
    result = ip(IpAddress::from_bytes(std::span<const uint8_t, 16>(v6.sin6_addr.s6_addr)),
                ntohs(v6.sin6_port));
    // A link-local peer cannot be answered without its interface.
    if (result.family() == AF_INET6) result.storage_.v6.sin6_scope_id = v6.sin6_scope_id;
    return result;
  }
  if (address->sa_family == AF_UNIX) {
    result.storage_.local.sun_family = AF_UNIX;
    size_t given = std::min(static_cast<size_t>(size), sizeof(sockaddr_un) - 1);
    if (given <= kPathOffset) return result;  // an unnamed peer
    const char* path = reinterpret_cast<const char*>(address) + kPathOffset;
    size_t length = strnlen(path, given - kPathOffset);
    if (length == 0) return result;  // an abstract name, which gatehouse does not use
    std::memcpy(result.storage_.local.sun_path, path, length);
    result.size_ = static_cast<socklen_t>(kPathOffset + length + 1);
  }
  return result;
}

IpAddress SocketAddress::ip() const {
  if (family() == AF_INET) return IpAddress::v4(ntohl(storage_.v4.sin_addr.s_addr));
  if (family() != AF_INET6) return {};
  return IpAddress::from_bytes(std::span<const uint8_t, 16>(storage_.v6.sin6_addr.s6_addr));
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(storage_.v4.sin_port);
  if (family() == AF_INET6) return ntohs(storage_.v6.sin6_port);
  return 0;
}

void SocketAddress::set_port(uint16_t port) {
  if (family() == AF_INET) storage_.v4.sin_port = htons(port);
  if (family() == AF_INET6) storage_.v6.sin6_port = htons(port);
}

std::string_view SocketAddress::path() const {
  if (!is_unix()) return {};
  return {storage_.local.sun_path};
}

std::string SocketAddress::format() const {
  if (is_unix()) return fmt::format("unix:{}", path());
  if (family() == AF_INET) return fmt::format("{}:{}", ip().format(), port());
  if (family() == AF_INET6) return fmt::format("[{}]:{}", ip().format(), port());
  return "none";
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  return a <=> b == std::strong_ordering::equal;
}

std::strong_ordering operator<=>(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family()) return a.family() <=> b.family();
  // Bytes that no member uses are zero from construction, so whole structures compare.
  size_t common = std::min(a.size_, b.size_);
  int order = std::memcmp(&a.storage_, &b.storage_, common);
  if (order != 0) return order <=> 0;
  return a.size_ <=> b.size_;
}

}  // namespace gatehouse
