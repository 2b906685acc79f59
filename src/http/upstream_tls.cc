// See upstream_tls.h.
#include "http/upstream_tls.h"

#include <algorithm>
#include <vector>

#include "core/certificate_conf.h"
#include "core/keyed_hash.h"
#include "core/tls_profile.h"
#include "http/target_set.h"
#include "http/target_transport.h"
#include "http/upstream_conf.h"
#include "http/upstream_connection.h"

namespace gatehouse {

namespace {

constexpr Directive kDirectives[] = {
    directive<&UpstreamTlsConf::verify>("tls_verify",
                                        "Whether an https target must prove its name to an "
                                        "authority that is believed. Without that "
                                        "anybody on the way may read and change what is sent.",
                                        "off"),
    directive<&UpstreamTlsConf::ca>(
        "tls_ca", "The authorities that are believed, a file in PEM; by default the system's.",
        "/etc/gatehouse/users-ca.pem"),
    directive<&UpstreamTlsConf::server_name>(
        "tls_server_name",
        "The name that https targets are asked for and have to prove; by default what stands in "
        "their URLs.",
        "users.internal"),
    directive<&UpstreamTlsConf::certificate>(
        "tls_certificate", "The [certificate] that proves to https targets who asks.", "gateway"),
};

void check(const UpstreamTlsConf& conf, SectionErrors& errors) {
  if (!conf.verify && !conf.ca.empty()) {
    errors.add("tls_ca", "nothing is verified, for tls_verify is off", "expected: one of both");
  }
  std::string name = conf.server_name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  if (!name.empty() && (!is_server_name(name) || name.starts_with('*'))) {
    errors.add("tls_server_name", "\"" + conf.server_name + "\" is not a host name",
               "expected: a name such as users.internal");
  }
}

constexpr DirectiveTable kTable = directive_table<UpstreamTlsConf, &check>("upstream", kDirectives);

std::vector<std::string> offered(UpstreamProtocol protocol) {
  switch (protocol) {
    case UpstreamProtocol::kH2:
      return {"h2"};
    case UpstreamProtocol::kHttp1:
      return {"http/1.1"};
    case UpstreamProtocol::kAuto:
      break;
  }
  return {"h2", "http/1.1"};
}

}  // namespace

constinit const DirectiveTable kUpstreamTlsTable = kTable;

std::shared_ptr<const UpstreamTls> make_upstream_tls(const Config& config,
                                                     const ConfigSource& source,
                                                     const ConfigSection& section, Origin origin,
                                                     ConfigErrors& errors) {
  const auto& conf = section.get<UpstreamTlsConf>(kUpstreamTlsTable);
  const auto& profile = section.get<TlsProfileConf>(kUpstreamTlsProfileTable);
  auto tls = std::make_shared<UpstreamTls>();
  tls->server_name = conf.server_name;
  if (!conf.certificate.empty()) {
    tls->certificate = certificate_number(config, conf.certificate);
    if (!tls->certificate) {
      section.report(errors, kUpstreamTlsTable, "tls_certificate",
                     "there is no [certificate " + conf.certificate + "]");
      return nullptr;
    }
  }
  TlsClientSettings settings;
  settings.profile = profile;
  std::string_view pem;
  if (conf.verify) {
    const std::string path = conf.ca.empty() ? kSystemAuthorities : conf.ca;
    const Origin where = conf.ca.empty() ? origin : section.origin_of(kUpstreamTlsTable, "tls_ca");
    const Result<std::string_view> text = source.attachment(path, where, kMaxAuthorities);
    // It comes with the next compiling.
    if (text && text->empty() && !source.wanted().empty()) return nullptr;
    Result<TlsTrust> trust = text ? load_trust(*text) : Result<TlsTrust>(text.error());
    if (!trust) {
      section.report(errors, kUpstreamTlsTable, "tls_ca", trust.error().message,
                     conf.ca.empty() ? "expected: tls_ca = a file with the authorities to believe"
                                     : "expected: a file with certificates of authorities, in PEM");
      return nullptr;
    }
    settings.trust = *trust;
    pem = *text;
  }
  if (section.is_broken()) return nullptr;
  const UpstreamProtocol protocol = section.get<UpstreamConf>(kUpstreamTable).spoken();
  settings.alpn = offered(protocol);
  const auto make = [&]() -> std::shared_ptr<const TlsClient> {
    Result<std::shared_ptr<const TlsClient>> client = TlsClient::create(settings);
    if (client) return *client;
    section.report(errors, kUpstreamTlsTable, {}, client.error().message);
    return nullptr;
  };
  tls->client = make();
  tls->http1 = tls->client;
  if (protocol == UpstreamProtocol::kAuto) {
    settings.alpn = offered(UpstreamProtocol::kHttp1);
    tls->http1 = make();
  }
  if (tls->client == nullptr || tls->http1 == nullptr) return nullptr;
  // Connections that were made under other settings are not used for these.
  std::string all = conf.server_name + '\n' + conf.certificate + '\n' + std::to_string(conf.verify);
  for (const Directive& directive : kUpstreamTlsProfileTable.directives) {
    for (const std::string& value : directive.show(&profile)) all += '\n' + value;
  }
  const auto digest = [](std::string_view text) {
    return std::to_string(siphash<2, 4>(HashKey{}, text.data(), text.size()));
  };
  tls->key = " tls " + digest(all) + ' ' + digest(pem);
  return tls;
}

std::string_view tls_name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.rfind(':'));
}

Result<std::unique_ptr<TlsLayer>> make_tls_layer(const UpstreamTarget& target,
                                                 const CertificateHolder& certificates,
                                                 bool http1_only) {
  const UpstreamTls& tls = *target.transport->tls;
  const CertificateMaterial* certificate = nullptr;
  if (tls.certificate) {
    const CertificateSet* const set = certificates.get();
    if (set == nullptr) return Error{"the certificate to show is not there"};
    const std::vector<CertificateEntry> entries = set->entries_of(*tls.certificate);
    if (!entries.empty()) certificate = set->material(entries.front());
    if (certificate == nullptr) return Error{"the certificate to show is not there"};
  }
  const std::string name =
      tls.server_name.empty() ? std::string(tls_name_of(target.host)) : tls.server_name;
  const bool shares_sessions = !http1_only || tls.http1 == tls.client;
  return (http1_only ? tls.http1 : tls.client)
      ->connect(name, shares_sessions ? &target.state->tls_sessions() : nullptr, certificate);
}

}  // namespace gatehouse
