// [certificate NAME]: what its values may be, and which files they mean.
#include "core/certificate_conf.h"

#include <criterion/criterion.h>

#include <string>

namespace {

using namespace gatehouse;  // NOLINT: the subject's names throughout

struct Bound {
  ConfigSource source;
  Config config;
};

Bound bound_from(const std::string& text) {
  Schema schema;
  add_certificate_section(schema);
  ConfigSource source = ConfigSource::from_text("/etc/gh/main.conf", text);
  ConfigErrors errors;
  Config config = Config::bind(source, schema, errors);
  cr_assert(errors.empty(), "%s", errors.text().c_str());
  return {std::move(source), std::move(config)};
}

}  // namespace

TestSuite(certificate_conf, .timeout = 20);

Test(certificate_conf, the_plan_has_paths_and_places) {
  const Bound bound = bound_from(
      "[certificate a]\ncertificate = tls/a.pem\nkey = /keys/a.key\nocsp = a.ocsp\n"
      "names = A.test *.a.test\n[certificate b]\ncertificate = b.pem\nkey = b.key\n"
      "certificate = c.pem\nkey = c.key\n");
  const CertificatePlan plan = certificate_plan_of(bound.source, bound.config);
  cr_assert_eq(plan.size(), 2);
  cr_assert(plan[0].name == "a" && plan[1].name == "b");
  const PlannedCertificate::File& file = plan[0].certificates[0];
  cr_assert(file.path == "/etc/gh/tls/a.pem" && file.value.text == "tls/a.pem");
  cr_assert(file.value.where == "/etc/gh/main.conf:2" && file.value.origin.line == 2);
  cr_assert(plan[0].keys[0].path == "/keys/a.key");
  cr_assert(plan[0].ocsp[0].path == "/etc/gh/a.ocsp");
  cr_assert(plan[0].names.size() == 2 && plan[0].names[0].text == "a.test" &&
            plan[0].names[1].text == "*.a.test");
  cr_assert(plan[1].certificates.size() == 2 && plan[1].keys[1].value.origin.line == 10);
  std::string order;
  visit_certificate_files(plan, [&order](const auto& each) { order += each.value.text + " "; });
  cr_assert_str_eq(order.c_str(), "tls/a.pem /keys/a.key a.ocsp b.pem c.pem b.key c.key ");
}

Test(certificate_conf, sections_have_numbers_and_a_hash) {
  const char* pair = "certificate = x\nkey = x\n";
  const std::string a = std::string("[certificate a]\n") + pair;
  const std::string b = std::string("[certificate b]\n") + pair;
  const Bound bound = bound_from(a + b);
  cr_assert(certificate_number(bound.config, "a") == 0u);
  cr_assert(certificate_number(bound.config, "b") == 1u);
  cr_assert(!certificate_number(bound.config, "c"));
  cr_assert(sections_hash_of(bound.config) == sections_hash_of(bound_from(a + b).config));
  cr_assert(sections_hash_of(bound.config) != sections_hash_of(bound_from(b + a).config));
  cr_assert(sections_hash_of(bound.config) != sections_hash_of(bound_from(a).config));
}

Test(certificate_conf, server_names) {
  for (const char* good : {"a", "a.b", "*.a.b", "xn--bcher-kva.example", "a_b.c", "1.2.3.4"}) {
    cr_assert(is_server_name(good), "%s", good);
  }
  for (const char* bad : {"", ".", "a.", ".a", "a..b", "*", "*.", "*a.b", "a.*.b", "A.b", "a b",
                          "a/b", "a:1", "[::1]",
                          "b\xc3\xbc"
                          "cher.example"}) {
    cr_assert(!is_server_name(bad), "%s", bad);
  }
  cr_assert(!is_server_name(std::string(64, 'a') + ".b"));
  cr_assert(is_server_name(std::string(63, 'a') + ".b"));
  std::string longest;
  while (longest.size() < 252) longest += "a.";
  longest += "b";
  cr_assert(is_server_name(longest) && !is_server_name("x" + longest));
}
