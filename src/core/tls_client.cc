// TLS to a server; see tls_client.h.
#include "core/tls_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <utility>

#include "core/certificates.h"
#include "core/sockets.h"

namespace gatehouse {

namespace {

std::atomic<uint64_t> last_id{0};

// ALPN's list of protocols as it goes over the wire (RFC 7301 §3.1).
std::string alpn_list(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) {
    list += static_cast<char>(name.size());
    list += name;
  }
  return list;
}

// What `name` was verified as, which is what the SSL was told; see connect().
bool set_verified_name(SSL* ssl, const std::string& name) {
  if (IpAddress::parse(name)) {
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  }
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, name.c_str()) == 1;
}

}  // namespace

void TlsSessions::clear() {
  while (count_ > 0) SSL_SESSION_free(std::exchange(sessions_[--count_], nullptr));
}

SSL_SESSION* TlsSessions::take(const TlsClient& client, const std::string& name) {
  if (client_ != client.id_ || name_ != name) {
    clear();
    client_ = client.id_;
    name_ = name;
  }
  while (count_ > 0) {
    SSL_SESSION* session = std::exchange(sessions_[--count_], nullptr);
    const auto age = static_cast<long>(std::time(nullptr)) - SSL_SESSION_get_time(session);
    if (SSL_SESSION_is_resumable(session) != 0 && age >= 0 &&
        age < SSL_SESSION_get_timeout(session)) {
      return session;
    }
    SSL_SESSION_free(session);
  }
  return nullptr;
}

void TlsSessions::keep(SSL_SESSION* session) {
  if (count_ == kKept) {
    SSL_SESSION_free(sessions_[0]);
    std::move(sessions_.begin() + 1, sessions_.end(), sessions_.begin());
    --count_;
  }
  sessions_[count_++] = session;
}

Result<std::shared_ptr<const TlsClient>> TlsClient::create(const TlsClientSettings& settings) {
  Result<TlsContext> made = make_tls_context(TlsRole::kClient, settings.profile);
  if (!made) return made.error();
  SSL_CTX* context = made->get();
  const std::string alpn = alpn_list(settings.alpn);
  // Returns 0 for success, unlike its kin.
  if (!alpn.empty() &&
      SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(alpn.data()),
                              static_cast<unsigned>(alpn.size())) != 0) {
    return tls_error("cannot offer protocols");
  }
  if (settings.trust != nullptr) {
    SSL_CTX_set1_cert_store(context, settings.trust.get());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
  SSL_CTX_sess_set_new_cb(context, &TlsClient::on_new_session);
  return std::shared_ptr<const TlsClient>(new TlsClient(std::move(*made), settings.trust));
}

TlsClient::TlsClient(TlsContext context, TlsTrust trust)
    : context_(std::move(context)),
      trust_(std::move(trust)),
      id_(++last_id),
      verify_(trust_ != nullptr) {
  SSL_CTX_set_app_data(context_.get(), this);
}

TlsClient::~TlsClient() {
  // Connections may outlive it, and be sent tickets.
  SSL_CTX_sess_set_new_cb(context_.get(), nullptr);
}

Result<std::unique_ptr<TlsLayer>> TlsClient::connect(const std::string& name, TlsSessions* sessions,
                                                     const CertificateMaterial* certificate) const {
  Result<std::unique_ptr<TlsLayer>> layer = TlsLayer::client(context_.get(), name);
  if (!layer) return layer;
  SSL* ssl = (*layer)->ssl();
  if (verify_ && !set_verified_name(ssl, name)) {
    return tls_error("'" + name + "' cannot be a server name");
  }
  if (certificate != nullptr &&
      SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain, 1) != 1) {
    return tls_error("cannot use the client certificate");
  }
  (*layer)->user = sessions;
  if (sessions != nullptr) {
    if (SSL_SESSION* session = sessions->take(*this, name); session != nullptr) {
      SSL_set_session(ssl, session);
      SSL_SESSION_free(session);
    }
  }
  return layer;
}

int TlsClient::on_new_session(SSL* ssl, SSL_SESSION* session) {
  const TlsLayer* layer = TlsLayer::of(ssl);
  auto* sessions = static_cast<TlsSessions*>(layer->user);
  const auto* client = static_cast<const TlsClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (sessions == nullptr || sessions->client_ != client->id_) return 0;
  // A connection that was made for another name, before that of these sessions changed.
  if (!layer->server_name().empty() && layer->server_name() != sessions->name_) return 0;
  sessions->keep(session);
  return 1;  // the reference is ours now
}

}  // namespace gatehouse
