// The directive table of [certificate NAME].
#include "core/certificate_conf.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/certificate_bundle.h"

namespace gatehouse {
namespace {

constexpr size_t kNameBytesMax = 253;  // RFC 1035 §2.3.4
constexpr size_t kLabelBytesMax = 63;

void check_certificate(const CertificateConf& conf, SectionErrors& errors) {
  const size_t certificates = conf.certificate.size();
  const size_t keys = conf.key.size();
  if (certificates == 0 || keys == 0 || certificates == keys) return;
  if (keys < certificates) {
    errors.add("certificate", "this certificate has no key",
               "expected: a key for each certificate, in the same order", keys);
  } else {
    errors.add("key", "this key has no certificate",
               "expected: a key for each certificate, in the same order", certificates);
  }
}

constexpr Directive kCertificateDirectives[] = {
    directive<&CertificateConf::certificate>(
        "certificate",
        "A PEM file with the certificate and, after it, the intermediate ones that lead to its "
        "issuer. With a second pair of certificate and key an ECDSA and an RSA certificate serve "
        "side by side, to each client what it understands. Relative to the file that says it.",
        "/etc/letsencrypt/live/example.com/fullchain.pem", DirectiveFlag::kRequired,
        expects("the path of a PEM file")),
    directive<&CertificateConf::key>(
        "key",
        "A PEM file with the private key of the certificate in the same place, without a "
        "passphrase. Only the master opens it, with the rights that it was started with; it may be "
        "the same file.",
        "/etc/letsencrypt/live/example.com/privkey.pem", DirectiveFlag::kRequired,
        expects("the path of a PEM file")),
    directive<&CertificateConf::names>(
        "names",
        "The server names that clients are shown this certificate for. Without it: the names that "
        "are in the certificate.",
        "example.com *.example.com"),
    directive<&CertificateConf::ocsp>(
        "ocsp",
        "A file with the OCSP response for the certificate (or for one of them), in DER as the "
        "issuer gives it, which is stapled to handshakes.",
        "/etc/gatehouse/example.com.ocsp", expects("the path of a file")),
};

}  // namespace

constexpr DirectiveTable kCertificateTable =
    directive_table<CertificateConf, check_certificate>("certificate", kCertificateDirectives);

void add_certificate_section(Schema& schema) {
  schema.add_section("certificate", NameRule::kRequired,
                     "A certificate with its key: for listeners, and for upstreams that want one.");
  schema.add_table(&kCertificateTable);
}

std::optional<uint32_t> certificate_number(const Config& config, std::string_view name) {
  const auto sections = config.sections("certificate");
  const ConfigSection* found = config.find("certificate", name);
  if (found == nullptr) return std::nullopt;
  return static_cast<uint32_t>(found - sections.data());
}

CertificatePlan certificate_plan_of(const ConfigSource& source, const Config& config) {
  CertificatePlan plan;
  for (const ConfigSection& section : config.sections("certificate")) {
    const auto& conf = section.get<CertificateConf>(kCertificateTable);
    const auto value = [&](std::string_view key, const std::string& text, size_t entry) {
      const Origin origin = section.origin_of(kCertificateTable, key, entry);
      return PlannedValue{text, origin, section.where(origin)};
    };
    const auto add = [&](std::string_view key, const std::vector<std::string>& paths,
                         std::vector<PlannedCertificate::File>& files) {
      for (size_t i = 0; i < paths.size(); ++i) {
        PlannedCertificate::File file{value(key, paths[i], i), {}};
        file.path = source.path_at(file.value.origin, paths[i]);
        files.push_back(std::move(file));
      }
    };
    PlannedCertificate planned;
    planned.name = section.name();
    add("certificate", conf.certificate, planned.certificates);
    add("key", conf.key, planned.keys);
    add("ocsp", conf.ocsp, planned.ocsp);
    for (size_t i = 0; i < conf.names.size(); ++i) {
      planned.names.push_back(value("names", conf.names[i].text, i));
    }
    plan.push_back(std::move(planned));
  }
  return plan;
}

uint64_t sections_hash_of(const Config& config) {
  uint64_t hash = kSectionsHash;
  for (const ConfigSection& section : config.sections("certificate")) {
    hash = add_section_hash(hash, section.name());
  }
  return hash;
}

bool is_server_name(std::string_view text) {
  if (text.starts_with("*.")) text.remove_prefix(2);
  if (text.empty() || text.size() > kNameBytesMax) return false;
  size_t label = 0;
  for (const char c : text) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    // The underscore is no part of a host name, but of names that are in certificates.
    const bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!fits || ++label > kLabelBytesMax) return false;
  }
  return label > 0;
}

Result<ServerName> ValueType<ServerName>::parse(std::string_view text) {
  ServerName name{std::string(text)};
  for (char& c : name.text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (!is_server_name(name.text)) return Error{"not a server name"};
  return name;
}

std::string ValueType<ServerName>::format(const ServerName& value) {
  return value.text;
}

std::string ValueType<ServerName>::expected() {
  return "host names, or *. and a domain";
}

}  // namespace gatehouse
