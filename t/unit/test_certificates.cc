// The set that serves: found by name in its scope, parsed when asked for, exchanged for another;
// and a bundle that is not what the checker wrote is refused or gives nothing.
#include "core/certificates.h"

#include <criterion/criterion.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificate_bundle.h"
#include "core/sealed_bytes.h"
#include "made_certificates.h"

namespace {

using gatehouse::CertificateBundleWriter;
using gatehouse::CertificateEntry;
using gatehouse::CertificateHolder;
using gatehouse::CertificateMaterial;
using gatehouse::CertificateScope;
using gatehouse::CertificateSet;
using gatehouse::KeyKind;
using gatehouse::LoadedCertificates;
using gatehouse::Result;
using gatehouse::seal_bytes;
using gatehouse::UniqueFd;
using SetPtr = std::shared_ptr<const CertificateSet>;

// Sections with these server names and entries that cannot be parsed: the index alone.
SetPtr index_of(const std::vector<std::vector<std::string>>& sections) {
  CertificateBundleWriter writer;
  for (size_t i = 0; i < sections.size(); ++i) {
    writer.add_section("c" + std::to_string(i));
    for (const std::string& name : sections[i]) writer.add_name(name);
    writer.add_entry({KeyKind::kEcdsa, 1, 2, "fp", "01", "CN=a", "CN=b", "leaf", "key", "", {}});
  }
  const Result<std::string> bytes = writer.finish(7);
  cr_assert(bytes.ok());
  const Result<UniqueFd> fd = seal_bytes("test", *bytes);
  Result<SetPtr> set = CertificateSet::from_bundle(fd->get());
  cr_assert(set.ok());
  return *set;
}

int found(const SetPtr& set, std::string_view name, const CertificateScope& scope = {}) {
  const std::optional<uint32_t> number = set->find(scope, name);
  return number ? static_cast<int>(*number) : -1;
}

SetPtr set_of(const made::Collection& files, uint32_t edition = 1) {
  const Result<LoadedCertificates> loaded = files.load(edition);
  cr_assert(loaded.ok(), "%s", loaded ? "" : loaded.error().message.c_str());
  return loaded->bundle->set;
}

}  // namespace

TestSuite(certificates, .timeout = 60);

Test(certificates, exact_names_come_before_wildcards_and_the_first_section_before_later_ones) {
  const SetPtr set = index_of({{"*.example.com", "a.example.com"},
                               {"b.example.com", "*.b.example.com", "a.example.com"},
                               {"*.example.com", "c.example.com", "localhost"}});
  cr_assert_eq(set->edition(), 7);
  cr_assert_eq(set->size(), 3);
  cr_assert_eq(found(set, "a.example.com"), 0);
  cr_assert_eq(found(set, "b.example.com"), 1);
  cr_assert_eq(found(set, "C.Example.COM"), 2);
  cr_assert_eq(found(set, "other.example.com"), 0);
  cr_assert_eq(found(set, "x.b.example.com"), 1);
  cr_assert_eq(found(set, "localhost"), 2);
  cr_assert_eq(found(set, "a.example.com."), 0);
  // A wildcard stands for one label, and for one at all.
  for (const char* name : {"x.y.example.com", "example.com", ".example.com", "com", "", ".", "..",
                           "example.org", "*.example.org", "localhost.x"}) {
    cr_assert_eq(found(set, name), -1, "%s", name);
  }
  cr_assert_eq(found(set, std::string(255, 'a') + ".example.com"), -1);
  cr_assert_eq(found(set, std::string_view("a.example.com\0", 14)), -1);
}

Test(certificates, a_scope_hides_what_it_does_not_have) {
  const SetPtr set =
      index_of({{"*.example.com", "a.example.com"}, {"a.example.com"}, {"*.example.com"}});
  const CertificateScope second({1});
  const CertificateScope others({2, 1});
  cr_assert_eq(found(set, "a.example.com", second), 1);
  cr_assert_eq(found(set, "b.example.com", second), -1);
  cr_assert_eq(found(set, "b.example.com", others), 2);
  cr_assert_eq(others.fallback(), 2);
  cr_assert_eq(CertificateScope().fallback(), 0);
  cr_assert(CertificateScope().has(77) && !others.has(0));
}

