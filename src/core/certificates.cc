// The set that serves, over a mapped bundle. See certificates.h.
#include "core/certificates.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/certificate_bundle.h"
#include "core/certificate_key.h"
#include "core/certificate_pem.h"
#include "core/log.h"
#include "core/openssl_owner.h"
#include "core/sealed_bytes.h"

namespace gatehouse {
namespace {

constexpr size_t kServerNameMax = 255;

// What one entry was parsed to.
struct Parsed {
  X509Owner leaf;
  X509StackOwner chain;
  KeyOwner key;
  CertificateMaterial material;
};

KeyKind kind_of(const BundleEntry& record) {
  return record.kind <= static_cast<uint32_t>(KeyKind::kEd25519) ? static_cast<KeyKind>(record.kind)
                                                                 : KeyKind::kRsa;
}

}  // namespace

std::string_view key_kind_name(KeyKind kind) {
  switch (kind) {
    case KeyKind::kEcdsa:
      return "ecdsa";
    case KeyKind::kRsa:
      return "rsa";
    case KeyKind::kEd25519:
      return "ed25519";
  }
  return "?";
}

CertificateScope::CertificateScope(std::vector<uint32_t> numbers)
    : all_(false), fallback_(numbers.empty() ? 0 : numbers.front()), sorted_(std::move(numbers)) {
  std::sort(sorted_.begin(), sorted_.end());
}

bool CertificateScope::has(uint32_t number) const {
  return all_ || std::binary_search(sorted_.begin(), sorted_.end(), number);
}

struct CertificateSet::State {
  SealedView view;
  BundleHeader header;
  const BundleCertificate* certificates = nullptr;
  const BundleEntry* entries = nullptr;
  const BundleName* names = nullptr;
  const uint32_t* slots = nullptr;
  const BundleRange* links = nullptr;
  // Intermediate certificates are shared: thousands of leaves have the same few.
  mutable std::unordered_map<uint32_t, X509Owner> intermediates;         // by offset
  mutable std::unordered_map<uint32_t, std::unique_ptr<Parsed>> parsed;  // by entry

  std::string_view text(const BundleRange& range) const {
    const std::string_view bytes = view.bytes();
    if (range.at > bytes.size() || range.size > bytes.size() - range.at) return {};
    return bytes.substr(range.at, range.size);
  }

  template <typename T>
  bool find_table(const BundleTable& table, const T*& at) const {
    const std::string_view bytes = view.bytes();
    if (table.at % alignof(T) != 0 || table.at > bytes.size() ||
        table.count > (bytes.size() - table.at) / sizeof(T)) {
      return false;
    }
    at = reinterpret_cast<const T*>(bytes.data() + table.at);
    return true;
  }

  bool open() {
    const std::string_view bytes = view.bytes();
    if (bytes.size() < sizeof(header)) return false;
    std::memcpy(&header, bytes.data(), sizeof(header));
    return header.magic == kBundleMagic && header.size == bytes.size() &&
           find_table(header.certificates, certificates) && find_table(header.entries, entries) &&
           find_table(header.names, names) && find_table(header.slots, slots) &&
           find_table(header.links, links) && header.slots.count > 0 &&
           (header.slots.count & (header.slots.count - 1)) == 0;
  }

  const BundleCertificate* certificate(uint32_t number) const {
    return number < header.certificates.count ? &certificates[number] : nullptr;
  }

  CertificateEntry entry(uint32_t number) const {
    const BundleEntry& record = entries[number];
    CertificateEntry entry;
    entry.number = number;
    entry.certificate = record.certificate;
    entry.kind = kind_of(record);
    entry.has_ocsp = record.ocsp.size > 0;
    entry.not_before = record.not_before;
    entry.not_after = record.not_after;
    entry.fingerprint = text(record.fingerprint);
    entry.serial = text(record.serial);
    entry.subject = text(record.subject);
    entry.issuer = text(record.issuer);
    return entry;
  }

  template <typename Visit>
  void each_entry(uint32_t number, Visit visit) const {
    const BundleCertificate* section = certificate(number);
    if (section == nullptr) return;
    const uint64_t end = uint64_t{section->first_entry} + section->entries;
    for (uint64_t i = section->first_entry; i < std::min<uint64_t>(end, header.entries.count);
         ++i) {
      visit(static_cast<uint32_t>(i));
    }
  }

  std::optional<uint32_t> lookup(const CertificateScope& scope, std::string_view name) const {
    uint32_t next = slots[bundle_hash(name) & (header.slots.count - 1)];
    while (next != 0 && next <= header.names.count) {
      const BundleName& known = names[next - 1];
      if (text(known.text) == name && scope.has(known.certificate) &&
          known.certificate < header.certificates.count) {
        return known.certificate;
      }
      if (known.next <= next) break;
      next = known.next;
    }
    return std::nullopt;
  }

  X509* intermediate(const BundleRange& link) const {
    X509Owner& known = intermediates[link.at];
    if (known == nullptr) known = x509_of_der(text(link));
    return known.get();
  }

