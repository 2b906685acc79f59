// Certificates and keys for unit tests, made in the process: self-signed, or signed by another.
#pragma once

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/certificate_load.h"
#include "core/openssl_owner.h"

namespace made {

struct Identity {
  gatehouse::KeyOwner key;
  gatehouse::X509Owner certificate;
  std::string pem;      // the certificate alone
  std::string key_pem;  // PKCS #8
};

inline std::string text_of(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<size_t>(size)};
}

enum class Kind { kEcdsa, kRsa, kRsaShort, kEd25519, kBrainpool };

inline gatehouse::KeyOwner new_key(Kind kind) {
  switch (kind) {
    case Kind::kEcdsa:
      return gatehouse::KeyOwner(EVP_EC_gen("P-256"));
    case Kind::kBrainpool:
      return gatehouse::KeyOwner(EVP_EC_gen("brainpoolP256r1"));
    case Kind::kRsa:
      return gatehouse::KeyOwner(EVP_RSA_gen(2048));
    case Kind::kRsaShort:
      return gatehouse::KeyOwner(EVP_RSA_gen(1024));
    case Kind::kEd25519:
      break;
  }
  return gatehouse::KeyOwner(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
}

struct Wish {
  std::string subject = "site";
  std::vector<std::string> names = {};
  Kind kind = Kind::kEcdsa;
  long starts_in_days = -1;
  long ends_in_days = 90;
  const Identity* issuer = nullptr;  // null: itself
};

inline Identity identity(const Wish& wish) {
  Identity made;
  made.key = new_key(wish.kind);
  made.certificate.reset(X509_new());
  X509* x509 = made.certificate.get();
  static long serial = 0x1000;
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
  X509_time_adj_ex(X509_getm_notBefore(x509), static_cast<int>(wish.starts_in_days), 0, nullptr);
  X509_time_adj_ex(X509_getm_notAfter(x509), static_cast<int>(wish.ends_in_days), 0, nullptr);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(wish.subject.c_str()), -1, -1,
                             0);
  X509_set_issuer_name(x509, wish.issuer != nullptr
                                 ? X509_get_subject_name(wish.issuer->certificate.get())
                                 : X509_get_subject_name(x509));
  X509_set_pubkey(x509, made.key.get());
  if (!wish.names.empty()) {
    std::string value;
    for (const std::string& name : wish.names) {
      value += (value.empty() ? "DNS:" : ",DNS:") + name;
    }
    X509_EXTENSION* names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, value.c_str());
    X509_add_ext(x509, names, -1);
    X509_EXTENSION_free(names);
  }
  EVP_PKEY* signer = wish.issuer != nullptr ? wish.issuer->key.get() : made.key.get();
  const bool has_digest = EVP_PKEY_get_base_id(signer) != EVP_PKEY_ED25519;
  X509_sign(x509, signer, has_digest ? EVP_sha256() : nullptr);
  const gatehouse::BioOwner pem(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(pem.get(), x509);
  made.pem = text_of(pem.get());
  const gatehouse::BioOwner key(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(key.get(), made.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  made.key_pem = text_of(key.get());
  return made;
}

// A plan, with its files in a folder of its own.
class Collection {
 public:
  struct Section {
    std::string name;
    std::vector<std::pair<std::string, std::string>> pairs;  // PEM of certificate and key
    std::vector<std::string> names;
    std::vector<std::string> ocsp;
  };

  Collection() {
    std::string pattern = (std::filesystem::temp_directory_path() / "certificates-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  Collection(const Collection&) = delete;
  Collection& operator=(const Collection&) = delete;
  ~Collection() { std::filesystem::remove_all(folder_); }

  const std::string& folder() const { return folder_; }
  gatehouse::CertificatePlan& plan() { return plan_; }

  void add(const std::string& name, const Identity& site) {
    add({name, {{site.pem, site.key_pem}}, {}, {}});
  }
  void add(const Section& section) {
    gatehouse::PlannedCertificate planned;
    planned.name = section.name;
    for (const auto& [certificate, key] : section.pairs) {
      const std::string stem = section.name + std::to_string(planned.keys.size());
      planned.certificates.push_back(file(stem + ".pem", certificate));
      planned.keys.push_back(file(stem + ".key", key));
    }
    for (const std::string& der : section.ocsp) {
      planned.ocsp.push_back(
          file(section.name + std::to_string(planned.ocsp.size()) + ".ocsp", der));
    }
    for (const std::string& name : section.names) planned.names.push_back(value(name));
    plan_.push_back(std::move(planned));
  }

  gatehouse::Result<gatehouse::LoadedCertificates> load(uint32_t edition = 1) const {
    return gatehouse::load_certificates(plan_, edition);
  }

 private:
  gatehouse::PlannedValue value(const std::string& text) {
    ++line_;
    return {text, {0, line_}, "x.conf:" + std::to_string(line_)};
  }
  gatehouse::PlannedCertificate::File file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
    return {value(name), folder_ + "/" + name};
  }

  std::string folder_;
  uint32_t line_ = 0;
  gatehouse::CertificatePlan plan_;
};

}  // namespace made