Test(certificates, thousands_of_names_are_found) {
  std::vector<std::vector<std::string>> sections(5000);
  for (size_t i = 0; i < sections.size(); ++i) {
    sections[i] = {"h" + std::to_string(i) + ".test", "*.w" + std::to_string(i) + ".test"};
  }
  const SetPtr set = index_of(sections);
  for (size_t i = 0; i < sections.size(); ++i) {
    cr_assert_eq(found(set, sections[i][0]), static_cast<int>(i));
    cr_assert_eq(found(set, "x.w" + std::to_string(i) + ".test"), static_cast<int>(i));
  }
}

Test(certificates, are_parsed_when_asked_for_and_belong_together) {
  const made::Identity root = made::identity({.subject = "root"});
  const made::Identity ec =
      made::identity({.subject = "ec", .names = {"a.test", "B.test"}, .issuer = &root});
  const made::Identity rsa = made::identity(
      {.subject = "rsa", .names = {"a.test"}, .kind = made::Kind::kRsa, .issuer = &root});
  const made::Identity ed =
      made::identity({.subject = "ed", .kind = made::Kind::kEd25519, .issuer = &root});
  made::Collection files;
  files.add(
      {"main",
       {{rsa.pem + root.pem, rsa.key_pem}, {ec.pem + root.pem, ec.key_pem}, {ed.pem, ed.key_pem}},
       {},
       {}});
  files.add("other", ec);
  const SetPtr set = set_of(files);
  cr_assert_eq(set->parsed(), 0);
  cr_assert(set->name_of(0) == "main" && set->name_of(1) == "other" && set->name_of(2).empty());
  const std::vector<CertificateEntry> entries = set->entries_of(0);
  cr_assert_eq(entries.size(), 3);
  cr_assert(entries[0].kind == KeyKind::kEcdsa && entries[1].kind == KeyKind::kEd25519 &&
            entries[2].kind == KeyKind::kRsa);
  cr_assert(entries[0].subject == "CN=ec" && entries[0].issuer == "CN=root");
  cr_assert_eq(entries[0].fingerprint.size(), 64);
  cr_assert_eq(entries[0].not_after - entries[0].not_before, 91 * 86400);
  cr_assert(set->names_of(0) == (std::vector<std::string_view>{"a.test", "b.test"}));
  cr_assert(set->entries_of(9).empty() && set->names_of(9).empty());

  const made::Identity* identities[] = {&ec, &ed, &rsa};
  for (size_t i = 0; i < 3; ++i) {
    const CertificateMaterial* material = set->material(entries[i]);
    cr_assert(material != nullptr);
    cr_assert_eq(X509_cmp(material->leaf, identities[i]->certificate.get()), 0);
    cr_assert_eq(EVP_PKEY_eq(material->key, identities[i]->key.get()), 1);
    cr_assert_eq(sk_X509_num(material->chain), i == 1 ? 0 : 1);
    cr_assert(set->material(entries[i]) == material);
  }
  // One intermediate certificate for both.
  cr_assert(sk_X509_value(set->material(entries[0])->chain, 0) ==
            sk_X509_value(set->material(entries[2])->chain, 0));
  cr_assert_eq(set->parsed(), 3);

  cr_assert(set->entry_for(0, {})->kind == KeyKind::kEcdsa);
  cr_assert(set->entry_for(0, {.ecdsa = false})->kind == KeyKind::kRsa);
  cr_assert(set->entry_for(0, {.ecdsa = false, .ed25519 = true})->kind == KeyKind::kEd25519);
  cr_assert(!set->entry_for(1, {.ecdsa = false}) && !set->entry_for(2, {}));
}

