// Certificates and keys out of PEM text (RFC 7468). Blocks of other kinds are passed over, so that
// a key and its certificates may stand in one file.
#pragma once

#include <string_view>
#include <vector>

#include "core/openssl_owner.h"
#include "core/result.h"

namespace gatehouse {

// The DER of all certificates, in their order; at least one.
Result<std::vector<std::string>> certificates_of_pem(std::string_view pem);

// The first private key. Fails on one that is protected by a passphrase: nobody would type it.
Result<KeyOwner> key_of_pem(std::string_view pem);

// Null where it is none. take_openssl_error() may know why.
X509Owner x509_of_der(std::string_view der);

}  // namespace gatehouse
