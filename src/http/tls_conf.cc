// The directive table of [listener] for TLS.
#include "http/tls_conf.h"

#include <string_view>

#include "core/process_conf.h"
#include "core/tls_ticket_keys.h"

namespace gatehouse {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr EnumName<ClientCertificate> kClientNames[] = {
    {ClientCertificate::kOff, "off"},
    {ClientCertificate::kOptional, "optional"},
    {ClientCertificate::kRequired, "required"},
};
constexpr EnumName<UnknownServerName> kUnknownNames[] = {
    {UnknownServerName::kDefault, "default"},
    {UnknownServerName::kRefuse, "refuse"},
};
using ClientValue = EnumValueType<ClientCertificate, kClientNames>;
using UnknownValue = EnumValueType<UnknownServerName, kUnknownNames>;

void check_tls(const ListenerTlsConf& conf, SectionErrors& errors) {
  if (!conf.tls) {
    if (!conf.certificate.empty()) {
      errors.add("certificate", "a listener without TLS shows no certificate",
                 "expected: tls = on");
    }
    if (conf.redirect_http) {
      errors.add("redirect_http", "there is no TLS here to send clients to", "expected: tls = on");
    }
    return;
  }
  const bool asks = conf.client_certificate != ClientCertificate::kOff;
  if (asks && conf.client_ca.empty()) {
    errors.add("client_certificate", "nobody is named whose certificates are good",
               "expected: client_ca = FILE");
  }
  if (!asks && !conf.client_ca.empty()) {
    errors.add("client_ca", "clients are asked for no certificate",
               "expected: client_certificate = required, or optional");
  }
  if (!asks && !conf.client_crl.empty()) {
    errors.add("client_crl", "clients are asked for no certificate",
               "expected: client_certificate = required, or optional");
  }
}

constexpr Directive kDirectives[] = {
    directive<&ListenerTlsConf::tls>(
        "tls", "Whether clients speak TLS here. Without an address it listens at *:443 then.",
        "on"),
    directive<&ListenerTlsConf::certificate>(
        "certificate",
        "The [certificate] sections that are shown here; all there are, where none is named. The "
        "first is shown where the client names no server, or one that no certificate is for.",
        "main other", DirectiveFlag::kWords, expects("the names of [certificate] sections")),
    directive<&ListenerTlsConf::handshake_timeout>("handshake_timeout",
                                                   "Time for a whole TLS handshake.", "10s",
                                                   range(milliseconds(1), hours(1))),
    directive<&ListenerTlsConf::session_lifetime>(
        "tls_session_lifetime",
        "How long a client may resume a session by its ticket. The keys of tickets change every 12 "
        "hours, and are common to all workers.",
        "1h", range(seconds(1), seconds(TlsTicketKeys::kTicketMax))),
    directive<&ListenerTlsConf::early_data>(
        "early_data",
        "Whether requests are taken that a client sends before the handshake is over (0-RTT). "
        "Whoever records them can send them again, so those whose method is not GET, HEAD, OPTIONS "
        "or TRACE are answered 425, and upstreams are told by Early-Data: 1.",
        "on"),
    directive<&ListenerTlsConf::unknown_server_name>(
        "unknown_server_name",
        "What becomes of a client that names no server, or one that no certificate is for: it is "
        "shown the first certificate, or refused.",
        "refuse"),
    directive<&ListenerTlsConf::client_certificate>(
        "client_certificate",
        "Whether clients are asked for a certificate. A required one must be there and good; an "
        "optional one must be good where there is one.",
        "required"),
    directive<&ListenerTlsConf::client_ca>(
        "client_ca",
        "A PEM file with the authorities whose client certificates are good. Relative to the file "
        "that says it.",
        "/etc/gatehouse/clients.pem", expects("the path of a PEM file")),
    directive<&ListenerTlsConf::client_crl>(
        "client_crl",
        "A PEM file with the revocation lists of these authorities: one for each that issued a "
        "certificate of a chain.",
        "/etc/gatehouse/clients.crl", expects("the path of a PEM file")),
    directive<&ListenerTlsConf::client_verify_depth>(
        "client_verify_depth",
        "How many certificates may stand between a client's and the authority's.", "1",
        range(0, 16)),
    directive<&ListenerTlsConf::redirect_http>(
        "redirect_http",
        "A port where clients that do not speak TLS are sent to the same URL with https, by 301 "
        "(GET and HEAD) or 308. The addresses are those of this listener.",
        "80", range(1, 65535)),
};

SocketAddress any_address(uint16_t port) {
  return SocketAddress::ip(IpAddress::v4(0), port);
}

}  // namespace

constexpr DirectiveTable kListenerTlsTable =
    directive_table<ListenerTlsConf, check_tls>("listener", kDirectives);

std::vector<SocketAddress> listener_addresses(const ConfigSection& listener) {
  const auto& conf = listener.get<ListenerSocketConf>(kListenerSocketTable);
  if (conf.address.empty() && listener.get<ListenerTlsConf>(kListenerTlsTable).tls) {
    return {any_address(443)};
  }
  return addresses_of(conf);
}

std::vector<SocketAddress> redirect_addresses(const ConfigSection& listener) {
  const auto& conf = listener.get<ListenerTlsConf>(kListenerTlsTable);
  std::vector<SocketAddress> addresses;
  if (!conf.tls || !conf.redirect_http) return addresses;
  for (SocketAddress address : listener_addresses(listener)) {
    if (address.is_unix()) continue;
    address.set_port(*conf.redirect_http);
    addresses.push_back(address);
  }
  return addresses;
}

Result<ClientCertificate> ValueType<ClientCertificate>::parse(std::string_view text) {
  return ClientValue::parse(text);
}
std::string ValueType<ClientCertificate>::format(const ClientCertificate& value) {
  return ClientValue::format(value);
}
std::string ValueType<ClientCertificate>::expected() {
  return ClientValue::expected();
}
Result<UnknownServerName> ValueType<UnknownServerName>::parse(std::string_view text) {
  return UnknownValue::parse(text);
}
std::string ValueType<UnknownServerName>::format(const UnknownServerName& value) {
  return UnknownValue::format(value);
}
std::string ValueType<UnknownServerName>::expected() {
  return UnknownValue::expected();
}

}  // namespace gatehouse
