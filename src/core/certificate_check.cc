// See certificate_check.h.
#include "core/certificate_check.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/certificate_conf.h"
#include "core/certificate_key.h"
#include "core/certificate_ocsp.h"
#include "core/certificate_pem.h"
#include "core/openssl_owner.h"
#include "core/utc_text.h"

namespace gatehouse {
namespace {

using DigestOwner = std::unique_ptr<EVP_MD_CTX, OpensslFree<&EVP_MD_CTX_free>>;

constexpr int kRsaBitsMin = 2048;
// Warnings that are kept; more would not be read.
constexpr size_t kWarningsMax = 20;

std::string_view as_text(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

std::string name_text(const X509_NAME* name) {
  const BioOwner bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr) return {};
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(std::max(size, 0L))};
}

std::string hex(const uint8_t* bytes, size_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

int64_t seconds_of(const ASN1_TIME* time) {
  tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? int64_t{timegm(&parts)} : 0;
}

// Why TLS cannot use the key; else its kind.
Result<KeyKind> kind_of(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
      if (EVP_PKEY_get_bits(key) < kRsaBitsMin) {
        return Error{fmt::format("its RSA key has only {} bits", EVP_PKEY_get_bits(key))};
      }
      return KeyKind::kRsa;
    case EVP_PKEY_ED25519:
      return KeyKind::kEd25519;
    case EVP_PKEY_EC: {
      std::array<char, 64> group{};
      if (EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) != 1) group[0] = '?';
      const std::string_view name(group.data());
      if (name == SN_X9_62_prime256v1 || name == SN_secp384r1 || name == SN_secp521r1) {
        return KeyKind::kEcdsa;
      }
      return Error{fmt::format("its key is on the curve {}", name)};
    }
    default:
      return Error{"its key is of a kind that TLS clients do not take"};
  }
}

class Checker {
 public:
  Checker(const CertificateTexts& texts, int64_t now, const CertificateBundleView* before)
      : texts_(texts), now_(now), before_(before) {
    for (uint32_t number = 0; before != nullptr && number < before->header().certificates.count;
         ++number) {
      sections_before_.emplace(before->text(before->certificate(number)->name), number);
    }
  }

  void check(const PlannedCertificate& planned);
  CertificateVerdict finish(uint32_t edition);

 private:
  struct Pair {
    X509Owner leaf;
    CertificateBundleWriter::Entry entry;
  };

  // None where a file could not be read.
  std::optional<BundleDigest> digest_of(const PlannedCertificate& planned) const;
  bool take_over(const PlannedCertificate& planned, const std::optional<BundleDigest>& source);
  void check_anew(const PlannedCertificate& planned, const std::optional<BundleDigest>& source);
  void error(const PlannedValue& at, std::string_view key, std::string problem,
             std::string expected = {});
  void warn(const PlannedValue& at, std::string_view key, std::string_view problem);
  // Nothing where the file could not be read, which has been said then.
  std::optional<std::string_view> text_of(const PlannedCertificate::File& file, size_t index,
                                          std::string_view key);
  std::optional<Pair> read_pair(const PlannedCertificate::File& certificate, size_t first,
                                const PlannedCertificate::File& key, size_t second);
  bool read_chain(const PlannedCertificate::File& file, const std::vector<std::string>& ders,
                  Pair& pair);
  void describe(const PlannedCertificate::File& file, Pair& pair);
  void add_ocsp(const PlannedCertificate::File& file, size_t index, std::vector<Pair>& pairs);
  void add_names(const PlannedCertificate& planned, const std::vector<Pair>& pairs);
  X509* intermediate(const std::string& der);

  const CertificateTexts& texts_;
  const int64_t now_;
  const CertificateBundleView* before_;
  std::unordered_map<std::string_view, uint32_t> sections_before_;
  int64_t good_until_ = 0;  // of the section that is being checked
  size_t next_file_ = 0;
  std::string section_;
  CertificateVerdict verdict_;
  size_t warnings_left_out_ = 0;
  CertificateBundleWriter bundle_;
  std::unordered_map<std::string, X509Owner> intermediates_;
};

void Checker::error(const PlannedValue& at, std::string_view key, std::string problem,
                    std::string expected) {
  verdict_.errors.add({at.origin, at.where, section_, std::string(key), at.text, std::move(problem),
                       std::move(expected)});
}

