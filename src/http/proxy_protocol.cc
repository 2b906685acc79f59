// Reading and writing PROXY headers; see proxy_protocol.h.
#include "http/proxy_protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>

namespace gatehouse {

namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr std::string_view kLineStart = "PROXY ";
constexpr size_t kFixedPart = 16;  // signature, version and command, family, length
constexpr size_t kUniqueIdMax = 128;
// The longest text that format_proxy_header() puts into one TLV.
constexpr size_t kTextMax = 1024;

enum Type : uint8_t {
  kAlpn = 0x01,
  kAuthority = 0x02,
  kCrc32c = 0x03,
  kUniqueId = 0x05,
  kSsl = 0x20,
  kSslVersion = 0x21,
  kSslCn = 0x22,
  kSslCipher = 0x23,
  kSslSigAlg = 0x24,
  kSslKeyAlg = 0x25,
};
enum ClientFlag : uint8_t { kClientSsl = 0x01, kCertConnection = 0x02, kCertSession = 0x04 };

ProxyParse refused(const char* problem) {
  return {ProxyStatus::kRefused, 0, problem};
}

ProxyParse incomplete(size_t more) {
  return {ProxyStatus::kIncomplete, more, nullptr};
}

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t rest = i;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? 0x82F63B78U : 0);
    table[i] = rest;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

uint8_t byte_at(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}

uint16_t number16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(byte_at(bytes, at) << 8 | byte_at(bytes, at + 1));
}

uint32_t number32(std::string_view bytes, size_t at) {
  return uint32_t{number16(bytes, at)} << 16 | number16(bytes, at + 2);
}

// ---- Version 1 ----------------------------------------------------------------------------------

std::optional<uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text.front() == '0')) return {};
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return port;
}

// The text up to the next single space, or all that is left; takes both away.
std::string_view take_until_space(std::string_view& text) {
  const size_t at = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return word;
}

ProxyParse parse_line(std::string_view bytes, ProxyHeader& out) {
  const size_t end = bytes.substr(0, kProxyLineMax).find("\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() >= kProxyLineMax) return refused("the line does not end");
    return incomplete(bytes.ends_with('\r') ? 1 : 2);
  }
  out.version = 1;
  const ProxyParse complete{ProxyStatus::kComplete, end + 2, nullptr};
  std::string_view line = bytes.substr(0, end);
  if (line.find('\n') != line.npos || line.find('\0') != line.npos) {
    return refused("the line holds a control character");
  }
  line.remove_prefix(kLineStart.size());
  if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return complete;
  const std::string_view family = take_until_space(line);
  const bool v6 = family == "TCP6";
  if (!v6 && family != "TCP4") return refused("the family is neither TCP4, TCP6 nor UNKNOWN");
  IpAddress addresses[2];
  for (IpAddress& address : addresses) {
    const std::string_view text = take_until_space(line);
    const std::optional<IpAddress> parsed = IpAddress::parse(text);
    if (!parsed || (text.find(':') != text.npos) != v6) return refused("an address is malformed");
    address = *parsed;
  }
  const std::optional<uint16_t> source_port = parse_port(take_until_space(line));
  const std::optional<uint16_t> destination_port = parse_port(line);
  if (!source_port || !destination_port) return refused("a port is malformed");
  out.source = SocketAddress::ip(addresses[0], *source_port);
  out.destination = SocketAddress::ip(addresses[1], *destination_port);
  return complete;
}

// ---- Version 2 ----------------------------------------------------------------------------------

// Takes one TLV from the front. False where the rest is none.
bool take_tlv(std::string_view& rest, uint8_t& type, std::string_view& value) {
  if (rest.size() < 3) return false;
  const size_t length = number16(rest, 1);
  if (rest.size() - 3 < length) return false;
  type = byte_at(rest, 0);
  value = rest.substr(3, length);
  rest.remove_prefix(3 + length);
  return true;
}

bool parse_ssl(std::string_view value, ProxyTls& out) {
  if (value.size() < 5) return false;
  const uint8_t client = byte_at(value, 0);
  out.used = (client & kClientSsl) != 0;
  out.certificate = (client & (kCertConnection | kCertSession)) != 0;
  out.verified = out.certificate && number32(value, 1) == 0;
  std::string_view rest = value.substr(5);
  uint8_t type = 0;
  std::string_view text;
  while (!rest.empty()) {
    if (!take_tlv(rest, type, text)) return false;
    if (type == kSslVersion) out.version = text;
    if (type == kSslCn) out.common_name = text;
    if (type == kSslCipher) out.cipher = text;
    if (type == kSslSigAlg) out.signature_algorithm = text;
    if (type == kSslKeyAlg) out.key_algorithm = text;
  }
  return true;
}

