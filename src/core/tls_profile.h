// What a TLS context may speak: versions, cipher suites, groups; the same keys for listeners and
// upstreams.
//
//   strict        TLS 1.2 and 1.3; every suite has forward secrecy and authenticated encryption
//   modern        TLS 1.3 only
//   intermediate  as strict, and DHE with RSA for clients that have no elliptic curves
//   custom        what tls_versions, tls_ciphers, tls_ciphersuites and tls_groups say; what they do
//                 not say is as in strict
//
// Nothing below TLS 1.2 can be had (RFC 8996), nor compression, renegotiation or insecure
// renegotiation. The gateway's order of suites counts, but that a client which puts ChaCha20 first
// (because it has no AES in hardware) gets it.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/directive.h"
#include "core/result.h"

namespace gatehouse {

enum class TlsProfile : uint8_t { kStrict, kModern, kIntermediate, kCustom };
enum class TlsVersion : uint8_t { k12, k13 };

struct TlsProfileConf {
  TlsProfile profile = TlsProfile::kStrict;
  std::vector<TlsVersion> versions;
  std::vector<std::string> ciphers;
  std::vector<std::string> ciphersuites;
  std::vector<std::string> groups;
};

// The keys tls_profile, tls_versions, tls_ciphers, tls_ciphersuites and tls_groups, in [listener]
// and in [upstream].
extern const DirectiveTable kListenerTlsProfileTable;
extern const DirectiveTable kUpstreamTlsProfileTable;

struct FreeTlsContext {
  void operator()(SSL_CTX* context) const;
};
using TlsContext = std::unique_ptr<SSL_CTX, FreeTlsContext>;

enum class TlsRole : uint8_t { kServer, kClient };

// A context that is ready for TlsLayer and has no certificates. Fails where a name in `conf` is
// unknown to OpenSSL, which the tables' checks have told before, or memory is short.
Result<TlsContext> make_tls_context(TlsRole role, const TlsProfileConf& conf);

// "WHAT: the last reason that OpenSSL gave"; its list of reasons is empty afterwards.
Error tls_error(std::string what);

template <>
struct ValueType<TlsProfile> {
  static Result<TlsProfile> parse(std::string_view text);
  static std::string format(const TlsProfile& value);
  static std::string expected();
};

template <>
struct ValueType<TlsVersion> {
  static Result<TlsVersion> parse(std::string_view text);
  static std::string format(const TlsVersion& value);
  static std::string expected();
  static constexpr bool kWord = true;
};

}  // namespace gatehouse
