// The certificate bundle: what a checked set of certificates is made of, in one sealed memfd.
//
// Written by the checker (core/certificate_check), read by the workers (core/certificates.h) and by
// the master, which lists it. All workers map the same pages, and begin to serve without reading
// more of them than they need: the tables are used where they are. Nothing in it is believed: every
// range is looked at before it is followed.
//
// Byte layout, of this machine's order; a range is an offset from the start and a size:
//
//     0  BundleHeader       magic, edition, size, hash of the sections' names, tables
//        BundleCertificate  for each section: name, its entries, its server names
//        BundleEntry        for each pair: dates, texts, DER of leaf and key, OCSP, its chain
//        BundleName         for each server name: text, section, the next of its slot
//        uint32_t           for each slot of the index (a power of two): its first name + 1, or 0
//        BundleRange        for each link of a chain: DER of an intermediate certificate
//        bytes              that the ranges mean; what is the same is there once
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificates.h"
#include "core/sealed_bytes.h"

namespace gatehouse {

inline constexpr size_t kCertificateBundleMax = size_t{1} << 30;

struct BundleRange {
  uint32_t at = 0;
  uint32_t size = 0;
};

struct BundleTable {
  uint32_t at = 0;
  uint32_t count = 0;
};

struct BundleHeader {
  std::array<char, 8> magic{};
  uint32_t edition = 0;
  uint32_t size = 0;
  uint64_t sections_hash = 0;
  BundleTable certificates, entries, names, slots, links;
};
inline constexpr std::array<char, 8> kBundleMagic = {'G', 'A', 'T', 'E', 'C', 'R', 'T', '1'};

using BundleDigest = std::array<uint8_t, 32>;

struct BundleCertificate {
  BundleRange name;
  uint32_t first_entry = 0, entries = 0;
  uint32_t first_name = 0, names = 0;
  // Of all that the section was made from (SHA-256), and when it may be taken over as it is where
  // that is the same: in [good_from, good_until), in seconds since 1970; never, where it was warned
  // of.
  BundleDigest source{};
  int64_t good_from = 0, good_until = 0;
};

struct BundleEntry {
  uint32_t certificate = 0;
  uint32_t kind = 0;  // KeyKind
  int64_t not_before = 0, not_after = 0;
  // Of leaf, chain, key and OCSP response: the same in two editions where all of these are.
  uint64_t content = 0;
  BundleRange fingerprint, serial, subject, issuer;
  BundleRange leaf, key, ocsp;
  uint32_t first_link = 0, links = 0;
};

struct BundleName {
  BundleRange text;
  uint32_t certificate = 0;
  uint32_t next = 0;  // of the same slot + 1, a larger number than its own; 0: none
};

// FNV-1a. The names are the operator's: nobody can send one that lengthens a slot.
constexpr uint64_t bundle_hash(std::string_view text, uint64_t hash = 0xcbf29ce484222325) {
  for (const char c : text) {
    hash ^= static_cast<uint8_t>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}
// Of the names of sections in their order: begin with kSectionsHash, add each.
inline constexpr uint64_t kSectionsHash = bundle_hash("");
constexpr uint64_t add_section_hash(uint64_t hash, std::string_view name) {
  return bundle_hash("\n", bundle_hash(name, hash));
}

// A bundle where it is mapped. What is out of its bounds is empty, or not there.
class CertificateBundleView {
 public:
  // Fails where it is not sealed, or its tables are not within it.
  static Result<CertificateBundleView> map(int fd);

  const BundleHeader& header() const { return header_; }
  std::string_view text(const BundleRange& range) const;
  // Null where there are not so many.
  const BundleCertificate* certificate(uint32_t number) const {
    return number < header_.certificates.count ? &certificates_[number] : nullptr;
  }
  const BundleEntry* entry(uint32_t number) const {
    return number < header_.entries.count ? &entries_[number] : nullptr;
  }
  // Calls visit(number) for the entries of a section, visit(text) for its names, and visit(range)
  // for the chain of an entry.
  template <typename Visit>
  void each_entry(uint32_t certificate_number, Visit visit) const {
    const BundleCertificate* section = certificate(certificate_number);
    if (section == nullptr) return;
    each(section->first_entry, section->entries, header_.entries.count, visit);
  }
  template <typename Visit>
  void each_name(uint32_t certificate_number, Visit visit) const {
    const BundleCertificate* section = certificate(certificate_number);
    if (section == nullptr) return;
    each(section->first_name, section->names, header_.names.count,
         [&](uint32_t i) { visit(text(names_[i].text)); });
  }
  template <typename Visit>
  void each_link(const BundleEntry& of, Visit visit) const {
    each(of.first_link, of.links, header_.links.count, [&](uint32_t i) { visit(links_[i]); });
  }
  // The first section of the scope that has exactly this name, in lower case.
  std::optional<uint32_t> find(const CertificateScope& scope, std::string_view name) const;

 private:
  bool open();
  template <typename T>
  bool find_table(const BundleTable& table, const T*& at) const;
  template <typename Visit>
  static void each(uint32_t first, uint32_t count, uint32_t all, Visit visit) {
    for (uint64_t i = first; i < uint64_t{first} + count && i < all; ++i) {
      visit(static_cast<uint32_t>(i));
    }
  }

  SealedView view_;
  BundleHeader header_;
  const BundleCertificate* certificates_ = nullptr;
  const BundleEntry* entries_ = nullptr;
  const BundleName* names_ = nullptr;
  const uint32_t* slots_ = nullptr;
  const BundleRange* links_ = nullptr;
};

// Collects what the check has found, and writes it.
class CertificateBundleWriter {
 public:
  struct Entry {
    KeyKind kind = KeyKind::kEcdsa;
    int64_t not_before = 0, not_after = 0;
    std::string fingerprint, serial, subject, issuer;
    std::string leaf, key, ocsp;     // DER; no ocsp: empty
    std::vector<std::string> chain;  // DER
  };
  // Each section in its order, even one without entries.
  void add_section(std::string_view name);
  // To the section that was added last.
  void add_entry(const Entry& entry);
  void add_name(std::string_view server_name);  // lower case
  void set_source(const BundleDigest& source, int64_t good_from, int64_t good_until);
  // Adds a section as it is in an edition before.
  void copy_section(const CertificateBundleView& from, uint32_t number);

  // Fails where it would be larger than kCertificateBundleMax.
  Result<std::string> finish(uint32_t edition);

 private:
  BundleRange keep(std::string_view bytes);
  BundleRange keep_shared(const std::string& bytes);

  std::vector<BundleCertificate> certificates_;
  std::vector<BundleEntry> entries_;
  std::vector<BundleName> names_;
  std::vector<BundleRange> links_;
  uint64_t sections_hash_ = kSectionsHash;
  std::string bytes_;  // ranges count from its beginning until finish()
  std::map<std::string, BundleRange> shared_;
};

}  // namespace gatehouse