void Checker::warn(const PlannedValue& at, std::string_view key, std::string_view problem) {
  if (verdict_.warnings.size() >= kWarningsMax) {
    ++warnings_left_out_;
    return;
  }
  verdict_.warnings.push_back(
      fmt::format("{}: {} {} = {}: {}", at.where, section_, key, at.text, problem));
}

std::optional<std::string_view> Checker::text_of(const PlannedCertificate::File& file, size_t index,
                                                 std::string_view key) {
  if (texts_.readable(index)) return texts_.text(index);
  error(file.value, key, std::string(texts_.text(index)));
  return std::nullopt;
}

X509* Checker::intermediate(const std::string& der) {
  const auto known = intermediates_.find(der);
  if (known != intermediates_.end()) return known->second.get();
  return intermediates_.emplace(der, x509_of_der(der)).first->second.get();
}

bool Checker::read_chain(const PlannedCertificate::File& file, const std::vector<std::string>& ders,
                         Pair& pair) {
  const X509* below = pair.leaf.get();
  bool in_order = true;
  for (size_t i = 1; i < ders.size(); ++i) {
    const X509* above = intermediate(ders[i]);
    if (above == nullptr) {
      error(file.value, "certificate",
            fmt::format("the certificate number {} in it cannot be understood: {}", i + 1,
                        take_openssl_error()));
      return false;
    }
    if (in_order && X509_NAME_cmp(X509_get_issuer_name(below), X509_get_subject_name(above)) != 0) {
      in_order = false;
      warn(file.value, "certificate",
           fmt::format("the certificate number {} in it is not the issuer of the one before it",
                       i + 1));
    }
    pair.entry.chain.push_back(ders[i]);
    below = above;
  }
  return true;
}

void Checker::describe(const PlannedCertificate::File& file, Pair& pair) {
  CertificateBundleWriter::Entry& entry = pair.entry;
  const X509* leaf = pair.leaf.get();
  entry.not_before = seconds_of(X509_get0_notBefore(leaf));
  entry.not_after = seconds_of(X509_get0_notAfter(leaf));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (X509_digest(leaf, EVP_sha256(), digest.data(), &size) == 1) {
    entry.fingerprint = hex(digest.data(), size);
  }
  const ASN1_INTEGER* serial = X509_get0_serialNumber(leaf);
  entry.serial =
      hex(ASN1_STRING_get0_data(serial), static_cast<size_t>(ASN1_STRING_length(serial)));
  entry.subject = name_text(X509_get_subject_name(leaf));
  entry.issuer = name_text(X509_get_issuer_name(leaf));
  if (entry.not_after <= now_) {
    warn(file.value, "certificate", "it has expired, at " + utc_text(entry.not_after));
  } else if (entry.not_before > now_) {
    warn(file.value, "certificate", "it is not valid before " + utc_text(entry.not_before));
  }
}

std::optional<Checker::Pair> Checker::read_pair(const PlannedCertificate::File& certificate,
                                                size_t first, const PlannedCertificate::File& key,
                                                size_t second) {
  const std::optional<std::string_view> pem = text_of(certificate, first, "certificate");
  const std::optional<std::string_view> key_pem = text_of(key, second, "key");
  Pair pair;
  std::vector<std::string> ders;
  if (pem) {
    Result<std::vector<std::string>> found = certificates_of_pem(*pem);
    if (found) {
      ders = std::move(*found);
      pair.leaf = x509_of_der(ders[0]);
      if (pair.leaf == nullptr || X509_get0_pubkey(pair.leaf.get()) == nullptr) {
        pair.leaf.reset();
        error(certificate.value, "certificate",
              "the certificate cannot be understood: " + take_openssl_error());
      }
    } else {
      error(certificate.value, "certificate", found.error().message,
            "expected: a PEM file with the certificate, then its chain");
    }
  }
  Result<KeyOwner> owner = key_pem ? key_of_pem(*key_pem) : Result<KeyOwner>(Error{});
  if (key_pem && !owner) {
    error(key.value, "key", owner.error().message,
          "expected: a PEM file with the private key, without a passphrase");
  }
  if (pair.leaf == nullptr || !owner) return std::nullopt;
  if (EVP_PKEY_eq(X509_get0_pubkey(pair.leaf.get()), owner->get()) != 1) {
    take_openssl_error();
    const bool is_other = std::any_of(ders.begin() + 1, ders.end(), [&](const std::string& der) {
      const X509* other = intermediate(der);
      return other != nullptr && EVP_PKEY_eq(X509_get0_pubkey(other), owner->get()) == 1;
    });
    take_openssl_error();
    error(key.value, "key",
          "the key does not belong to the certificate in " + certificate.value.text,
          is_other ? "it belongs to a later certificate of that file: the server's own has to be "
                     "the first"
                   : "expected: the key that the certificate was made for");
    return std::nullopt;
  }
  const Result<KeyKind> kind = kind_of(owner->get());
  if (!kind) {
    error(certificate.value, "certificate", kind.error().message,
          "expected: ECDSA on P-256, P-384 or P-521, RSA of 2048 bits or more, or Ed25519");
    return std::nullopt;
  }
  if (!read_chain(certificate, ders, pair)) return std::nullopt;
  pair.entry.kind = *kind;
  pair.entry.leaf = std::move(ders[0]);
  pair.entry.key = pack_key(*kind, **owner);
  describe(certificate, pair);
  return pair;
}

