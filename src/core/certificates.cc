// The set that serves, over a mapped bundle. See certificates.h.
#include "core/certificates.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "core/certificate_bundle.h"
#include "core/certificate_key.h"
#include "core/certificate_pem.h"
#include "core/log.h"
#include "core/openssl_owner.h"

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
  CertificateBundleView bundle;
  // Intermediate certificates are shared: thousands of leaves have the same few.
  mutable std::unordered_map<uint32_t, X509Owner> intermediates;         // by offset
  mutable std::unordered_map<uint32_t, std::unique_ptr<Parsed>> parsed;  // by entry

  std::string_view text(const BundleRange& range) const { return bundle.text(range); }

  CertificateEntry entry(uint32_t number) const {
    const BundleEntry& record = *bundle.entry(number);
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
    bool whole = true;
    bundle.each_link(record, [&](const BundleRange& range) {
      X509* link = intermediate(range);
      if (link == nullptr || sk_X509_push(made->chain.get(), link) == 0) {
        whole = false;
      } else {
        X509_up_ref(link);
      }
    });
    if (!whole) return nullptr;
    made->material = {made->leaf.get(), made->chain.get(), made->key.get(), text(record.ocsp)};
    return made;
  }
};

CertificateSet::CertificateSet(std::unique_ptr<State> state) : state_(std::move(state)) {}
CertificateSet::~CertificateSet() = default;

Result<std::shared_ptr<const CertificateSet>> CertificateSet::from_bundle(int fd) {
  Result<CertificateBundleView> bundle = CertificateBundleView::map(fd);
  if (!bundle) return bundle.error();
  auto state = std::make_unique<State>();
  state->bundle = std::move(*bundle);
  return std::shared_ptr<const CertificateSet>(new CertificateSet(std::move(state)));
}

uint32_t CertificateSet::edition() const {
  return state_->bundle.header().edition;
}

size_t CertificateSet::size() const {
  return state_->bundle.header().certificates.count;
}

uint64_t CertificateSet::sections_hash() const {
  return state_->bundle.header().sections_hash;
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
  if (const std::optional<uint32_t> exact = state_->bundle.find(scope, name)) return exact;
  // "*." is as long as the shortest label with its dot: the name's place has room for it.
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0) return std::nullopt;
  lower[dot - 1] = '*';
  return state_->bundle.find(scope, name.substr(dot - 1));
}

std::optional<CertificateEntry> CertificateSet::entry_for(uint32_t certificate,
                                                          KeyKinds kinds) const {
  std::optional<CertificateEntry> found;
  state_->bundle.each_entry(certificate, [&](uint32_t number) {
    if (found) return;
    const CertificateEntry entry = state_->entry(number);
    if (kinds.has(entry.kind)) found = entry;
  });
  return found;
}

std::string_view CertificateSet::name_of(uint32_t certificate) const {
  const BundleCertificate* section = state_->bundle.certificate(certificate);
  return section != nullptr ? state_->text(section->name) : std::string_view();
}

std::vector<std::string_view> CertificateSet::names_of(uint32_t certificate) const {
  std::vector<std::string_view> names;
  state_->bundle.each_name(certificate, [&](std::string_view name) { names.push_back(name); });
  return names;
}

std::vector<CertificateEntry> CertificateSet::entries_of(uint32_t certificate) const {
  std::vector<CertificateEntry> entries;
  state_->bundle.each_entry(certificate,
                            [&](uint32_t number) { entries.push_back(state_->entry(number)); });
  return entries;
}

std::vector<uint32_t> CertificateSet::changed_since(const CertificateSet& before) const {
  std::vector<uint32_t> changed;
  const auto contents = [](const State& state, uint32_t number) {
    std::vector<uint64_t> list;
    state.bundle.each_entry(
        number, [&](uint32_t entry) { list.push_back(state.bundle.entry(entry)->content); });
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
    const BundleEntry& record = *old.bundle.entry(number);
    const BundleCertificate* section = old.bundle.certificate(record.certificate);
    const BundleCertificate* here = state_->bundle.certificate(record.certificate);
    if (parsed == nullptr || section == nullptr || here == nullptr) continue;
    if (old.text(section->name) != state_->text(here->name)) continue;
    const uint32_t entry = here->first_entry + (number - section->first_entry);
    const BundleEntry* same = state_->bundle.entry(entry);
    if (same == nullptr || same->content != record.content) continue;
    parsed->material.ocsp = state_->text(same->ocsp);
    state_->parsed[entry] = std::move(parsed);
  }
  std::erase_if(old.parsed, [](const auto& entry) { return entry.second == nullptr; });
}

size_t CertificateSet::parsed() const {
  return state_->parsed.size();
}

const CertificateMaterial* CertificateSet::material(const CertificateEntry& entry) const {
  const auto known = state_->parsed.find(entry.number);
  if (known != state_->parsed.end()) return &known->second->material;
  const BundleEntry* record = state_->bundle.entry(entry.number);
  if (record == nullptr) return nullptr;
  std::unique_ptr<Parsed> made = state_->parse(*record);
  if (made == nullptr) {
    GH_LOG(kError, "certificate {}: cannot be parsed: {}", name_of(entry.certificate),
           take_openssl_error());
    return nullptr;
  }
  return &state_->parsed.emplace(entry.number, std::move(made)).first->second->material;
}

}  // namespace gatehouse
