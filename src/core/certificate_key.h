// Private keys as bytes: out of the DER that files have, and in the form that the bundle keeps.
//
// OpenSSL 3 finds out what a key is by trying its decoders, which takes 450 us for each, so that
// ten thousand would take five seconds at every reading. A key says itself what it is: here the one
// function is called that understands it, 16 us (P-256) or 2 us (RSA). OpenSSL 3 calls those
// functions deprecated, and that is why they are called in this file alone.
#pragma once

#include <string>
#include <string_view>

#include "core/certificates.h"
#include "core/openssl_owner.h"
#include "core/result.h"

namespace gatehouse {

// Of PKCS #8 ("PRIVATE KEY" in PEM, without a passphrase), ECPrivateKey ("EC PRIVATE KEY") and
// RSAPrivateKey ("RSA PRIVATE KEY"). Fails on anything else, and on kinds that KeyKind has not.
Result<KeyOwner> key_of_pkcs8(std::string_view der);
Result<KeyOwner> key_of_ec_der(std::string_view der);
Result<KeyOwner> key_of_rsa_der(std::string_view der);

// As the bundle keeps it: ECPrivateKey with its curve, RSAPrivateKey, the 32 bytes of Ed25519.
// Empty where `key` is not of this kind.
std::string pack_key(KeyKind kind, const EVP_PKEY& key);
// Null where the bytes are not what pack_key() gave.
KeyOwner unpack_key(KeyKind kind, std::string_view bytes);

}  // namespace gatehouse
