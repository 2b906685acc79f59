// See certificate_key.h.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "core/certificate_key.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace gatehouse {
namespace {

using EcOwner = std::unique_ptr<EC_KEY, OpensslFree<&EC_KEY_free>>;
using RsaOwner = std::unique_ptr<RSA, OpensslFree<&RSA_free>>;
using InfoOwner = std::unique_ptr<PKCS8_PRIV_KEY_INFO, OpensslFree<&PKCS8_PRIV_KEY_INFO_free>>;
using OctetsOwner = std::unique_ptr<ASN1_OCTET_STRING, OpensslFree<&ASN1_OCTET_STRING_free>>;

constexpr size_t kEd25519Bytes = 32;

const uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

Error not_understood() {
  const std::string why = take_openssl_error();
  return Error{"the private key cannot be understood" + (why.empty() ? "" : ": " + why)};
}

Result<KeyOwner> own(EcOwner ec) {
  KeyOwner key(EVP_PKEY_new());
  if (ec == nullptr || key == nullptr || EC_KEY_get0_public_key(ec.get()) == nullptr ||
      EVP_PKEY_assign_EC_KEY(key.get(), ec.get()) != 1) {
    return not_understood();
  }
  (void)ec.release();
  return key;
}

Result<KeyOwner> own(RsaOwner rsa) {
  KeyOwner key(EVP_PKEY_new());
  if (rsa == nullptr || key == nullptr || EVP_PKEY_assign_RSA(key.get(), rsa.get()) != 1) {
    return not_understood();
  }
  (void)rsa.release();
  return key;
}

// The curve stands beside the key (RFC 5915 §3, RFC 5480 §2.1.1).
Result<KeyOwner> ec_of_pkcs8(const X509_ALGOR& algorithm, std::string_view der) {
  int type = 0;
  const void* parameter = nullptr;
  X509_ALGOR_get0(nullptr, &type, &parameter, &algorithm);
  if (type != V_ASN1_OBJECT) return Error{"the private key's curve has no name"};
  EcOwner ec(EC_KEY_new_by_curve_name(OBJ_obj2nid(static_cast<const ASN1_OBJECT*>(parameter))));
  if (ec == nullptr) return not_understood();
  const uint8_t* at = bytes_of(der);
  EC_KEY* into = ec.get();
  if (d2i_ECPrivateKey(&into, &at, static_cast<long>(der.size())) == nullptr) {
    return not_understood();
  }
  return own(std::move(ec));
}

Result<KeyOwner> ed25519_of(std::string_view raw) {
  if (raw.size() != kEd25519Bytes) return not_understood();
  KeyOwner key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes_of(raw), raw.size()));
  if (key == nullptr) return not_understood();
  return key;
}

template <typename Object>
std::string der_of(int (*encode)(const Object*, unsigned char**), const Object* object) {
  unsigned char* bytes = nullptr;
  const int size = object != nullptr ? encode(object, &bytes) : 0;
  if (size <= 0) return {};
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  OPENSSL_clear_free(bytes, static_cast<size_t>(size));
  return der;
}

}  // namespace

Result<KeyOwner> key_of_ec_der(std::string_view der) {
  const uint8_t* at = bytes_of(der);
  return own(EcOwner(d2i_ECPrivateKey(nullptr, &at, static_cast<long>(der.size()))));
}

Result<KeyOwner> key_of_rsa_der(std::string_view der) {
  const uint8_t* at = bytes_of(der);
  return own(RsaOwner(d2i_RSAPrivateKey(nullptr, &at, static_cast<long>(der.size()))));
}

Result<KeyOwner> key_of_pkcs8(std::string_view der) {
  const uint8_t* at = bytes_of(der);
  const InfoOwner info(d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, static_cast<long>(der.size())));
  const ASN1_OBJECT* kind = nullptr;
  const unsigned char* inner = nullptr;
  int size = 0;
  const X509_ALGOR* algorithm = nullptr;
  if (info == nullptr || PKCS8_pkey_get0(&kind, &inner, &size, &algorithm, info.get()) != 1) {
    return not_understood();
  }
  const std::string_view key(reinterpret_cast<const char*>(inner), static_cast<size_t>(size));
  switch (OBJ_obj2nid(kind)) {
    case EVP_PKEY_EC:
      return ec_of_pkcs8(*algorithm, key);
    case EVP_PKEY_RSA:
      return key_of_rsa_der(key);
    case EVP_PKEY_ED25519: {
      // An OCTET STRING inside the OCTET STRING (RFC 8410 §7).
      const uint8_t* raw = inner;
      const OctetsOwner octets(d2i_ASN1_OCTET_STRING(nullptr, &raw, size));
      if (octets == nullptr) return not_understood();
      return ed25519_of({reinterpret_cast<const char*>(ASN1_STRING_get0_data(octets.get())),
                         static_cast<size_t>(ASN1_STRING_length(octets.get()))});
    }
    default:
      return Error{"the private key is of a kind that TLS clients do not take"};
  }
}

std::string pack_key(KeyKind kind, const EVP_PKEY& key) {
  switch (kind) {
    case KeyKind::kEcdsa:
      return der_of<EC_KEY>(&i2d_ECPrivateKey, EVP_PKEY_get0_EC_KEY(&key));
    case KeyKind::kRsa:
      return der_of<RSA>(&i2d_RSAPrivateKey, EVP_PKEY_get0_RSA(&key));
    case KeyKind::kEd25519:
      break;
  }
  std::string raw(kEd25519Bytes, '\0');
  size_t size = raw.size();
  if (EVP_PKEY_get_raw_private_key(&key, reinterpret_cast<unsigned char*>(raw.data()), &size) !=
          1 ||
      size != raw.size()) {
    return {};
  }
  return raw;
}

KeyOwner unpack_key(KeyKind kind, std::string_view bytes) {
  Result<KeyOwner> key = kind == KeyKind::kEcdsa ? key_of_ec_der(bytes)
                         : kind == KeyKind::kRsa ? key_of_rsa_der(bytes)
                                                 : ed25519_of(bytes);
  return key ? std::move(*key) : nullptr;
}

}  // namespace gatehouse
