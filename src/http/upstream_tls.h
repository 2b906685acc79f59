// TLS to targets: the keys of [upstream] about it, and what is made of them.
//
//   [upstream users]
//   target          = https://10.0.1.11:8443
//   tls_ca          = /etc/gatehouse/users-ca.pem   # instead of the system's authorities
//   tls_server_name = users.internal                # instead of the target's own name
//   tls_certificate = gateway                       # [certificate gateway] proves who asks
//
// A target must prove its name (or address) to an authority that is believed, unless tls_verify is
// off. The certificate shown to it is the newest of its section, also after a swap of certificates
// alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/certificates.h"
#include "core/config.h"
#include "core/config_errors.h"
#include "core/directive.h"
#include "core/result.h"
#include "core/tls_client.h"

namespace gatehouse {

struct UpstreamTarget;

struct UpstreamTlsConf {
  bool verify = true;
  std::string ca;           // a PEM file; empty: the system's authorities
  std::string server_name;  // empty: the target's
  std::string certificate;  // the name of a [certificate]; empty: none is shown
};

extern const DirectiveTable kUpstreamTlsTable;

// What the targets of an upstream share. Any thread may make it.
struct UpstreamTls {
  std::shared_ptr<const TlsClient> client;  // offers what the upstream's protocol allows
  std::shared_ptr<const TlsClient> http1;   // offers HTTP/1.1 alone; may be the same
  std::string server_name;                  // empty: each target's own
  std::optional<uint32_t> certificate;      // its number among the sections
  std::string key;                          // differs where any of it does
};

// `section`: the [upstream] or the defaults; `origin`: what errors are about. Null where one was
// reported, or where a file is still to be fetched (ConfigSource::attachment).
std::shared_ptr<const UpstreamTls> make_upstream_tls(const Config& config,
                                                     const ConfigSource& source,
                                                     const ConfigSection& section, Origin origin,
                                                     ConfigErrors& errors);

// What a certificate must be for whose target is called so: HOST of HOST[:PORT], without brackets.
std::string_view tls_name_of(std::string_view host);

// The client's side of a connection to the target, before the first byte. REQUIRES: its transport
// speaks TLS.
Result<std::unique_ptr<TlsLayer>> make_tls_layer(const UpstreamTarget& target,
                                                 const CertificateHolder& certificates,
                                                 bool http1_only);

}  // namespace gatehouse
