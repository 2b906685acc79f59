// ListenerTls: the TLS of one listener in one generation.
//
// A context with what the listener's keys say: profile, protocols (ALPN), client certificates,
// tickets. The certificate is chosen for each handshake by the name the client asks for, from the
// set that serves at that moment (core/certificates.h), so that certificates are exchanged without
// touching this. The first certificate stands in the context itself, ready for every connection;
// others are put in while the handshake waits for them. Of a section with an ECDSA and an RSA
// certificate both are offered, and OpenSSL takes the first that the client can verify, ECDSA
// before RSA.
//
// Whoever shakes hands must hold the generation until that is over; connections do not need it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/certificates.h"
#include "core/config.h"
#include "core/config_errors.h"
#include "core/config_source.h"
#include "core/result.h"
#include "core/tls_layer.h"
#include "core/tls_profile.h"
#include "core/tls_ticket_keys.h"
#include "http/tls_conf.h"

namespace gatehouse {

class ListenerTls {
 public:
  // Of a listener with `tls = on`. Null where something is wrong, which `errors` has then.
  // `certificates` is the generation's, and `http2` whether that is offered.
  static std::unique_ptr<ListenerTls> compile(const ConfigSection& listener, const Config& config,
                                              const ConfigSource& source, bool http2,
                                              const CertificateHolder& certificates,
                                              ConfigErrors& errors);
  ~ListenerTls();
  ListenerTls(const ListenerTls&) = delete;
  ListenerTls& operator=(const ListenerTls&) = delete;

  // Tickets are sealed by these from now on; without them sessions are resumed by nobody else.
  void use_ticket_keys(std::shared_ptr<TlsTicketKeys> keys);

  // The server's side of a new connection. Fails where memory is short.
  Result<std::unique_ptr<TlsLayer>> accept();

  Duration handshake_timeout() const { return conf_.handshake_timeout; }

 private:
  ListenerTls(const ListenerTlsConf& conf, const CertificateHolder& certificates)
      : conf_(conf), certificates_(certificates) {}
  bool choose_scope(const ConfigSection& listener, const Config& config, ConfigErrors& errors);
  bool ask_clients(const ConfigSection& listener, const ConfigSource& source, ConfigErrors& errors);
  void set_callbacks(bool http2);
  // Puts the first certificate into the context, where it is not there already.
  void refresh_fallback();
  // Which section a client gets; false: it is to be refused.
  bool choose(const CertificateSet& set, SSL* ssl, uint32_t* number) const;
  static bool put(SSL* ssl, const CertificateSet& set, uint32_t number);

  static int on_server_name(SSL* ssl, int* alert, void* self);
  static int on_certificate(SSL* ssl, void* self);
  static int on_status(SSL* ssl, void* self);
  static int on_alpn(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                     const unsigned char* offered, unsigned offered_size, void* self);

  const ListenerTlsConf& conf_;  // inside the generation's Config
  const CertificateHolder& certificates_;
  CertificateScope scope_;
  TlsContext context_;
  std::shared_ptr<TlsTicketKeys> ticket_keys_;
  std::string_view protocols_;
  // Of which reading of the files the context has the first certificate; 0: of none.
  uint32_t edition_ = 0;
  bool fallback_ready_ = false;
  std::vector<KeyKind> fallback_kinds_;
};

}  // namespace gatehouse
