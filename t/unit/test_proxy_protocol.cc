// PROXY headers: what is read, what is refused, and that what is written is read again.
#include "http/proxy_protocol.h"

#include <criterion/criterion.h>

#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace gatehouse;
using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;

SocketAddress address(std::string_view text) {
  return *SocketAddress::parse(text);
}

std::string source_of(std::string_view bytes) {
  ProxyHeader header;
  const ProxyParse parsed = parse_proxy_header(bytes, header);
  cr_expect(parsed.status == ProxyStatus::kComplete, "%s", std::string(bytes).c_str());
  cr_expect(parsed.length == bytes.size());
  return header.source.is_none() ? std::string() : header.source.format();
}

const char* problem_of(std::string_view bytes) {
  ProxyHeader header;
  const ProxyParse parsed = parse_proxy_header(bytes, header);
  return parsed.status == ProxyStatus::kRefused ? parsed.problem : nullptr;
}

std::string binary(char version_command, char family, std::string_view rest) {
  std::string text(kSignature);
  text += version_command;
  text += family;
  text += static_cast<char>(rest.size() >> 8);
  text += static_cast<char>(rest.size() & 0xFF);
  return text.append(rest);
}

std::string tlv(uint8_t type, std::string_view value) {
  std::string text(1, static_cast<char>(type));
  text += static_cast<char>(value.size() >> 8);
  text += static_cast<char>(value.size() & 0xFF);
  return text.append(value);
}

// 192.0.2.7:50000 to 198.51.100.1:443.
constexpr std::string_view kV4 = "\xC0\x00\x02\x07\xC6\x33\x64\x01\xC3\x50\x01\xBB"sv;

}  // namespace

Test(proxy_protocol, reads_a_line) {
  cr_assert(source_of("PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n") == "192.0.2.7:50000");
  cr_assert(source_of("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n") == "[2001:db8::7]:1");
  cr_assert(source_of("PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n") == "192.0.2.7:1");
  ProxyHeader header;
  parse_proxy_header("PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\nGET /", header);
  cr_assert(header.version == 1 && !header.local);
  cr_assert(header.destination.format() == "198.51.100.1:443");
}

Test(proxy_protocol, a_line_may_know_nothing) {
  cr_assert(source_of("PROXY UNKNOWN\r\n").empty());
  cr_assert(source_of("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n").empty());
}

Test(proxy_protocol, refuses_what_a_line_may_not_be) {
  for (const std::string_view line : {
           "GET / HTTP/1.1\r\n"sv,
           "PROXY"
           "\r\n"sv,
           "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n"sv,
           "PROXY UNKNOWNX\r\n"sv,
           "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n"sv,
           "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n"sv,
           "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n"sv,
           "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"sv,
           "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n"sv,
           "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n\r\n"sv,
       }) {
    cr_expect(problem_of(line) != nullptr, "%s", std::string(line).c_str());
  }
  cr_assert(problem_of("PROXY UNKNOWN " + std::string(100, 'x') + "\r\n") != nullptr);
  // 107 bytes are the most, with the end of the line.
  cr_assert(problem_of("PROXY UNKNOWN " + std::string(91, 'x') + "\r\n") == nullptr);
  cr_assert(problem_of("PROXY UNKNOWN " + std::string(92, 'x') + "\r\n") != nullptr);
}

Test(proxy_protocol, reads_binary_addresses) {
  cr_assert(source_of(binary('\x21', '\x11', kV4)) == "192.0.2.7:50000");
  const std::string v6 = "\x20\x01\x0d\xb8" + std::string(11, '\0') + "\x07" +
                         std::string(15, '\0') + "\x01" + std::string("\xC3\x50\x01\xBB", 4);
  cr_assert(source_of(binary('\x21', '\x21', v6)) == "[2001:db8::7]:50000");
  // Over UDP the address is the address, too.
  cr_assert(source_of(binary('\x21', '\x12', kV4)) == "192.0.2.7:50000");
  cr_assert(source_of(binary('\x21', '\x31', std::string(216, 'x'))).empty());
  cr_assert(source_of(binary('\x21', '\0', "")).empty());
}

