// The TLS of a listener; see listener_tls.h.
#include "http/listener_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <climits>
#include <string>
#include <utility>

#include "core/certificate_conf.h"
#include "core/log.h"
#include "core/tls_trust.h"
#include "http/generation_builder.h"

namespace gatehouse {

namespace {

// The lists of protocols as ALPN has them: each with its length before it, best first.
constexpr std::string_view kProtocolsWithH2 = "\2h2\10http/1.1\10http/1.0";
constexpr std::string_view kProtocols = "\10http/1.1\10http/1.0";

// The most early data of a connection: a request head or two.
constexpr uint32_t kEarlyDataMax = 16 * 1024;

// The names that clients are told to have certificates from; null where there are none.
STACK_OF(X509_NAME) * authority_names(std::string_view pem) {
  STACK_OF(X509_NAME)* names = sk_X509_NAME_new_null();
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  while (X509* x509 = PEM_read_bio_X509_AUX(bio, nullptr, nullptr, nullptr)) {
    X509_NAME* name = X509_NAME_dup(X509_get_subject_name(x509));
    X509_free(x509);
    if (name == nullptr || sk_X509_NAME_push(names, name) == 0) X509_NAME_free(name);
  }
  BIO_free(bio);
  ERR_clear_error();
  return names;
}

}  // namespace

std::unique_ptr<ListenerTls> ListenerTls::compile(const ConfigSection& listener,
                                                  const Config& config, const ConfigSource& source,
                                                  bool http2, const CertificateHolder& certificates,
                                                  ConfigErrors& errors) {
  const auto& conf = listener.get<ListenerTlsConf>(kListenerTlsTable);
  std::unique_ptr<ListenerTls> tls(new ListenerTls(conf, certificates));
  if (!tls->choose_scope(listener, config, errors)) return nullptr;
  Result<TlsContext> context =
      make_tls_context(TlsRole::kServer, listener.get<TlsProfileConf>(kListenerTlsProfileTable));
  if (!context) {
    listener.report(errors, kListenerTlsProfileTable, "tls_profile", context.error().message);
    return nullptr;
  }
  tls->context_ = std::move(*context);
  if (!tls->ask_clients(listener, source, errors)) return nullptr;
  tls->set_callbacks(http2);
  return tls;
}

ListenerTls::~ListenerTls() = default;

bool ListenerTls::choose_scope(const ConfigSection& listener, const Config& config,
                               ConfigErrors& errors) {
  const auto sections = config.sections("certificate");
  if (sections.empty()) {
    listener.report(errors, kListenerTlsTable, "tls", "there is no certificate to show",
                    "expected: a section [certificate NAME]");
    return false;
  }
  std::vector<uint32_t> numbers;
  for (size_t i = 0; i < conf_.certificate.size(); ++i) {
    const std::string& name = conf_.certificate[i];
    const std::optional<uint32_t> number = certificate_number(config, name);
    if (number) {
      numbers.push_back(*number);
      continue;
    }
    std::vector<std::string_view> names;
    for (const ConfigSection& section : sections) names.push_back(section.name());
    listener.report(errors, kListenerTlsTable, "certificate",
                    "there is no [certificate " + name + "]",
                    suggest_name(name, names, "the names of [certificate] sections"), i);
    return false;
  }
  if (!numbers.empty()) scope_ = CertificateScope(std::move(numbers));
  return true;
}

bool ListenerTls::ask_clients(const ConfigSection& listener, const ConfigSource& source,
                              ConfigErrors& errors) {
  // What a session was begun under: it is resumed only where the same is asked of clients.
  std::string terms = "gatehouse";
  if (conf_.client_certificate != ClientCertificate::kOff && !conf_.client_ca.empty()) {
    const auto read = [&](std::string_view key, const std::string& path, std::string_view* text) {
      if (path.empty()) return true;
      Result<std::string_view> bytes =
          source.attachment(path, listener.origin_of(kListenerTlsTable, key), kMaxAuthorities);
      if (bytes) {
        *text = *bytes;
        return true;
      }
      listener.report(errors, kListenerTlsTable, key, bytes.error().message);
      return false;
    };
    std::string_view authorities;
    std::string_view lists;
    if (!read("client_ca", conf_.client_ca, &authorities)) return false;
    if (!read("client_crl", conf_.client_crl, &lists)) return false;
    Result<TlsTrust> trust = load_trust(authorities);
    if (!trust) {
      listener.report(errors, kListenerTlsTable, "client_ca", trust.error().message);
      return false;
    }
    if (!conf_.client_crl.empty()) {
      trust = lists.empty() ? Result<TlsTrust>(Error{"there is no revocation list in it"})
                            : load_trust(authorities, lists);
      if (!trust) {
        listener.report(errors, kListenerTlsTable, "client_crl", trust.error().message);
        return false;
      }
    }
    SSL_CTX_set1_cert_store(context_.get(), trust->get());
    // Not the context's verifying of chains alone: without it OpenSSL builds the gateway's own
    // chain from these too.
    SSL_CTX_set_mode(context_.get(), SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_client_CA_list(context_.get(), authority_names(authorities));
    int mode = SSL_VERIFY_PEER;
    if (conf_.client_certificate == ClientCertificate::kRequired) {
      mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(context_.get(), mode, nullptr);
    SSL_CTX_set_verify_depth(context_.get(), static_cast<int>(conf_.client_verify_depth));
    terms += '/' + ValueType<ClientCertificate>::format(conf_.client_certificate) + '/' +
             std::to_string(conf_.client_verify_depth) + '/';
    terms += authorities;
    terms += '/';
    terms += lists;
  }
  unsigned char id[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(terms.data()), terms.size(), id);
  SSL_CTX_set_session_id_context(context_.get(), id, sizeof(id));
  return true;
}

void ListenerTls::set_callbacks(bool http2) {
  SSL_CTX* context = context_.get();
  protocols_ = http2 ? kProtocolsWithH2 : kProtocols;
  SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
  TlsLayer::lighten_context(context);
  // Who needs a ticket for each of several connections gets another with each that is resumed.
  SSL_CTX_set_num_tickets(context, 1);
  SSL_CTX_set_tlsext_servername_callback(context, &ListenerTls::on_server_name);
  SSL_CTX_set_tlsext_servername_arg(context, this);
  SSL_CTX_set_cert_cb(context, &ListenerTls::on_certificate, this);
  SSL_CTX_set_tlsext_status_cb(context, &ListenerTls::on_status);
  SSL_CTX_set_tlsext_status_arg(context, this);
  SSL_CTX_set_alpn_select_cb(context, &ListenerTls::on_alpn, this);
  if (conf_.early_data) {
    // Replays are met by what may be asked in it (http/exchange_run), not by remembering tickets:
    // no worker knows what the others have seen.
    SSL_CTX_set_options(context, SSL_OP_NO_ANTI_REPLAY);
    SSL_CTX_set_max_early_data(context, kEarlyDataMax);
    SSL_CTX_set_recv_max_early_data(context, kEarlyDataMax);
  }
  // Sessions live in tickets alone.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(
      context,
      static_cast<long>(
          std::chrono::duration_cast<std::chrono::seconds>(conf_.session_lifetime).count()));
}

void ListenerTls::use_ticket_keys(std::shared_ptr<TlsTicketKeys> keys) {
  ticket_keys_ = std::move(keys);
  ticket_keys_->use(context_.get());
}

void ListenerTls::refresh_fallback() {
  const CertificateSet* set = certificates_.get();
  if (set == nullptr || set->edition() == edition_) return;
  edition_ = set->edition();
  fallback_ready_ = true;
  std::vector<KeyKind> kinds;
  for (const CertificateEntry& entry : set->entries_of(scope_.fallback())) {
    const CertificateMaterial* material = set->material(entry);
    if (material == nullptr || SSL_CTX_use_cert_and_key(context_.get(), material->leaf,
                                                        material->key, material->chain, 1) != 1) {
      GH_LOG(kError, "certificate {}: {}", set->name_of(scope_.fallback()),
             tls_error("cannot be used").message);
      fallback_ready_ = false;
    }
    kinds.push_back(entry.kind);
  }
  // OpenSSL has no way to take a certificate out of a context: what another reading left there
  // would be shown, so each connection gets its own from now on.
  for (const KeyKind kind : fallback_kinds_) {
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) fallback_ready_ = false;
  }
  for (const KeyKind kind : kinds) {
    if (std::find(fallback_kinds_.begin(), fallback_kinds_.end(), kind) == fallback_kinds_.end()) {
      fallback_kinds_.push_back(kind);
    }
  }
}

Result<std::unique_ptr<TlsLayer>> ListenerTls::accept() {
  refresh_fallback();
  return TlsLayer::server(context_.get());
}

bool ListenerTls::choose(const CertificateSet& set, SSL* ssl, uint32_t* number) const {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const std::optional<uint32_t> found = name != nullptr ? set.find(scope_, name) : std::nullopt;
  *number = found.value_or(scope_.fallback());
  return found || conf_.unknown_server_name == UnknownServerName::kDefault;
}

int ListenerTls::on_server_name(SSL* ssl, int* alert, void* self) {
  const auto* tls = static_cast<const ListenerTls*>(self);
  const CertificateSet* set = tls->certificates_.get();
  uint32_t number = 0;
  if (set != nullptr && tls->choose(*set, ssl, &number)) return SSL_TLSEXT_ERR_OK;
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool ListenerTls::put(SSL* ssl, const CertificateSet& set, uint32_t number) {
  SSL_certs_clear(ssl);
  bool some = false;
  for (const CertificateEntry& entry : set.entries_of(number)) {
    const CertificateMaterial* material = set.material(entry);
    some |= material != nullptr &&
            SSL_use_cert_and_key(ssl, material->leaf, material->key, material->chain, 1) == 1;
  }
  return some;
}

int ListenerTls::on_certificate(SSL* ssl, void* self) {
  const auto* tls = static_cast<const ListenerTls*>(self);
  const CertificateSet* set = tls->certificates_.get();
  uint32_t number = 0;
  if (set == nullptr || !tls->choose(*set, ssl, &number)) return 0;
  if (tls->fallback_ready_ && number == tls->scope_.fallback() && set->edition() == tls->edition_) {
    return 1;
  }
  return put(ssl, *set, number) ? 1 : 0;
}

int ListenerTls::on_status(SSL* ssl, void* self) {
  const auto* tls = static_cast<const ListenerTls*>(self);
  const CertificateSet* set = tls->certificates_.get();
  uint32_t number = 0;
  if (set == nullptr || !tls->choose(*set, ssl, &number)) return SSL_TLSEXT_ERR_NOACK;
  const X509* shown = SSL_get_certificate(ssl);
  for (const CertificateEntry& entry : set->entries_of(number)) {
    if (!entry.has_ocsp) continue;
    const CertificateMaterial* material = set->material(entry);
    if (material == nullptr || material->leaf != shown || material->ocsp.empty()) continue;
    void* copy = OPENSSL_memdup(material->ocsp.data(), material->ocsp.size());
    if (copy == nullptr) return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, static_cast<long>(material->ocsp.size()));
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_NOACK;
}

int ListenerTls::on_alpn(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                         const unsigned char* offered, unsigned offered_size, void* self) {
  const std::string_view ours = static_cast<const ListenerTls*>(self)->protocols_;
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(
          &found, chosen_size, reinterpret_cast<const unsigned char*>(ours.data()),
          static_cast<unsigned>(ours.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
    // RFC 7301 §3.2: a client that names none of ours means somebody else.
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace gatehouse
