// What is wrong with files of certificates is said at its line, all of it at once; what is only
// doubtful is a warning.
#include "core/certificate_check.h"

#include <criterion/criterion.h>
#include <openssl/ocsp.h>

#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/sealed_bytes.h"
#include "expect_text.h"
#include "made_certificates.h"

namespace {

using gatehouse::CertificateBundleView;
using gatehouse::CertificateReader;
using gatehouse::CertificateTexts;
using gatehouse::CertificateVerdict;
using gatehouse::check_certificates;
using gatehouse::expect;
using gatehouse::LoadedCertificates;
using gatehouse::Result;
using gatehouse::UniqueFd;

std::string errors_of(const made::Collection& files) {
  const Result<LoadedCertificates> loaded = files.load();
  return loaded ? "none" : loaded.error().message;
}

std::vector<std::string> warnings_of(const made::Collection& files) {
  const Result<LoadedCertificates> loaded = files.load();
  cr_assert(loaded.ok(), "%s", loaded ? "" : loaded.error().message.c_str());
  return loaded->warnings;
}

// A response by `issuer` about `about`.
std::string ocsp(const made::Identity& about, const made::Identity& issuer,
                 int status = V_OCSP_CERTSTATUS_GOOD, long next_update_days = 7) {
  OCSP_BASICRESP* basic = OCSP_BASICRESP_new();
  OCSP_CERTID* id = OCSP_cert_to_id(EVP_sha1(), about.certificate.get(), issuer.certificate.get());
  ASN1_TIME* now = X509_gmtime_adj(nullptr, -1000000);
  ASN1_TIME* next = X509_gmtime_adj(nullptr, next_update_days * 86400);
  OCSP_basic_add1_status(basic, id, status, 0, status == V_OCSP_CERTSTATUS_REVOKED ? now : nullptr,
                         now, next);
  OCSP_basic_sign(basic, issuer.certificate.get(), issuer.key.get(), EVP_sha256(), nullptr, 0);
  OCSP_RESPONSE* response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  unsigned char* der = nullptr;
  const int size = i2d_OCSP_RESPONSE(response, &der);
  std::string bytes(reinterpret_cast<char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  OCSP_RESPONSE_free(response);
  ASN1_TIME_free(now);
  ASN1_TIME_free(next);
  OCSP_CERTID_free(id);
  OCSP_BASICRESP_free(basic);
  return bytes;
}

using Before = std::optional<CertificateBundleView>;

CertificateVerdict check(made::Collection& files, const Before& before, int64_t now) {
  Result<CertificateReader> reader = CertificateReader::start(files.plan());
  cr_assert(reader->read_until(gatehouse::Moment{INT64_MAX}).ok());
  const Result<UniqueFd> fd = reader->seal();
  const Result<CertificateTexts> texts = CertificateTexts::open(fd->get());
  return check_certificates(files.plan(), *texts, 1, now, before ? &*before : nullptr);
}

Before view_of(const std::string& bundle) {
  return std::move(*CertificateBundleView::map(gatehouse::seal_bytes("test", bundle)->get()));
}

}  // namespace

TestSuite(certificate_check, .timeout = 60);

Test(certificate_check, every_error_has_its_line_and_all_are_said) {
  const made::Identity ec = made::identity({.names = {"a.test"}});
  const made::Identity other = made::identity({.names = {"b.test"}});
  made::Collection files;
  files.add({"swapped", {{ec.pem, other.key_pem}}, {}, {}});
  files.add({"leaf_second", {{other.pem + ec.pem, ec.key_pem}}, {}, {}});
  files.add({"empty", {{"", ""}}, {}, {}});
  files.add({"cut", {{ec.pem.substr(0, ec.pem.size() / 2), ec.key_pem}}, {}, {}});
  files.add({"twice", {{ec.pem, ec.key_pem}, {other.pem, other.key_pem}}, {}, {}});
  files.add("fine", ec);
  files.plan()[5].keys[0].path = files.folder() + "/gone.key";
  files.plan()[5].keys[0].value.text = "gone.key";
  const std::string expected =
      "x.conf:2: [certificate swapped] key = swapped0.key: the key does not belong to the "
      "certificate in swapped0.pem\n"
      "    expected: the key that the certificate was made for\n"
      "x.conf:4: [certificate leaf_second] key = leaf_second0.key: the key does not belong to the "
      "certificate in leaf_second0.pem\n"
      "    it belongs to a later certificate of that file: the server's own has to be the first\n"
      "x.conf:5: [certificate empty] certificate = empty0.pem: there is no certificate in PEM form "
      "in it\n"
      "    expected: a PEM file with the certificate, then its chain\n"
      "x.conf:6: [certificate empty] key = empty0.key: there is no private key in PEM form in it\n"
      "    expected: a PEM file with the private key, without a passphrase\n"
      "x.conf:7: [certificate cut] certificate = cut0.pem: malformed PEM: bad end line\n"
      "    expected: a PEM file with the certificate, then its chain\n"
      "x.conf:11: [certificate twice] certificate = twice1.pem: the section has one with a key of "
      "this kind (ecdsa) already\n"
      "    expected: one of each kind; others in a section of their own\n"
      "x.conf:14: [certificate fine] key = gone.key: cannot open it: No such file or directory\n";
  expect(errors_of(files), expected);
}

Test(certificate_check, keys_that_clients_do_not_take_are_refused) {
  for (const auto& [kind, problem] :
       {std::pair{made::Kind::kRsaShort, "its RSA key has only 1024 bits"},
        std::pair{made::Kind::kBrainpool, "its key is on the curve brainpoolP256r1"}}) {
    made::Collection files;
    files.add("a", made::identity({.names = {"a.test"}, .kind = kind}));
    cr_assert(errors_of(files).find(problem) != std::string::npos, "%s", errors_of(files).c_str());
  }
}

Test(certificate_check, keys_come_in_every_form_but_behind_a_passphrase) {
  const made::Identity ec = made::identity({});
  const made::Identity rsa = made::identity({.kind = made::Kind::kRsa});
  const gatehouse::BioOwner out(BIO_new(BIO_s_mem()));
  // With the parameters before it, as `openssl ecparam -genkey` writes it.
  PEM_write_bio_PrivateKey_traditional(out.get(), ec.key.get(), nullptr, nullptr, 0, nullptr,
                                       nullptr);
  const std::string traditional =
      "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
      "-----END EC PARAMETERS-----\n" +
      made::text_of(out.get());
  const gatehouse::BioOwner rsa_out(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey_traditional(rsa_out.get(), rsa.key.get(), nullptr, nullptr, 0, nullptr,
                                       nullptr);
  made::Collection files;
  files.add({"ec", {{ec.pem, "text before\r\n" + traditional}}, {}, {}});
  files.add({"rsa", {{rsa.pem, made::text_of(rsa_out.get())}}, {}, {}});
  files.add({"one_file", {{ec.key_pem + ec.pem, ec.key_pem + ec.pem}}, {}, {}});
  expect(errors_of(files), "none");

  char passphrase[] = "secret";
  const gatehouse::BioOwner closed(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(closed.get(), ec.key.get(), EVP_aes_128_cbc(), passphrase, 6,
                                nullptr, nullptr);
  const gatehouse::BioOwner closed_rsa(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey_traditional(closed_rsa.get(), rsa.key.get(), EVP_aes_128_cbc(),
                                       reinterpret_cast<unsigned char*>(passphrase), 6, nullptr,
                                       nullptr);
  for (const std::string& key : {made::text_of(closed.get()), made::text_of(closed_rsa.get())}) {
    made::Collection locked;
    locked.add({"a", {{ec.pem, key}}, {}, {}});
    cr_assert(errors_of(locked).find("protected by a passphrase") != std::string::npos);
    cr_assert(errors_of(locked).find("secret") == std::string::npos);
  }
}

Test(certificate_check, what_is_doubtful_is_a_warning) {
  const made::Identity root = made::identity({.subject = "root"});
  const made::Identity stranger = made::identity({.subject = "stranger"});
  made::Collection files;
  files.add("old", made::identity({.starts_in_days = -9, .ends_in_days = -2}));
  files.add("early", made::identity({.starts_in_days = 2}));
  const made::Identity site = made::identity({.names = {"a.test", "*.w.test"}, .issuer = &root});
  files.add({"disorder", {{site.pem + stranger.pem, site.key_pem}}, {}, {}});
  files.add({"names",
             {{site.pem + root.pem, site.key_pem}},
             {"a.test", "x.w.test", "*.w.test", "b.test", "*.test"},
             {}});
  const std::vector<std::string> warnings = warnings_of(files);
  cr_assert_eq(warnings.size(), 5);
  cr_assert(warnings[0].starts_with(
      "x.conf:1: [certificate old] certificate = old0.pem: it has expired, at 20"));
  cr_assert(warnings[1].starts_with(
      "x.conf:3: [certificate early] certificate = early0.pem: it is not valid before 20"));
  expect(warnings[2],
         "x.conf:5: [certificate disorder] certificate = disorder0.pem: the certificate "
         "number 2 in it is not the issuer of the one before it");
  expect(
      warnings[3],
      "x.conf:12: [certificate names] names = b.test: the certificate is not made for this name");
  expect(
      warnings[4],
      "x.conf:13: [certificate names] names = *.test: the certificate is not made for this name");
}

Test(certificate_check, warnings_do_not_flood) {
  const made::Identity old = made::identity({.starts_in_days = -9, .ends_in_days = -2});
  made::Collection files;
  for (int i = 0; i < 50; ++i) files.add("c" + std::to_string(i), old);
  const std::vector<std::string> warnings = warnings_of(files);
  cr_assert_eq(warnings.size(), 21);
  expect(warnings.back(), "… and 30 more warnings");
}

Test(certificate_check, an_ocsp_response_goes_to_the_certificate_it_is_about) {
  const made::Identity root = made::identity({.subject = "root"});
  const made::Identity ec = made::identity({.names = {"a.test"}, .issuer = &root});
  const made::Identity rsa =
      made::identity({.names = {"a.test"}, .kind = made::Kind::kRsa, .issuer = &root});
  const std::string about_rsa = ocsp(rsa, root);
  made::Collection files;
  files.add({"both", {{ec.pem, ec.key_pem}, {rsa.pem, rsa.key_pem}}, {}, {about_rsa}});
  const Result<LoadedCertificates> loaded = files.load();
  cr_assert(loaded.ok() && loaded->warnings.empty());
  const gatehouse::CertificateSet& set = *loaded->bundle->set;
  cr_assert(!set.entries_of(0)[0].has_ocsp && set.entries_of(0)[1].has_ocsp);
  cr_assert(set.material(set.entries_of(0)[1])->ocsp == about_rsa);
  cr_assert(set.material(set.entries_of(0)[0])->ocsp.empty());

  made::Collection wrong;
  wrong.add({"a", {{ec.pem, ec.key_pem}}, {}, {about_rsa}});
  expect(errors_of(wrong),
         "x.conf:3: [certificate a] ocsp = a0.ocsp: it is about another certificate\n"
         "    expected: a response about a certificate of this section\n");
  made::Collection none;
  none.add({"a", {{ec.pem, ec.key_pem}}, {}, {ec.pem}});
  cr_assert(errors_of(none).find("it is no OCSP response") != std::string::npos);
  made::Collection late;
  late.add(
      {"a",
       {{ec.pem, ec.key_pem}},
       {},
       {ocsp(ec, root, V_OCSP_CERTSTATUS_GOOD, -1), ocsp(ec, root, V_OCSP_CERTSTATUS_REVOKED)}});
  const std::vector<std::string> warnings = warnings_of(late);
  cr_assert_eq(warnings.size(), 2);
  cr_assert(warnings[0].find("it is too old since 20") != std::string::npos);
  cr_assert(warnings[1].find("it says that the certificate is revoked") != std::string::npos);
}

Test(certificate_check, a_refused_load_leaves_no_bundle_and_an_empty_plan_wants_none) {
  made::Collection files;
  const Result<LoadedCertificates> loaded = files.load();
  cr_assert(loaded.ok() && loaded->bundle == nullptr && loaded->warnings.empty());
}

Test(certificate_check, what_has_not_changed_is_taken_over_and_makes_the_same_bundle) {
  const int64_t now = time(nullptr);
  const made::Identity root = made::identity({.subject = "root"});
  const made::Identity one = made::identity({.names = {"one.test", "*.one.test"}, .issuer = &root});
  const made::Identity two = made::identity({.names = {"two.test"}, .issuer = &root});
  const made::Identity rsa =
      made::identity({.names = {"two.test"}, .kind = made::Kind::kRsa, .issuer = &root});
  made::Collection files;
  files.add({"one", {{one.pem + root.pem, one.key_pem}}, {}, {ocsp(one, root)}});
  files.add({"two",
             {{two.pem + root.pem, two.key_pem}, {rsa.pem + root.pem, rsa.key_pem}},
             {"two.test"},
             {}});
  const std::string bundle = check(files, {}, now).bundle;
  cr_assert(!bundle.empty());
  const Before before = view_of(bundle);
  cr_assert(check(files, before, now).bundle == bundle);
  for (uint32_t number : {0u, 1u}) {
    const gatehouse::BundleCertificate& section = *before->certificate(number);
    cr_assert(section.good_from <= now && section.good_until > now);
  }
  // Until the OCSP response is too old, and the certificates are.
  cr_assert(before->certificate(0)->good_until < before->certificate(1)->good_until);
  cr_assert_eq(check(files, before, now + 8 * 86400).warnings.size(), 1);
  cr_assert_eq(check(files, before, now + 100 * 86400).warnings.size(), 4);
  cr_assert_eq(check(files, before, now - 2 * 86400).warnings.size(), 3);
}

Test(certificate_check, what_has_changed_in_any_way_is_looked_at_anew) {
  const int64_t now = time(nullptr);
  const made::Identity one = made::identity({.names = {"one.test"}});
  const made::Identity other = made::identity({.names = {"one.test"}});
  made::Collection files;
  files.add("a", one);
  const Before before = view_of(check(files, {}, now).bundle);
  made::Collection key;
  key.add({"a", {{one.pem, other.key_pem}}, {}, {}});
  cr_assert_eq(check(key, before, now).errors.count(), 1);
  made::Collection certificate;
  certificate.add("a", other);
  const CertificateVerdict changed = check(certificate, before, now);
  cr_assert(changed.errors.empty() && changed.bundle == check(certificate, {}, now).bundle);
  cr_assert(changed.bundle.find(one.key_pem) == std::string::npos);
  made::Collection names;
  names.add({"a", {{one.pem, one.key_pem}}, {"elsewhere.test"}, {}});
  const CertificateVerdict named = check(names, before, now);
  cr_assert_eq(named.warnings.size(), 1);
  // What was warned of is warned of again.
  cr_assert_eq(check(names, view_of(named.bundle), now).warnings.size(), 1);
  made::Collection broken;
  broken.add("a", one);
  broken.plan()[0].keys[0].path += ".gone";
  cr_assert_eq(check(broken, before, now).errors.count(), 1);
  made::Collection renamed;
  renamed.add("b", one);
  cr_assert(check(renamed, before, now).bundle == check(renamed, {}, now).bundle);
}
