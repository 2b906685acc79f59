// Writing a bundle. See certificate_bundle.h.
#include "core/certificate_bundle.h"

#include <openssl/crypto.h>

#include <bit>
#include <cstring>
#include <utility>

namespace gatehouse {
namespace {

// Tables begin where their largest member may stand.
constexpr size_t kAlign = 8;

template <typename T>
BundleTable place(size_t& end, const std::vector<T>& table) {
  end = (end + kAlign - 1) / kAlign * kAlign;
  const BundleTable placed{static_cast<uint32_t>(end), static_cast<uint32_t>(table.size())};
  end += table.size() * sizeof(T);
  return placed;
}

template <typename T>
void put(std::string& out, const BundleTable& at, const std::vector<T>& table) {
  if (!table.empty()) std::memcpy(out.data() + at.at, table.data(), table.size() * sizeof(T));
}

}  // namespace

BundleRange CertificateBundleWriter::keep(std::string_view bytes) {
  const BundleRange range{static_cast<uint32_t>(bytes_.size()),
                          static_cast<uint32_t>(bytes.size())};
  bytes_ += bytes;
  return range;
}

// Issuers and their certificates are the same for many.
BundleRange CertificateBundleWriter::keep_shared(const std::string& bytes) {
  const auto known = shared_.find(bytes);
  if (known != shared_.end()) return known->second;
  return shared_.emplace(bytes, keep(bytes)).first->second;
}

void CertificateBundleWriter::add_section(std::string_view name) {
  BundleCertificate section;
  section.name = keep(name);
  section.first_entry = static_cast<uint32_t>(entries_.size());
  section.first_name = static_cast<uint32_t>(names_.size());
  certificates_.push_back(section);
  sections_hash_ = add_section_hash(sections_hash_, name);
}

void CertificateBundleWriter::add_entry(const Entry& entry) {
  BundleEntry record;
  record.certificate = static_cast<uint32_t>(certificates_.size() - 1);
  record.kind = static_cast<uint32_t>(entry.kind);
  record.not_before = entry.not_before;
  record.not_after = entry.not_after;
  record.content = bundle_hash(entry.ocsp, bundle_hash(entry.key, bundle_hash(entry.leaf)));
  record.fingerprint = keep(entry.fingerprint);
  record.serial = keep(entry.serial);
  record.subject = keep(entry.subject);
  record.issuer = keep_shared(entry.issuer);
  record.leaf = keep(entry.leaf);
  record.key = keep(entry.key);
  record.ocsp = keep(entry.ocsp);
  record.first_link = static_cast<uint32_t>(links_.size());
  record.links = static_cast<uint32_t>(entry.chain.size());
  for (const std::string& link : entry.chain) {
    links_.push_back(keep_shared(link));
    record.content = bundle_hash(link, record.content);
  }
  entries_.push_back(record);
  ++certificates_.back().entries;
}

void CertificateBundleWriter::add_name(std::string_view server_name) {
  BundleName name;
  name.text = keep(server_name);
  name.certificate = static_cast<uint32_t>(certificates_.size() - 1);
  names_.push_back(name);
  ++certificates_.back().names;
}

Result<std::string> CertificateBundleWriter::finish(uint32_t edition) {
  std::vector<uint32_t> slots(std::bit_ceil(names_.size() + names_.size() / 2 + 1));
  // Backwards, so that of equal names the one that was added first comes first.
  for (size_t i = names_.size(); i-- > 0;) {
    BundleName& name = names_[i];
    const std::string_view text(bytes_.data() + name.text.at, name.text.size);
    uint32_t& slot = slots[bundle_hash(text) & (slots.size() - 1)];
    name.next = std::exchange(slot, static_cast<uint32_t>(i + 1));
  }
  BundleHeader header;
  header.magic = kBundleMagic;
  header.edition = edition;
  header.sections_hash = sections_hash_;
  size_t end = sizeof(BundleHeader);
  header.certificates = place(end, certificates_);
  header.entries = place(end, entries_);
  header.names = place(end, names_);
  header.slots = place(end, slots);
  header.links = place(end, links_);
  if (end + bytes_.size() > kCertificateBundleMax) {
    return Error{"the certificates are larger than " + std::to_string(kCertificateBundleMax >> 20) +
                 "m together"};
  }
  const auto base = static_cast<uint32_t>(end);
  header.size = base + static_cast<uint32_t>(bytes_.size());
  const auto move = [base](BundleRange& range) { range.at += base; };
  for (BundleCertificate& section : certificates_) move(section.name);
  for (BundleName& name : names_) move(name.text);
  for (BundleRange& link : links_) move(link);
  for (BundleEntry& entry : entries_) {
    for (BundleRange* range : {&entry.fingerprint, &entry.serial, &entry.subject, &entry.issuer,
                               &entry.leaf, &entry.key, &entry.ocsp}) {
      move(*range);
    }
  }
  std::string out(end, '\0');
  std::memcpy(out.data(), &header, sizeof(header));
  put(out, header.certificates, certificates_);
  put(out, header.entries, entries_);
  put(out, header.names, names_);
  put(out, header.slots, slots);
  put(out, header.links, links_);
  out += bytes_;
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
  return out;
}

}  // namespace gatehouse