Test(certificates, a_new_edition_takes_over_what_is_the_same) {
  made::Identity kept = made::identity({.names = {"kept.test"}});
  made::Identity old = made::identity({.names = {"new.test"}});
  made::Identity fresh = made::identity({.names = {"new.test"}});
  made::Collection before;
  before.add("kept", kept);
  before.add("new", old);
  made::Collection after;
  after.add("kept", kept);
  after.add("new", fresh);
  CertificateHolder holder;
  cr_assert(holder.get() == nullptr);
  cr_assert(holder.exchange(set_of(before)) == nullptr);
  const X509* leaf = holder.get()->material(holder.get()->entries_of(0)[0])->leaf;
  const CertificateMaterial* gone = holder.get()->material(holder.get()->entries_of(1)[0]);
  // A connection has it.
  X509* in_use = gone->leaf;
  X509_up_ref(in_use);

  SetPtr last = holder.exchange(set_of(after, 2));
  const CertificateSet* set = holder.get();
  cr_assert(set->changed_since(*last) == std::vector<uint32_t>{1});
  cr_assert(set->changed_since(*set).empty());
  cr_assert(set->sections_hash() == last->sections_hash());
  set->adopt_parsed(*last);
  cr_assert_eq(set->parsed(), 1);
  cr_assert(set->material(set->entries_of(0)[0])->leaf == leaf);
  cr_assert_eq(X509_cmp(set->material(set->entries_of(1)[0])->leaf, fresh.certificate.get()), 0);
  // The one before parses what it gave away anew, where somebody still asks it.
  cr_assert_eq(X509_cmp(last->material(last->entries_of(0)[0])->leaf, kept.certificate.get()), 0);
  last.reset();
  cr_assert_eq(X509_cmp(in_use, old.certificate.get()), 0);
  X509_free(in_use);
}

Test(certificates, other_sections_have_another_hash) {
  CertificateBundleWriter writer;
  writer.add_section("a");
  writer.add_section("bc");
  CertificateBundleWriter other;
  other.add_section("ab");
  other.add_section("c");
  const Result<UniqueFd> one = seal_bytes("test", *writer.finish(1));
  const Result<UniqueFd> two = seal_bytes("test", *other.finish(1));
  cr_assert_neq((*CertificateSet::from_bundle(one->get()))->sections_hash(),
                (*CertificateSet::from_bundle(two->get()))->sections_hash());
}

// Each byte of the tables is spoilt in turn: nothing outside of the bundle is read (the sanitizers
// would see it), whatever is asked.
Test(certificates, a_spoilt_bundle_does_no_harm) {
  CertificateBundleWriter writer;
  for (int i = 0; i < 3; ++i) {
    writer.add_section("c" + std::to_string(i));
    writer.add_name("h" + std::to_string(i) + ".test");
    writer.add_name("*.test");
    writer.add_entry({KeyKind::kRsa, 1, 2, "fp", "01", "CN=a", "CN=b", "leaf", "key", "o", {"i"}});
  }
  const std::string whole = *writer.finish(1);
  cr_assert(!CertificateSet::from_bundle(seal_bytes("test", "")->get()).ok());
  for (size_t size = 1; size < whole.size(); size += 7) {
    const Result<UniqueFd> fd = seal_bytes("test", std::string_view(whole).substr(0, size));
    cr_assert(!CertificateSet::from_bundle(fd->get()).ok());
  }
  size_t opened = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char spoil : {'\xff', '\x01', '\x80'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ spoil);
      const Result<UniqueFd> fd = seal_bytes("test", bytes);
      const Result<SetPtr> set = CertificateSet::from_bundle(fd->get());
      if (!set) continue;
      ++opened;
      (void)(*set)->find({}, "h1.test");
      (void)(*set)->find({}, "x.test");
      for (uint32_t number = 0; number < 4; ++number) {
        (void)(*set)->name_of(number);
        (void)(*set)->names_of(number);
        (void)(*set)->entry_for(number, {});
        for (const CertificateEntry& entry : (*set)->entries_of(number)) {
          (void)(*set)->material(entry);
        }
      }
    }
  }
  cr_assert(opened > whole.size());
}

Test(certificates, only_sealed_bytes_are_taken) {
  const UniqueFd open_memfd(memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  cr_assert(write(open_memfd.get(), "GATECRT1", 8) == 8);
  cr_assert(!CertificateSet::from_bundle(open_memfd.get()).ok());
  cr_assert(!CertificateSet::from_bundle(-1).ok());
}
