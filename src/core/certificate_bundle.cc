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

Result<CertificateBundleView> CertificateBundleView::map(int fd) {
  Result<SealedView> view = SealedView::map(fd, kCertificateBundleMax);
  if (!view) return Error{"the certificates: " + view.error().message};
  CertificateBundleView bundle;
  bundle.view_ = std::move(*view);
  if (!bundle.open()) return Error{"the certificates' bundle is malformed"};
  return bundle;
}

template <typename T>
bool CertificateBundleView::find_table(const BundleTable& table, const T*& at) const {
  const std::string_view bytes = view_.bytes();
  if (table.at % alignof(T) != 0 || table.at > bytes.size() ||
      table.count > (bytes.size() - table.at) / sizeof(T)) {
    return false;
  }
  at = reinterpret_cast<const T*>(bytes.data() + table.at);
  return true;
}

bool CertificateBundleView::open() {
  const std::string_view bytes = view_.bytes();
  if (bytes.size() < sizeof(header_)) return false;
  std::memcpy(&header_, bytes.data(), sizeof(header_));
  return header_.magic == kBundleMagic && header_.size == bytes.size() &&
         find_table(header_.certificates, certificates_) && find_table(header_.entries, entries_) &&
         find_table(header_.names, names_) && find_table(header_.slots, slots_) &&
         find_table(header_.links, links_) && std::has_single_bit(header_.slots.count);
}

std::string_view CertificateBundleView::text(const BundleRange& range) const {
  const std::string_view bytes = view_.bytes();
  if (range.at > bytes.size() || range.size > bytes.size() - range.at) return {};
  return bytes.substr(range.at, range.size);
}

std::optional<uint32_t> CertificateBundleView::find(const CertificateScope& scope,
                                                    std::string_view name) const {
  uint32_t next = slots_[bundle_hash(name) & (header_.slots.count - 1)];
  while (next != 0 && next <= header_.names.count) {
    const BundleName& known = names_[next - 1];
    if (text(known.text) == name && scope.has(known.certificate) &&
        known.certificate < header_.certificates.count) {
      return known.certificate;
    }
    if (known.next <= next) break;
    next = known.next;
  }
  return std::nullopt;
}

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

void CertificateBundleWriter::set_source(const BundleDigest& source, int64_t good_from,
                                         int64_t good_until) {
  certificates_.back().source = source;
  certificates_.back().good_from = good_from;
  certificates_.back().good_until = good_until;
}

void CertificateBundleWriter::copy_section(const CertificateBundleView& from, uint32_t number) {
  const BundleCertificate& section = *from.certificate(number);
  add_section(from.text(section.name));
  set_source(section.source, section.good_from, section.good_until);
  from.each_name(number, [this](std::string_view name) { add_name(name); });
  from.each_entry(number, [&](uint32_t entry) {
    const BundleEntry& record = *from.entry(entry);
    Entry copy;
    copy.kind = static_cast<KeyKind>(record.kind);
    copy.not_before = record.not_before;
    copy.not_after = record.not_after;
    copy.fingerprint = from.text(record.fingerprint);
    copy.serial = from.text(record.serial);
    copy.subject = from.text(record.subject);
    copy.issuer = from.text(record.issuer);
    copy.leaf = from.text(record.leaf);
    copy.key = from.text(record.key);
    copy.ocsp = from.text(record.ocsp);
    from.each_link(record,
                   [&](const BundleRange& link) { copy.chain.emplace_back(from.text(link)); });
    add_entry(copy);
    OPENSSL_cleanse(copy.key.data(), copy.key.size());
  });
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