void Checker::add_ocsp(const PlannedCertificate::File& file, size_t index,
                       std::vector<Pair>& pairs) {
  const std::optional<std::string_view> der = text_of(file, index, "ocsp");
  if (!der) return;
  const Result<OcspFacts> facts = ocsp_facts(*der);
  if (!facts) {
    return error(file.value, "ocsp", facts.error().message,
                 "expected: an OCSP response in DER, as the issuer gives it");
  }
  for (Pair& pair : pairs) {
    const OcspFacts::Single* single = facts->about(*pair.leaf);
    if (single == nullptr) continue;
    if (single->next_update != 0) good_until_ = std::min(good_until_, single->next_update);
    if (single->revoked) warn(file.value, "ocsp", "it says that the certificate is revoked");
    if (single->next_update != 0 && single->next_update <= now_) {
      warn(file.value, "ocsp", "it is too old since " + utc_text(single->next_update));
    }
    pair.entry.ocsp = *der;
    return;
  }
  // Where a pair has its own problems, this one may be about that.
  if (verdict_.errors.empty()) {
    error(file.value, "ocsp", "it is about another certificate",
          "expected: a response about a certificate of this section");
  }
}

void Checker::add_names(const PlannedCertificate& planned, const std::vector<Pair>& pairs) {
  std::vector<std::string> in_leaves;
  for (const Pair& pair : pairs) {
    auto* list = static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(pair.leaf.get(), NID_subject_alt_name, nullptr, nullptr));
    for (int i = 0; i < sk_GENERAL_NAME_num(list); ++i) {
      const GENERAL_NAME* name = sk_GENERAL_NAME_value(list, i);
      if (name->type != GEN_DNS) continue;
      std::string text(as_text(name->d.dNSName));
      for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      if (!is_server_name(text)) continue;
      if (std::find(in_leaves.begin(), in_leaves.end(), text) == in_leaves.end()) {
        in_leaves.push_back(std::move(text));
      }
    }
    GENERAL_NAMES_free(list);
  }
  for (const PlannedValue& name : planned.names) {
    bundle_.add_name(name.text);
    const auto covers = [&name](const Pair& pair) {
      return X509_check_host(pair.leaf.get(), name.text.data(), name.text.size(), 0, nullptr) == 1;
    };
    if (std::find(in_leaves.begin(), in_leaves.end(), name.text) == in_leaves.end() &&
        (name.text.starts_with("*.") || !std::all_of(pairs.begin(), pairs.end(), covers))) {
      warn(name, "names", "the certificate is not made for this name");
    }
  }
  if (!planned.names.empty()) return;
  for (const std::string& name : in_leaves) bundle_.add_name(name);
}

// With the sizes, so that no two sections that differ have the same.
std::optional<BundleDigest> Checker::digest_of(const PlannedCertificate& planned) const {
  const DigestOwner context(EVP_MD_CTX_new());
  bool done = context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  const auto add = [&](std::string_view text) {
    const uint64_t size = text.size();
    done = done && EVP_DigestUpdate(context.get(), &size, sizeof(size)) == 1 &&
           EVP_DigestUpdate(context.get(), text.data(), text.size()) == 1;
  };
  const size_t pairs = planned.certificates.size();
  const size_t end = next_file_ + pairs + planned.keys.size() + planned.ocsp.size();
  for (size_t file = next_file_; file < end; ++file) {
    if (!texts_.readable(file)) return std::nullopt;
    add(texts_.text(file));
  }
  add(std::to_string(pairs));
  for (const PlannedValue& name : planned.names) add(name.text);
  BundleDigest digest{};
  if (!done || EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) return std::nullopt;
  return digest;
}