// The checksum of the whole header, with zeros in the place of `field`, which lies in it.
uint32_t checksum_without(std::string_view header, std::string_view field) {
  const auto at = static_cast<size_t>(field.data() - header.data());
  uint32_t sum = crc32c(header.substr(0, at));
  sum = crc32c("\0\0\0\0"sv, sum);
  return crc32c(header.substr(at + field.size()), sum);
}

const char* parse_tlvs(std::string_view header, std::string_view rest, ProxyHeader& out) {
  uint8_t type = 0;
  std::string_view value;
  bool summed = false;
  while (!rest.empty()) {
    if (!take_tlv(rest, type, value)) return "a TLV does not fit the header";
    switch (type) {
      case kAlpn:
        out.alpn = value;
        break;
      case kAuthority:
        out.authority = value;
        break;
      case kUniqueId:
        if (value.size() > kUniqueIdMax) return "the unique id is longer than 128 bytes";
        out.unique_id = value;
        break;
      case kCrc32c:
        if (value.size() != 4 || summed) return "the checksum is malformed";
        summed = true;
        if (checksum_without(header, value) != number32(value, 0)) return "the checksum is wrong";
        break;
      case kSsl:
        if (!parse_ssl(value, out.tls)) return "the TLS facts are malformed";
        break;
      default:
        break;
    }
  }
  return nullptr;
}

template <size_t N>
IpAddress address_at(std::string_view bytes, size_t at) {
  return IpAddress::from_bytes(
      std::span<const uint8_t, N>(reinterpret_cast<const uint8_t*>(bytes.data()) + at, N));
}

ProxyParse parse_binary(std::string_view bytes, ProxyHeader& out) {
  if (bytes.size() < kFixedPart) return incomplete(kFixedPart - bytes.size());
  const uint8_t version_command = byte_at(bytes, 12);
  if (version_command >> 4 != 2) return refused("the version is not 2");
  const unsigned command = version_command & 0x0F;
  if (command > 1) return refused("the command is neither LOCAL nor PROXY");
  const size_t length = kFixedPart + number16(bytes, 14);
  if (length > kProxyHeaderMax) return refused("the header is too long");
  if (bytes.size() < length) return incomplete(length - bytes.size());
  const ProxyParse complete{ProxyStatus::kComplete, length, nullptr};
  out.version = 2;
  out.local = command == 0;
  // The proxy itself asks: whatever else it says has no meaning.
  if (out.local) return complete;

  const std::string_view header = bytes.substr(0, length);
  const unsigned family = byte_at(header, 13) >> 4;
  const unsigned transport = byte_at(header, 13) & 0x0F;
  constexpr size_t kSizes[] = {0, 12, 36, 216};
  if (family >= std::size(kSizes) || transport > 2) return refused("the family is unknown");
  const size_t addresses = kSizes[family];
  if (length - kFixedPart < addresses) return refused("the addresses do not fit the header");
  if (family == 1) {
    out.source = SocketAddress::ip(address_at<4>(header, 16), number16(header, 24));
    out.destination = SocketAddress::ip(address_at<4>(header, 20), number16(header, 26));
  } else if (family == 2) {
    out.source = SocketAddress::ip(address_at<16>(header, 16), number16(header, 48));
    out.destination = SocketAddress::ip(address_at<16>(header, 32), number16(header, 50));
  }
  const char* problem = parse_tlvs(header, header.substr(kFixedPart + addresses), out);
  return problem == nullptr ? complete : refused(problem);
}

// ---- Writing ------------------------------------------------------------------------------------

void append16(std::string& to, size_t number) {
  to += static_cast<char>(number >> 8 & 0xFF);
  to += static_cast<char>(number & 0xFF);
}

void append_tlv(std::string& to, uint8_t type, std::string_view value) {
  value = value.substr(0, kTextMax);
  to += static_cast<char>(type);
  append16(to, value.size());
  to += value;
}

void append_text_tlv(std::string& to, uint8_t type, std::string_view text) {
  if (!text.empty()) append_tlv(to, type, text);
}

