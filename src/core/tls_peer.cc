// The peer's certificate; see tls_peer.h.
#include "core/tls_peer.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>
#include <string_view>

#include "core/sockets.h"

namespace gatehouse {

namespace {

void append_hex(const unsigned char* bytes, size_t size, std::string& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < size; ++i) {
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
}

void append_printable(std::string_view text, std::string& out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
}

std::string name_text(const X509_NAME* name) {
  std::string text;
  BIO* bio = BIO_new(BIO_s_mem());
  if (bio == nullptr) return text;
  // Bytes above 0x7F stay as they are: UTF-8.
  if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio, &bytes);
    if (size > 0) append_printable({bytes, static_cast<size_t>(size)}, text);
  }
  BIO_free(bio);
  return text;
}

std::string_view string_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

void append_address(std::string_view bytes, std::string& out) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (bytes.size() == 4)
    out += IpAddress::from_bytes(std::span<const uint8_t, 4>(data, 4)).format();
  if (bytes.size() == 16) {
    out += IpAddress::from_bytes(std::span<const uint8_t, 16>(data, 16)).format();
  }
}

std::string names_text(const X509* certificate) {
  std::string text;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  if (names == nullptr) {
    ERR_clear_error();
    return text;
  }
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    int type = 0;
    void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
    const char* kind = type == GEN_DNS     ? "DNS:"
                       : type == GEN_EMAIL ? "email:"
                       : type == GEN_URI   ? "URI:"
                       : type == GEN_IPADD ? "IP:"
                                           : nullptr;
    if (kind == nullptr) continue;
    if (!text.empty()) text += ", ";
    text += kind;
    const std::string_view bytes = string_of(static_cast<const ASN1_STRING*>(value));
    if (type == GEN_IPADD) {
      append_address(bytes, text);
    } else {
      append_printable(bytes, text);
    }
  }
  GENERAL_NAMES_free(names);
  return text;
}

std::string serial_text(const X509* certificate) {
  std::string text;
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  if (number == nullptr) return text;
  std::string bytes(static_cast<size_t>(BN_num_bytes(number)), '\0');
  BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
  BN_free(number);
  append_hex(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), text);
  return text;
}

std::string end_text(const X509* certificate) {
  tm parts{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1) return {};
  char text[32];
  return {text, strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

bool tls_peer_has_certificate(const TlsLayer& layer) {
  return layer.peer_certificate() != nullptr;
}

std::string tls_peer_text(const TlsLayer& layer, TlsPeerFact fact) {
  const X509* certificate = layer.peer_certificate();
  if (certificate == nullptr) return {};
  switch (fact) {
    case TlsPeerFact::kSubject:
      return name_text(X509_get_subject_name(certificate));
    case TlsPeerFact::kIssuer:
      return name_text(X509_get_issuer_name(certificate));
    case TlsPeerFact::kSerial:
      return serial_text(certificate);
    case TlsPeerFact::kFingerprint: {
      unsigned char digest[EVP_MAX_MD_SIZE];
      unsigned size = 0;
      std::string text;
      if (X509_digest(certificate, EVP_sha256(), digest, &size) == 1) {
        append_hex(digest, size, text);
      }
      return text;
    }
    case TlsPeerFact::kNames:
      return names_text(certificate);
    case TlsPeerFact::kNotAfter:
      return end_text(certificate);
  }
  return {};
}

}  // namespace gatehouse
