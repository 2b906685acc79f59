// TLS to a server: what is believed and what is not, protocols, sessions that are used again.
#include "core/tls_client.h"

#include <criterion/criterion.h>
#include <openssl/ssl.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificates.h"
#include "core/stream.h"
#include "core/task.h"
#include "loopback.h"
#include "tls_certificate.h"

namespace gatehouse {
namespace {

using namespace loopback;
using std::chrono::milliseconds;
using tls_test::Certificate;

Task<IoResult> shake_hands(Stream& stream) {
  const IoResult result = co_await stream.handshake(kLong);
  co_return result;
}

// Chooses h2 where it is offered.
int choose(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
           unsigned in_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, reinterpret_cast<const unsigned char*>("\2h2"), 3, in,
                            in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

struct Fixture {
  Certificate authority{"", nullptr, true, "authority"};
  Certificate certificate{"DNS:a.example, DNS:*.b.example, IP:127.0.0.1", &authority};
  TlsContext server_context;
  std::unique_ptr<EventLoop> loop = make_loop();
  std::unique_ptr<Stream> server;
  std::unique_ptr<Stream> client;
  TlsSessions sessions;

  Fixture() {
    server_context = std::move(*make_tls_context(TlsRole::kServer, {}));
    certificate.use(server_context.get());
    SSL_CTX_set_alpn_select_cb(server_context.get(), &choose, nullptr);
  }
  TlsTrust trust() const {
    Result<TlsTrust> loaded = load_trust(authority.pem());
    cr_assert(loaded.ok());
    return *loaded;
  }
  static std::shared_ptr<const TlsClient> make(const TlsClientSettings& settings) {
    Result<std::shared_ptr<const TlsClient>> made = TlsClient::create(settings);
    cr_assert(made.ok(), "%s", made.error().message.c_str());
    return *made;
  }
  // One connection, whose tickets are read; what the client's handshake came to.
  IoResult connect(const TlsClient& tls, const std::string& name,
                   const CertificateMaterial* shown = nullptr) {
    const Listener listener;
    const int ours = listener.begin_connect();
    client = std::make_unique<Stream>(*loop, ours);
    server = std::make_unique<Stream>(*loop, listener.accept_one());
    cr_assert(client->open().ok() && server->open().ok());
    loop->turn(false);
    Result<std::unique_ptr<TlsLayer>> layer = TlsLayer::server(server_context.get());
    cr_assert(layer.ok());
    server->start_tls(std::move(*layer));
    layer = tls.connect(name, &sessions, shown);
    cr_assert(layer.ok(), "%s", layer.error().message.c_str());
    client->start_tls(std::move(*layer));
    Task<IoResult> one = shake_hands(*client);
    Task<IoResult> other = shake_hands(*server);
    one.start();
    other.start();
    cr_assert(turn_until(*loop, [&] { return one.done() && other.done(); }), "no handshake");
    turn_for(*loop, milliseconds(10));
    (void)client->may_read();
    return one.take();
  }
};

Test(tls_client, the_name_and_the_authority_have_to_be_right) {
  Fixture fixture;
  const auto tls = Fixture::make({.profile = {}, .trust = fixture.trust(), .alpn = {}});
  cr_assert(tls->verifies());
  for (const char* name : {"a.example", "x.b.example", "127.0.0.1"}) {
    cr_assert(fixture.connect(*tls, name).ok(), "%s: %s", name,
              fixture.client->tls()->failure().c_str());
  }
  for (const char* name : {"b.example", "x.y.b.example", "c.example"}) {
    cr_assert_eq(fixture.connect(*tls, name).status, IoStatus::kError, "%s", name);
    cr_assert_eq(fixture.client->tls()->failure(), "certificate verify failed: hostname mismatch");
  }
  cr_assert_eq(fixture.connect(*tls, "127.0.0.2").status, IoStatus::kError);
  cr_assert_eq(fixture.client->tls()->failure(), "certificate verify failed: IP address mismatch");
  // The same for an authority that nobody named.
  const Certificate other("", nullptr, true, "other authority");
  Result<TlsTrust> trust = load_trust(other.pem());
  cr_assert(trust.ok());
  const auto strict = Fixture::make({.profile = {}, .trust = *trust, .alpn = {}});
  cr_assert_eq(fixture.connect(*strict, "a.example").status, IoStatus::kError);
  cr_assert(fixture.client->tls()->failure().starts_with("certificate verify failed: unable"));
}

Test(tls_client, without_trust_any_certificate_does) {
  Fixture fixture;
  const auto tls = Fixture::make({});
  cr_assert_not(tls->verifies());
  cr_assert(fixture.connect(*tls, "whatever.example").ok());
  cr_assert_eq(fixture.server->tls()->server_name(), "whatever.example");
}

Test(tls_client, protocols_are_offered_and_one_is_chosen) {
  Fixture fixture;
  const auto both = Fixture::make({.profile = {}, .trust = {}, .alpn = {"h2", "http/1.1"}});
  cr_assert(fixture.connect(*both, "a.example").ok());
  cr_assert_eq(fixture.client->tls()->alpn(), "h2");
  const auto old = Fixture::make({.profile = {}, .trust = {}, .alpn = {"http/1.1"}});
  cr_assert(fixture.connect(*old, "a.example").ok());
  cr_assert_eq(fixture.client->tls()->alpn(), "");
}

Test(tls_client, sessions_are_used_once_each_and_only_for_their_name) {
  Fixture fixture;
  const auto tls = Fixture::make({.profile = {}, .trust = fixture.trust(), .alpn = {}});
  cr_assert(fixture.connect(*tls, "a.example").ok());
  cr_assert_not(fixture.client->tls()->resumed());
  cr_assert_eq(fixture.sessions.size(), 2u);  // as many tickets as OpenSSL gives
  for (int i = 0; i < 6; ++i) {
    cr_assert(fixture.connect(*tls, "a.example").ok());
    cr_assert(fixture.client->tls()->resumed(), "%d", i);
    cr_assert_geq(fixture.sessions.size(), 2u);
  }
  // Another name must be proven anew, also where it is the same server's.
  cr_assert(fixture.connect(*tls, "x.b.example").ok());
  cr_assert_not(fixture.client->tls()->resumed());
  cr_assert_eq(fixture.connect(*tls, "c.example").status, IoStatus::kError);
  cr_assert_eq(fixture.sessions.size(), 0u);
  // And so must everything where the settings are others.
  cr_assert(fixture.connect(*tls, "a.example").ok());
  const auto careless = Fixture::make({});
  cr_assert(fixture.connect(*careless, "a.example").ok());
  cr_assert_not(fixture.client->tls()->resumed());
  cr_assert(fixture.connect(*tls, "a.example").ok());
  cr_assert_not(fixture.client->tls()->resumed());
}

Test(tls_client, a_connection_outlives_its_client) {
  Fixture fixture;
  auto tls = Fixture::make({});
  cr_assert(fixture.connect(*tls, "a.example").ok());
  tls.reset();
  const size_t before = fixture.sessions.size();
  SSL_new_session_ticket(fixture.server->tls()->ssl());
  Task<IoResult> sending = shake_hands(*fixture.server);
  sending.start();
  turn_for(*fixture.loop, milliseconds(20));
  cr_assert_not(fixture.client->may_read());
  cr_assert_eq(fixture.sessions.size(), before);
}

Test(tls_client, a_certificate_is_shown_where_the_server_asks) {
  Fixture fixture;
  SSL_CTX_set_verify(fixture.server_context.get(),
                     SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set1_cert_store(fixture.server_context.get(), fixture.trust().get());
  SSL_CTX_set_max_proto_version(fixture.server_context.get(), TLS1_2_VERSION);
  const auto tls = Fixture::make({});
  cr_assert_eq(fixture.connect(*tls, "a.example").status, IoStatus::kError);
  Certificate own("DNS:client.example", &fixture.authority, false, "client");
  CertificateMaterial material;
  material.leaf = own.x509;
  material.key = own.key;
  cr_assert(fixture.connect(*tls, "a.example", &material).ok());
  X509* seen = SSL_get0_peer_certificate(fixture.server->tls()->ssl());
  cr_assert(seen != nullptr);
  cr_assert_eq(X509_cmp(seen, own.x509), 0);
}

Test(tls_client, trust_is_refused_where_it_is_none) {
  const Certificate authority("", nullptr, true, "authority");
  cr_assert_not(load_trust("").ok());
  cr_assert_not(load_trust("no certificate at all").ok());
  std::string broken = authority.pem();
  broken[100] = broken[100] == 'A' ? 'B' : 'A';
  broken.insert(120, "!!");
  cr_assert_not(load_trust(authority.pem() + broken).ok());
  cr_assert_not(load_trust(authority.pem(), "no list").ok());
  // The same text is the same store.
  Result<TlsTrust> one = load_trust(authority.pem());
  Result<TlsTrust> other = load_trust(authority.pem());
  cr_assert(one.ok() && other.ok());
  cr_assert_eq(one->get(), other->get());
}

}  // namespace
}  // namespace gatehouse
