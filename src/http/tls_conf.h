// The settings of [listener] for TLS to clients, and their directive table (tls_conf.cc); what may
// be spoken is in core/tls_profile.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/directive.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

// Whether clients show certificates: an optional one has to be good where there is one.
enum class ClientCertificate : uint8_t { kOff, kOptional, kRequired };
// What becomes of a client that names no server, or one that no certificate is for.
enum class UnknownServerName : uint8_t { kDefault, kRefuse };

struct ListenerTlsConf {
  bool tls = false;
  std::vector<std::string> certificate;  // names of [certificate] sections; empty: all
  Duration handshake_timeout = std::chrono::seconds(10);
  Duration session_lifetime = std::chrono::hours(12);
  bool early_data = false;
  UnknownServerName unknown_server_name = UnknownServerName::kDefault;
  ClientCertificate client_certificate = ClientCertificate::kOff;
  std::string client_ca;
  std::string client_crl;
  uint32_t client_verify_depth = 4;
  std::optional<uint16_t> redirect_http;
};

extern const DirectiveTable kListenerTlsTable;

// Where a listener accepts connections: what it says; otherwise *:443 with TLS and *:80 without.
std::vector<SocketAddress> listener_addresses(const ConfigSection& listener);
// Where its redirect_http accepts: the same addresses with that port; none without the key.
std::vector<SocketAddress> redirect_addresses(const ConfigSection& listener);

template <>
struct ValueType<ClientCertificate> {
  static Result<ClientCertificate> parse(std::string_view text);
  static std::string format(const ClientCertificate& value);
  static std::string expected();
};

template <>
struct ValueType<UnknownServerName> {
  static Result<UnknownServerName> parse(std::string_view text);
  static std::string format(const UnknownServerName& value);
  static std::string expected();
};

}  // namespace gatehouse
