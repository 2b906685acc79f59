// TLS to a server: whom to believe, which name it must prove, which session to go on with.
//
//   Result<std::shared_ptr<const TlsClient>> client = TlsClient::create(settings);   // once
//   Result<std::unique_ptr<TlsLayer>> layer = (*client)->connect(host, &target.sessions, material);
//   stream.start_tls(std::move(*layer));
//   const IoResult result = co_await stream.handshake(timeout);   // failed: layer->failure()
//
// Verification is on unless it is switched off: the chain has to lead to an authority, and the
// certificate has to be for the name (or address) that was asked for. Where ALPN was offered and
// the server chose nothing, alpn() is empty and HTTP/1.1 is meant.
//
// Sessions are kept per target (TlsSessions), a few of them, each used once as RFC 8446 §C.4 asks.
// They belong to the worker's thread. A session is only good for the TlsClient that made it and for
// the name that was verified then, so a target whose settings change begins without.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/tls_layer.h"
#include "core/tls_profile.h"
#include "core/tls_trust.h"

namespace gatehouse {

struct CertificateMaterial;
class TlsClient;

// The sessions of one target. Outlives the connections that were made with it.
class TlsSessions {
 public:
  TlsSessions() = default;
  TlsSessions(const TlsSessions&) = delete;
  TlsSessions& operator=(const TlsSessions&) = delete;
  ~TlsSessions() { clear(); }

  void clear();
  size_t size() const { return count_; }

 private:
  friend class TlsClient;
  static constexpr size_t kKept = 4;

  // The newest one that is still good, for one connection; null where there is none. From here on
  // they are those of `client` and `name`.
  SSL_SESSION* take(const TlsClient& client, const std::string& name);
  void keep(SSL_SESSION* session);

  uint64_t client_ = 0;  // whose they are: TlsClient::id_
  std::string name_;     // what was verified
  uint32_t count_ = 0;
  std::array<SSL_SESSION*, kKept> sessions_{};  // oldest first
};

struct TlsClientSettings {
  TlsProfileConf profile;
  TlsTrust trust;                 // null: nothing is verified
  std::vector<std::string> alpn;  // best first: {"h2", "http/1.1"}; empty: not offered
};

class TlsClient {
 public:
  // Fails where the profile names what OpenSSL does not know, or memory is short. Any thread.
  static Result<std::shared_ptr<const TlsClient>> create(const TlsClientSettings& settings);
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  ~TlsClient();

  // The client's side of one connection. `name` is what the certificate must be for, a host name or
  // an address; host names are sent as SNI. `sessions` may be null; otherwise it has to outlive the
  // layer. `certificate` is shown where the server asks for one; null: none.
  Result<std::unique_ptr<TlsLayer>> connect(const std::string& name, TlsSessions* sessions,
                                            const CertificateMaterial* certificate = nullptr) const;

  bool verifies() const { return verify_; }

 private:
  friend class TlsSessions;
  TlsClient(TlsContext context, TlsTrust trust);
  static int on_new_session(SSL* ssl, SSL_SESSION* session);

  TlsContext context_;
  TlsTrust trust_;
  uint64_t id_;
  bool verify_;
};

}  // namespace gatehouse
