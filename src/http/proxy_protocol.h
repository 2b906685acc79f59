// The PROXY protocol: the few bytes with which a proxy says at the start of a connection who its
// client is. Version 1 is a line of text, version 2 a binary header with optional TLVs
// (https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt).
//
// parse_proxy_header() looks at the beginning of a connection; what comes behind the header is none
// of its business. It refuses whatever the specification does not allow, because a header that two
// programs could read in two ways would let a client choose its address. Version 2: a checksum
// (PP2_TYPE_CRC32C) that is there must be right, lengths must fill the header exactly, unknown TLVs
// are skipped. A header of version 1 or 2 without addresses (LOCAL, UNKNOWN, AF_UNSPEC) leaves
// `source` empty: the connection's own peer is the client then, as for the health checks of the
// proxy in front. Unix paths (AF_UNIX) are read over: they name no client that could be limited.
//
// format_proxy_header() writes what it is told, for connections to upstreams.
//
// Leaves out: PP2_TYPE_NETNS and the vendors' types (0xE0 to 0xFF) have no meaning here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/sockets.h"

namespace gatehouse {

// What a version 2 header says of the client's TLS connection to the proxy (PP2_TYPE_SSL).
struct ProxyTls {
  bool used = false;          // the client came over TLS (PP2_CLIENT_SSL)
  bool certificate = false;   // it showed a certificate, now or in the session before this one
  bool verified = false;      // … and that was verified
  std::string version;        // "TLSv1.3"
  std::string cipher;         // "ECDHE-RSA-AES128-GCM-SHA256"
  std::string common_name;    // of the client's certificate
  std::string key_algorithm;  // of the proxy's certificate: "RSA2048"
  std::string signature_algorithm;  // "SHA256"
};

// Texts are as the proxy sent them, with any bytes: escape them where they are shown.
struct ProxyHeader {
  uint8_t version = 0;  // 1 or 2
  bool local = false;   // the proxy speaks for itself (LOCAL)
  // Who connected to whom, with ports; none where the header does not say.
  SocketAddress source;
  SocketAddress destination;
  std::string alpn;
  std::string authority;  // the host name that the client asked for (SNI)
  std::string unique_id;  // at most 128 bytes
  ProxyTls tls;
};

// The most a header may have. Version 1 ends at 107 bytes by its definition.
inline constexpr size_t kProxyLineMax = 107;
inline constexpr size_t kProxyHeaderMax = 8 * 1024;

enum class ProxyStatus : uint8_t { kComplete, kIncomplete, kRefused };

struct ProxyParse {
  ProxyStatus status = ProxyStatus::kIncomplete;
  // kComplete: the header's bytes. kIncomplete: how many bytes more, at least one, belong to it
  // for sure, beside all that were given.
  size_t length = 0;
  // kRefused: what is wrong, for a person.
  const char* problem = nullptr;
};

// Reads a header at the start of `bytes`. `out` is meaningful after kComplete only.
ProxyParse parse_proxy_header(std::string_view bytes, ProxyHeader& out);

// The bytes of a header. `version` is 1 or 2. Addresses of different families are both written as
// IPv6, without addresses it is UNKNOWN or AF_UNSPEC. Version 2 gets the TLVs for which there is
// something to say, each text cut to what its length field holds in a header of kProxyHeaderMax,
// and with `checksum` a CRC32C.
std::string format_proxy_header(const ProxyHeader& header, unsigned version, bool checksum = false);

// CRC-32C (Castagnoli, RFC 3720 §B.4) of the bytes; `before` is that of those in front of them.
uint32_t crc32c(std::string_view bytes, uint32_t before = 0);

}  // namespace gatehouse