Test(proxy_protocol, local_says_nothing_of_a_client) {
  ProxyHeader header;
  const std::string bytes = binary('\x20', '\x11', kV4);
  cr_assert(parse_proxy_header(bytes, header).status == ProxyStatus::kComplete);
  cr_assert(header.local && header.source.is_none());
  cr_assert(source_of(binary('\x20', '\0', "")).empty());
  // Not even whether the rest makes sense.
  cr_assert(source_of(binary('\x20', '\xFF', "\x03")).empty());
}

Test(proxy_protocol, refuses_what_a_binary_header_may_not_be) {
  cr_expect(problem_of(binary('\x11', '\x11', kV4)) != nullptr, "version 1");
  cr_expect(problem_of(binary('\x31', '\x11', kV4)) != nullptr, "version 3");
  cr_expect(problem_of(binary('\x22', '\x11', kV4)) != nullptr, "command 2");
  cr_expect(problem_of(binary('\x21', '\x41', kV4)) != nullptr, "family 4");
  cr_expect(problem_of(binary('\x21', '\x13', kV4)) != nullptr, "transport 3");
  cr_expect(problem_of(binary('\x21', '\x11', kV4.substr(1))) != nullptr, "short");
  cr_expect(problem_of(binary('\x21', '\x21', kV4)) != nullptr, "IPv6 in the room of IPv4");
  const std::string v4(kV4);
  cr_expect(problem_of(binary('\x21', '\x11', v4 + "\x01")) != nullptr, "half a TLV");
  cr_expect(problem_of(binary('\x21', '\x11', v4 + std::string("\x01\0\x03h2", 5))) != nullptr);
  cr_expect(problem_of(binary('\x21', '\x11', v4 + tlv(0x05, std::string(129, 'u')))) != nullptr);
  cr_expect(problem_of(binary('\x21', '\x11', v4 + tlv(0x20, "abcd"))) != nullptr, "short SSL");
  cr_expect(problem_of(binary('\x21', '\x11', v4 + tlv(0x20, "abcde\x21"))) != nullptr);
  cr_expect(problem_of(binary('\x21', '\x11', std::string(kProxyHeaderMax, 'x'))) != nullptr);
}

Test(proxy_protocol, reads_tlvs) {
  const std::string ssl = std::string("\x07\0\0\0\0", 5) + tlv(0x21, "TLSv1.3") +
                          tlv(0x22, "alice") + tlv(0x23, "TLS_AES_128_GCM_SHA256") +
                          tlv(0x24, "SHA256") + tlv(0x25, "RSA2048");
  const std::string bytes =
      binary('\x21', '\x11',
             std::string(kV4) + tlv(0x01, "h2") + tlv(0x02, "www.example.com") + tlv(0x04, "pad") +
                 tlv(0x05, "id-1") + tlv(0xEA, "vendor") + tlv(0x20, ssl));
  ProxyHeader header;
  cr_assert(parse_proxy_header(bytes, header).status == ProxyStatus::kComplete);
  cr_assert(header.alpn == "h2" && header.authority == "www.example.com");
  cr_assert(header.unique_id == "id-1");
  cr_assert(header.tls.used && header.tls.certificate && header.tls.verified);
  cr_assert(header.tls.version == "TLSv1.3" && header.tls.common_name == "alice");
  cr_assert(header.tls.cipher == "TLS_AES_128_GCM_SHA256");
  cr_assert(header.tls.signature_algorithm == "SHA256" && header.tls.key_algorithm == "RSA2048");
}

Test(proxy_protocol, a_certificate_that_was_not_verified) {
  const std::string bytes =
      binary('\x21', '\x11', std::string(kV4) + tlv(0x20, std::string("\x03\0\0\0\x12", 5)));
  ProxyHeader header;
  cr_assert(parse_proxy_header(bytes, header).status == ProxyStatus::kComplete);
  cr_assert(header.tls.used && header.tls.certificate && !header.tls.verified);
}

