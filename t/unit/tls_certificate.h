// Certificates for the tests of TLS, made when they are needed.
#pragma once

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace gatehouse::tls_test {

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;

// A key with a certificate of its own, valid for a day.
struct Certificate {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* x509 = X509_new();

  // `names` as in "DNS:a.example, IP:127.0.0.1". Signed by `issuer`, or by itself.
  explicit Certificate(const std::string& names, const Certificate* issuer = nullptr,
                       bool authority = false, const char* subject = "test") {
    cr_assert(key != nullptr && x509 != nullptr);
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 4711);
    X509_gmtime_adj(X509_getm_notBefore(x509), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86'400);
    X509_set_pubkey(x509, key);
    X509_NAME* name = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(subject), -1, -1, 0);
    X509_set_issuer_name(x509, issuer != nullptr ? X509_get_subject_name(issuer->x509) : name);
    if (!names.empty()) extend(NID_subject_alt_name, names);
    if (authority) extend(NID_basic_constraints, "critical,CA:TRUE");
    cr_assert_neq(X509_sign(x509, issuer != nullptr ? issuer->key : key, EVP_sha256()), 0);
  }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;
  ~Certificate() {
    EVP_PKEY_free(key);
    X509_free(x509);
  }
  void use(SSL_CTX* context) const {
    cr_assert_eq(SSL_CTX_use_certificate(context, x509), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(context, key), 1);
  }
  std::string pem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x509);
    return take(bio);
  }
  std::string key_pem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
    return take(bio);
  }

 private:
  static std::string take(BIO* bio) {
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio, &text);
    std::string pem(text, static_cast<size_t>(size));
    BIO_free(bio);
    return pem;
  }
  void extend(int nid, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    cr_assert(extension != nullptr);
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
  }
};

}  // namespace gatehouse::tls_test
