// The sections [certificate NAME]: which files hold the certificates and keys.
//
// The files are opened by the master alone (core/certificate_bundle.h); a configuration that is
// compiled elsewhere knows their names and nothing of what is in them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificate_plan.h"
#include "core/config.h"
#include "core/config_source.h"
#include "core/directive.h"

namespace gatehouse {

// A host name, or "*." and a domain; lower case, without a dot at the end.
struct ServerName {
  std::string text;
  friend bool operator==(const ServerName&, const ServerName&) = default;
};

// Whether it could be one of the names that a certificate is shown for. `text` is lower case.
bool is_server_name(std::string_view text);

struct CertificateConf {
  std::vector<std::string> certificate;  // PEM: the leaf, then its chain
  std::vector<std::string> key;          // PEM: of the certificate in the same place
  std::vector<ServerName> names;         // empty: those in the leaves
  std::vector<std::string> ocsp;         // DER; each belongs to the certificate it is about
};

extern const DirectiveTable kCertificateTable;

// The number of [certificate NAME]: its place among these sections, as in core/certificates.h.
std::optional<uint32_t> certificate_number(const Config& config, std::string_view name);

// What the sections want read.
CertificatePlan certificate_plan_of(const ConfigSource& source, const Config& config);

// Tells whether a CertificateSet is about the sections of this configuration.
uint64_t sections_hash_of(const Config& config);

// Adds the section certificate.
void add_certificate_section(Schema& schema);

template <>
struct ValueType<ServerName> {
  static Result<ServerName> parse(std::string_view text);
  static std::string format(const ServerName& value);
  static std::string expected();
  static constexpr bool kWord = true;
};

}  // namespace gatehouse