  std::unique_ptr<Parsed> parse(const BundleEntry& record) const {
    auto made = std::make_unique<Parsed>();
    made->leaf = x509_of_der(text(record.leaf));
    made->key = unpack_key(kind_of(record), text(record.key));
    made->chain.reset(sk_X509_new_null());
    if (made->leaf == nullptr || made->key == nullptr || made->chain == nullptr) return nullptr;
    const uint64_t end = uint64_t{record.first_link} + record.links;
    for (uint64_t i = record.first_link; i < std::min<uint64_t>(end, header.links.count); ++i) {
      X509* link = intermediate(links[i]);
      if (link == nullptr || sk_X509_push(made->chain.get(), link) == 0) return nullptr;
      X509_up_ref(link);
    }
    made->material = {made->leaf.get(), made->chain.get(), made->key.get(), text(record.ocsp)};
    return made;
  }
};

CertificateSet::CertificateSet(std::unique_ptr<State> state) : state_(std::move(state)) {}
CertificateSet::~CertificateSet() = default;

Result<std::shared_ptr<const CertificateSet>> CertificateSet::from_bundle(int fd) {
  Result<SealedView> view = SealedView::map(fd, kCertificateBundleMax);
  if (!view) return Error{"the certificates: " + view.error().message};
  auto state = std::make_unique<State>();
  state->view = std::move(*view);
  if (!state->open()) return Error{"the certificates' bundle is malformed"};
  return std::shared_ptr<const CertificateSet>(new CertificateSet(std::move(state)));
}

uint32_t CertificateSet::edition() const {
  return state_->header.edition;
}

size_t CertificateSet::size() const {
  return state_->header.certificates.count;
}

uint64_t CertificateSet::sections_hash() const {
  return state_->header.sections_hash;
}

std::optional<uint32_t> CertificateSet::find(const CertificateScope& scope,
                                             std::string_view server_name) const {
  std::array<char, kServerNameMax> lower;
  if (server_name.ends_with('.')) server_name.remove_suffix(1);
  if (server_name.empty() || server_name.size() > lower.size()) return std::nullopt;
  for (size_t i = 0; i < server_name.size(); ++i) {
    const char c = server_name[i];
    lower[i] = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  const std::string_view name(lower.data(), server_name.size());
  if (const std::optional<uint32_t> exact = state_->lookup(scope, name)) return exact;
  // "*." is as long as the shortest label with its dot: the name's place has room for it.
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0) return std::nullopt;
  lower[dot - 1] = '*';
  return state_->lookup(scope, name.substr(dot - 1));
}

std::optional<CertificateEntry> CertificateSet::entry_for(uint32_t certificate,
                                                          KeyKinds kinds) const {
  std::optional<CertificateEntry> found;
  state_->each_entry(certificate, [&](uint32_t number) {
    if (found) return;
    const CertificateEntry entry = state_->entry(number);
    if (kinds.has(entry.kind)) found = entry;
  });
  return found;
}

std::string_view CertificateSet::name_of(uint32_t certificate) const {
  const BundleCertificate* section = state_->certificate(certificate);
  return section != nullptr ? state_->text(section->name) : std::string_view();
}

std::vector<std::string_view> CertificateSet::names_of(uint32_t certificate) const {
  std::vector<std::string_view> names;
  const BundleCertificate* section = state_->certificate(certificate);
  if (section == nullptr) return names;
  const uint64_t end = uint64_t{section->first_name} + section->names;
  for (uint64_t i = section->first_name; i < std::min<uint64_t>(end, state_->header.names.count);
       ++i) {
    names.push_back(state_->text(state_->names[i].text));
  }
  return names;
}

std::vector<CertificateEntry> CertificateSet::entries_of(uint32_t certificate) const {
  std::vector<CertificateEntry> entries;
  state_->each_entry(certificate,
                     [&](uint32_t number) { entries.push_back(state_->entry(number)); });
  return entries;
}

std::vector<uint32_t> CertificateSet::changed_since(const CertificateSet& before) const {
  std::vector<uint32_t> changed;
  const auto contents = [](const State& state, uint32_t number) {
    std::vector<uint64_t> list;
    state.each_entry(number, [&](uint32_t entry) { list.push_back(state.entries[entry].content); });
    return list;
  };
  for (uint32_t number = 0; number < size(); ++number) {
    if (contents(*state_, number) != contents(*before.state_, number)) changed.push_back(number);
  }
  return changed;
}

// Entries are found again by their place in their section.
void CertificateSet::adopt_parsed(const CertificateSet& before) const {
  const State& old = *before.state_;
  for (auto& [number, parsed] : old.parsed) {
    const BundleEntry& record = old.entries[number];
    const BundleCertificate* section = old.certificate(record.certificate);
    const BundleCertificate* here = state_->certificate(record.certificate);
    if (parsed == nullptr || section == nullptr || here == nullptr) continue;
    if (old.text(section->name) != state_->text(here->name)) continue;
    const uint64_t entry = uint64_t{here->first_entry} + (number - section->first_entry);
    if (entry >= state_->header.entries.count) continue;
    const BundleEntry& same = state_->entries[entry];
    if (same.content != record.content) continue;
    parsed->material.ocsp = state_->text(same.ocsp);
    state_->parsed[static_cast<uint32_t>(entry)] = std::move(parsed);
  }
  std::erase_if(old.parsed, [](const auto& entry) { return entry.second == nullptr; });
}

size_t CertificateSet::parsed() const {
  return state_->parsed.size();
}

const CertificateMaterial* CertificateSet::material(const CertificateEntry& entry) const {
  const auto known = state_->parsed.find(entry.number);
  if (known != state_->parsed.end()) return &known->second->material;
  if (entry.number >= state_->header.entries.count) return nullptr;
  std::unique_ptr<Parsed> made = state_->parse(state_->entries[entry.number]);
  if (made == nullptr) {
    GH_LOG(kError, "certificate {}: cannot be parsed: {}", name_of(entry.certificate),
           take_openssl_error());
    return nullptr;
  }
  return &state_->parsed.emplace(entry.number, std::move(made)).first->second->material;
}

}  // namespace gatehouse
