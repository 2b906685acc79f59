// What the peer's certificate says, as text for logs and upstreams.
//
// Only of a certificate that was verified: the handshake has failed otherwise. Texts are UTF-8
// without controls (a name that holds some has "?" in their places), so that they fit in one line.
#pragma once

#include <cstdint>
#include <string>

#include "core/tls_layer.h"

namespace gatehouse {

enum class TlsPeerFact : uint8_t {
  kSubject,      // RFC 2253: "CN=client,O=Example"
  kIssuer,       // the same
  kSerial,       // hex digits
  kFingerprint,  // SHA-256 of the certificate, 64 hex digits
  kNames,        // its subjectAltName: "DNS:a.example, IP:192.0.2.1, URI:spiffe://example/a"
  kNotAfter,     // "2026-11-20T09:30:00Z"
};

// Empty where the peer has shown no certificate, or it does not say that.
std::string tls_peer_text(const TlsLayer& layer, TlsPeerFact fact);
bool tls_peer_has_certificate(const TlsLayer& layer);

}  // namespace gatehouse