Test(proxy_protocol, crc32c_of_known_bytes) {
  // RFC 3720 §B.4.
  cr_assert(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  cr_assert(crc32c(std::string(32, '\xFF')) == 0x62A8AB43);
  cr_assert(crc32c("56789", crc32c("1234")) == crc32c("123456789"));
  cr_assert(crc32c("123456789") == 0xE3069283);
}

Test(proxy_protocol, checks_the_checksum) {
  ProxyHeader told;
  told.source = address("192.0.2.7:50000");
  told.destination = address("198.51.100.1:443");
  told.alpn = "h2";
  const std::string bytes = format_proxy_header(told, 2, true);
  cr_assert(source_of(bytes) == "192.0.2.7:50000");
  const size_t type_of_checksum = bytes.size() - 7;
  for (size_t at = 16; at < bytes.size(); ++at) {
    if (at == type_of_checksum) continue;  // another type is no checksum
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x40);
    cr_expect(problem_of(changed) != nullptr, "byte %zu", at);
  }
  // Anywhere, and once.
  const std::string first =
      binary('\x21', '\x11', std::string(kV4) + tlv(0x03, "\0\0\0\0"sv) + tlv(0x01, "h2"));
  const uint32_t sum = crc32c(first);
  const char field[] = {static_cast<char>(sum >> 24), static_cast<char>(sum >> 16),
                        static_cast<char>(sum >> 8), static_cast<char>(sum)};
  const std::string_view value(field, sizeof field);
  const std::string right =
      binary('\x21', '\x11', std::string(kV4) + tlv(0x03, value) + tlv(0x01, "h2"));
  cr_assert(problem_of(right) == nullptr);
  cr_assert(problem_of(binary('\x21', '\x11',
                              std::string(kV4) + tlv(0x03, value) + tlv(0x03, value))) != nullptr);
}

Test(proxy_protocol, what_is_incomplete_asks_for_no_more_than_belongs_to_it) {
  ProxyHeader told;
  told.source = address("192.0.2.7:50000");
  told.destination = address("198.51.100.1:443");
  told.authority = "a.example";
  for (const std::string& bytes : {format_proxy_header(told, 1), format_proxy_header(told, 2, true),
                                   std::string("PROXY UNKNOWN\r\n"), binary('\x20', '\0', "")}) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      ProxyHeader header;
      const ProxyParse parsed = parse_proxy_header(bytes.substr(0, size), header);
      cr_assert(parsed.status == ProxyStatus::kIncomplete);
      cr_assert(parsed.length > 0 && size + parsed.length <= bytes.size());
    }
  }
}

Test(proxy_protocol, what_is_written_is_read) {
  ProxyHeader told;
  told.source = address("[2001:db8::7]:50000");
  told.destination = address("198.51.100.1:443");
  cr_assert(format_proxy_header(told, 1) ==
            "PROXY TCP6 2001:db8::7 ::ffff:198.51.100.1 50000 443\r\n");
  cr_assert(source_of(format_proxy_header(told, 2)) == "[2001:db8::7]:50000");
  told.alpn = "http/1.1";
  told.authority = "www.example.com";
  told.unique_id = std::string(200, 'u');
  told.tls = {true, true, true, "TLSv1.2", "ECDHE", std::string(5000, 'c'), "RSA2048", "SHA256"};
  const std::string bytes = format_proxy_header(told, 2, true);
  cr_assert(bytes.size() <= kProxyHeaderMax);
  ProxyHeader header;
  cr_assert(parse_proxy_header(bytes, header).status == ProxyStatus::kComplete);
  cr_assert(header.destination.format() == "198.51.100.1:443");
  cr_assert(header.authority == "www.example.com" && header.alpn == "http/1.1");
  cr_assert(header.unique_id.size() == 128 && header.tls.common_name.size() == 1024);
  cr_assert(header.tls.verified && header.tls.version == "TLSv1.2");

  told = {};
  cr_assert(format_proxy_header(told, 1) == "PROXY UNKNOWN\r\n");
  cr_assert(source_of(format_proxy_header(told, 2)).empty());
  told.local = true;
  cr_assert(format_proxy_header(told, 2) == binary('\x20', '\0', ""));
}
