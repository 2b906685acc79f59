// Whom TLS believes: the certificates of authorities, as OpenSSL's store of them.
//
// The text comes with the configuration (ConfigSource::attachment), never from a file that a worker
// opens. Stores of the same text are shared within the process: the system's hundred and forty
// authorities are parsed once, whatever number of upstreams and generations believe them.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

// The system's authorities, where a Debian (and most of its kin) keeps them.
inline constexpr char kSystemAuthorities[] = "/etc/ssl/certs/ca-certificates.crt";
inline constexpr size_t kMaxAuthorities = size_t{4} << 20;  // bytes of such a file

using TlsTrust = std::shared_ptr<X509_STORE>;

// The certificates in `pem`, and the revocation lists in `crl_pem` unless it is empty: these then
// have to say something of each certificate of a chain that they check. Fails where one cannot be
// read or `pem` has none. Any thread may call it.
Result<TlsTrust> load_trust(std::string_view pem, std::string_view crl_pem = {});

}  // namespace gatehouse