bool Checker::take_over(const PlannedCertificate& planned,
                        const std::optional<BundleDigest>& source) {
  const auto known = sections_before_.find(planned.name);
  if (known == sections_before_.end() || !source) return false;
  const BundleCertificate& section = *before_->certificate(known->second);
  if (section.source != *source || now_ < section.good_from || now_ >= section.good_until) {
    return false;
  }
  bundle_.copy_section(*before_, known->second);
  return true;
}

void Checker::check(const PlannedCertificate& planned) {
  const std::optional<BundleDigest> source = digest_of(planned);
  if (take_over(planned, source)) {
    next_file_ += planned.certificates.size() + planned.keys.size() + planned.ocsp.size();
  } else {
    check_anew(planned, source);
  }
}

void Checker::check_anew(const PlannedCertificate& planned,
                         const std::optional<BundleDigest>& source) {
  section_ = fmt::format("[certificate {}]", planned.name);
  good_until_ = INT64_MAX;
  const size_t warnings = verdict_.warnings.size() + warnings_left_out_;
  const size_t certificates = next_file_;
  const size_t keys = certificates + planned.certificates.size();
  const size_t ocsp = keys + planned.keys.size();
  next_file_ = ocsp + planned.ocsp.size();
  std::vector<Pair> pairs;
  for (size_t i = 0; i < std::min(planned.certificates.size(), planned.keys.size()); ++i) {
    std::optional<Pair> pair =
        read_pair(planned.certificates[i], certificates + i, planned.keys[i], keys + i);
    if (!pair) continue;
    const auto same = [&pair](const Pair& other) { return other.entry.kind == pair->entry.kind; };
    if (std::any_of(pairs.begin(), pairs.end(), same)) {
      error(planned.certificates[i].value, "certificate",
            fmt::format("the section has one with a key of this kind ({}) already",
                        key_kind_name(pair->entry.kind)),
            "expected: one of each kind; others in a section of their own");
      continue;
    }
    pairs.push_back(std::move(*pair));
  }
  for (size_t i = 0; i < planned.ocsp.size(); ++i) add_ocsp(planned.ocsp[i], ocsp + i, pairs);
  constexpr auto kRank = [](KeyKind kind) {
    return kind == KeyKind::kEcdsa ? 0 : kind == KeyKind::kEd25519 ? 1 : 2;
  };
  std::stable_sort(pairs.begin(), pairs.end(), [&](const Pair& a, const Pair& b) {
    return kRank(a.entry.kind) < kRank(b.entry.kind);
  });
  bundle_.add_section(planned.name);
  add_names(planned, pairs);
  int64_t good_from = 0;
  for (Pair& pair : pairs) {
    good_from = std::max(good_from, pair.entry.not_before);
    good_until_ = std::min(good_until_, pair.entry.not_after);
    bundle_.add_entry(pair.entry);
    OPENSSL_cleanse(pair.entry.key.data(), pair.entry.key.size());
  }
  const bool doubtful = verdict_.warnings.size() + warnings_left_out_ != warnings;
  if (source && !doubtful) bundle_.set_source(*source, good_from, good_until_);
}

CertificateVerdict Checker::finish(uint32_t edition) {
  if (warnings_left_out_ > 0) {
    verdict_.warnings.push_back(fmt::format("… and {} more warnings", warnings_left_out_));
  }
  if (!verdict_.errors.empty()) return std::move(verdict_);
  Result<std::string> bundle = bundle_.finish(edition);
  if (bundle) {
    verdict_.bundle = std::move(*bundle);
  } else {
    verdict_.errors.add({{}, "", "", "", "", bundle.error().message, ""});
  }
  return std::move(verdict_);
}

}  // namespace

CertificateVerdict check_certificates(const CertificatePlan& plan, const CertificateTexts& texts,
                                      uint32_t edition, int64_t now,
                                      const CertificateBundleView* before) {
  size_t files = 0;
  visit_certificate_files(plan, [&files](const PlannedCertificate::File&) { ++files; });
  if (files != texts.size()) {
    CertificateVerdict verdict;
    verdict.errors.add({{}, "", "", "", "", "other files were read than the plan names", ""});
    return verdict;
  }
  Checker checker(texts, now, before);
  for (const PlannedCertificate& planned : plan) checker.check(planned);
  return checker.finish(edition);
}

}  // namespace gatehouse