// The address in IPv6 form, also that of IPv4 (::ffff:192.0.2.1).
void append_v6(std::string& to, const IpAddress& address) {
  if (address.is_v4()) to += "\0\0\0\0\0\0\0\0\0\0\xFF\xFF"sv;
  const std::span<const uint8_t> bytes = address.bytes();
  to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool has_addresses(const ProxyHeader& header) {
  return !header.source.ip().is_none() && !header.destination.ip().is_none();
}

std::string address_text(const IpAddress& address, bool as_v6) {
  return (as_v6 && address.is_v4() ? "::ffff:" : "") + address.format();
}

std::string format_line(const ProxyHeader& header) {
  if (header.local || !has_addresses(header)) return "PROXY UNKNOWN\r\n";
  const IpAddress from = header.source.ip();
  const IpAddress to = header.destination.ip();
  const bool v6 = from.is_v6() || to.is_v6();
  std::string line = v6 ? "PROXY TCP6 " : "PROXY TCP4 ";
  line.append(address_text(from, v6)).append(" ").append(address_text(to, v6));
  line.append(" ").append(std::to_string(header.source.port()));
  line.append(" ").append(std::to_string(header.destination.port())).append("\r\n");
  return line;
}

void append_addresses(const ProxyHeader& header, std::string& to) {
  if (!has_addresses(header)) return;
  const IpAddress source = header.source.ip();
  const IpAddress destination = header.destination.ip();
  if (source.is_v4() && destination.is_v4()) {
    for (const IpAddress& address : {source, destination}) {
      to.append(reinterpret_cast<const char*>(address.bytes().data()), 4);
    }
  } else {
    append_v6(to, source);
    append_v6(to, destination);
  }
  append16(to, header.source.port());
  append16(to, header.destination.port());
}

void append_ssl(const ProxyTls& tls, std::string& to) {
  if (!tls.used) return;
  std::string value;
  value += static_cast<char>(kClientSsl | (tls.certificate ? kCertConnection | kCertSession : 0));
  // 0 says that the certificate was verified; what else it says, OpenSSL's codes do (1:
  // unspecified).
  value += tls.verified ? "\0\0\0\0"sv : "\0\0\0\1"sv;
  append_text_tlv(value, kSslVersion, tls.version);
  append_text_tlv(value, kSslCn, tls.common_name);
  append_text_tlv(value, kSslCipher, tls.cipher);
  append_text_tlv(value, kSslSigAlg, tls.signature_algorithm);
  append_text_tlv(value, kSslKeyAlg, tls.key_algorithm);
  to += static_cast<char>(kSsl);
  append16(to, value.size());
  to += value;
}

std::string format_binary(const ProxyHeader& header, bool checksum) {
  std::string text(kSignature);
  text += header.local ? '\x20' : '\x21';
  char family = '\0';
  if (!header.local && has_addresses(header)) {
    const bool v4 = header.source.ip().is_v4() && header.destination.ip().is_v4();
    family = v4 ? '\x11' : '\x21';
  }
  text += family;
  append16(text, 0);  // the length, known at the end
  if (!header.local) {
    append_addresses(header, text);
    append_text_tlv(text, kAlpn, header.alpn);
    append_text_tlv(text, kAuthority, header.authority);
    append_text_tlv(text, kUniqueId, std::string_view(header.unique_id).substr(0, kUniqueIdMax));
    append_ssl(header.tls, text);
  }
  if (checksum) append_tlv(text, kCrc32c, "\0\0\0\0"sv);
  const size_t length = text.size() - kFixedPart;
  text[14] = static_cast<char>(length >> 8);
  text[15] = static_cast<char>(length & 0xFF);
  if (checksum) {
    const uint32_t sum = crc32c(text);
    for (unsigned i = 0; i < 4; ++i) {
      text[text.size() - 4 + i] = static_cast<char>(sum >> (24 - 8 * i) & 0xFF);
    }
  }
  return text;
}

}  // namespace

uint32_t crc32c(std::string_view bytes, uint32_t before) {
  uint32_t sum = ~before;
  for (const char c : bytes) sum = (sum >> 8) ^ kCrcTable[(sum ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~sum;
}

ProxyParse parse_proxy_header(std::string_view bytes, ProxyHeader& out) {
  out = ProxyHeader();
  for (const std::string_view start : {kLineStart, kSignature}) {
    const size_t common = std::min(start.size(), bytes.size());
    if (bytes.substr(0, common) != start.substr(0, common)) continue;
    // The shortest line, "PROXY UNKNOWN" and its end, has 15 bytes.
    const size_t least = start == kLineStart ? kLineStart.size() + 9 : kFixedPart;
    if (common < start.size()) return incomplete(least - bytes.size());
    return start == kLineStart ? parse_line(bytes, out) : parse_binary(bytes, out);
  }
  return refused("neither version of the PROXY protocol");
}

std::string format_proxy_header(const ProxyHeader& header, unsigned version, bool checksum) {
  return version == 1 ? format_line(header) : format_binary(header, checksum);
}

}  // namespace gatehouse
