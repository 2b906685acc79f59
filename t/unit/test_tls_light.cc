// A server's TLS 1.3 connection that has left OpenSSL, with OpenSSL at the other end: nothing can
// be told from the outside, and whatever is wrong ends it.
#include <criterion/criterion.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/tls_peer.h"
#include "core/tls_records.h"
#include "loopback.h"
#include "tls_pair.h"

namespace gatehouse {
namespace {

using namespace loopback;
using namespace tls_test;
using std::chrono::milliseconds;

struct Light : Pair {
  explicit Light(int buffers = 0) : Pair(buffers, true) {}
  void begin() {
    handshake();
    cr_assert(server->tls()->ssl() == nullptr, "it is OpenSSL's still");
  }
  // Sends `text` one way and expects it at the other end.
  void pass(Stream& from, Stream& to, const std::string& text, size_t block) {
    std::string got;
    Task<IoResult> reading = collect(to, got, text.size(), block);
    Task<IoResult> writing = write_all(from, text, kLong);
    reading.start();
    writing.start();
    cr_assert(turn_until(*loop, [&] { return reading.done() && writing.done(); }));
    cr_assert(writing.take().ok());
    cr_assert_eq(got, text);
  }
  void both_ways(const std::string& text, size_t block = 20'000) {
    pass(*client, *server, text, block);
    pass(*server, *client, text, block);
  }
};

Test(tls_light, the_facts_stay) {
  Light pair;
  pair.begin();
  const TlsLayer& tls = *pair.server->tls();
  cr_assert(tls.is_server() && tls.handshake_done());
  cr_assert_eq(tls.version(), "TLSv1.3");
  cr_assert_eq(tls.server_name(), "a.example");
  cr_assert_eq(tls.cipher(), pair.client->tls()->cipher());
  cr_assert_eq(tls.alpn(), "");
  cr_assert_not(tls.resumed());
  cr_assert_eq(tls.failure(), "");
  cr_assert_not(tls_peer_has_certificate(tls));
}

Test(tls_light, bytes_of_all_sizes_arrive_whole_both_ways) {
  Light pair;
  pair.begin();
  for (const size_t size : {size_t{1}, size_t{100}, size_t{16'383}, size_t{16'384}, size_t{16'385},
                            size_t{61'440}, size_t{61'441}, size_t{1'000'000}}) {
    for (const size_t block : {size_t{1000}, size_t{16'368}, size_t{65'520}}) {
      pair.both_ways(pattern(size), block);
    }
  }
}

Test(tls_light, with_every_suite) {
  for (const char* suite :
       {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) {
    Light pair;
    SSL_CTX_set_ciphersuites(pair.client_context.get(), suite);
    pair.begin();
    cr_assert_eq(pair.server->tls()->cipher(), suite);
    pair.both_ways(pattern(40'000));
  }
}

Test(tls_light, parts_of_all_sizes_are_joined) {
  Light pair;
  pair.begin();
  const std::string small = pattern(100);
  const std::string large = pattern(70'000);
  const std::string record = pattern(16'384);
  const std::array<std::array<std::string_view, 5>, 5> cases{{
      {small, small, small, small, small},
      {small, large, small, "", ""},
      {large, small, large, small, small},
      {record, record, record, record, small},
      {small, record, small, record, large},
  }};
  for (const auto& texts : cases) {
    std::string all;
    std::array<iovec, 5> parts;
    for (size_t i = 0; i < texts.size(); ++i) {
      all += texts[i];
      parts[i] = {const_cast<char*>(texts[i].data()), texts[i].size()};
    }
    std::string got;
    Task<IoResult> reading = collect(*pair.client, got, all.size(), 20'000);
    Task<IoResult> writing = write_parts(*pair.server, parts, kLong);
    reading.start();
    writing.start();
    cr_assert(turn_until(*pair.loop, [&] { return reading.done() && writing.done(); }));
    cr_assert(writing.take().ok());
    cr_assert_eq(got, all);
  }
}

Test(tls_light, what_came_with_the_last_message_of_the_handshake_is_not_lost) {
  Light pair;
  pair.start();
  Task<IoResult> ours = shake_hands(*pair.client, kLong);
  Task<IoResult> theirs = shake_hands(*pair.server, kLong);
  ours.start();
  theirs.start();
  // The client is done half a round trip earlier: its first bytes lie behind its last message.
  while (!ours.done()) {
    cr_assert_not(theirs.done());
    pair.loop->turn(true);
  }
  cr_assert(ours.take().ok());
  const std::string text = pattern(3'000);
  Task<IoResult> writing = write_all(*pair.client, text, kLong);
  writing.start();
  cr_assert(writing.done());
  cr_assert(turn_until(*pair.loop, [&] { return theirs.done(); }));
  cr_assert(theirs.take().ok());
  cr_assert(pair.server->tls()->ssl() == nullptr);
  std::string got;
  cr_assert(finish(*pair.loop, collect(*pair.server, got, text.size(), 1000)).ok());
  cr_assert_eq(got, text);
}

Test(tls_light, keys_are_updated_in_either_way) {
  Light pair;
  pair.begin();
  for (const int kind : {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED}) {
    for (int i = 0; i < 5; ++i) {
      cr_assert_eq(SSL_key_update(pair.client->tls()->ssl(), kind), 1);
      pair.both_ways("after an update");
    }
  }
}

Test(tls_light, key_updates_without_end_are_refused) {
  Light pair;
  pair.begin();
  std::array<char, 16> block;
  for (int i = 0; i < 100; ++i) {
    SSL_key_update(pair.client->tls()->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_do_handshake(pair.client->tls()->ssl());
  }
  const IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(pair.server->tls()->failure(), "too many key updates");
}

Test(tls_light, padding_is_taken_off) {
  Light pair;
  SSL_CTX_set_block_padding(pair.client_context.get(), 512);
  pair.begin();
  for (const size_t size : {size_t{1}, size_t{511}, size_t{512}, size_t{16'384}}) {
    pair.both_ways(pattern(size));
  }
}

Test(tls_light, sessions_are_resumed) {
  Light pair;
  SSL_CTX_set_num_tickets(pair.server_context.get(), 1);
  pair.begin();
  pair.both_ways("so that the ticket is read");
  SSL_SESSION* session = SSL_get1_session(pair.client->tls()->ssl());
  cr_assert_eq(SSL_SESSION_is_resumable(session), 1);
  Light next;
  next.server_context.swap(pair.server_context);
  next.start();
  SSL_set_session(next.client->tls()->ssl(), session);
  SSL_SESSION_free(session);
  Task<IoResult> ours = shake_hands(*next.client, kLong);
  Task<IoResult> theirs = shake_hands(*next.server, kLong);
  ours.start();
  theirs.start();
  cr_assert(turn_until(*next.loop, [&] { return ours.done() && theirs.done(); }));
  cr_assert(next.client->tls()->resumed());
  cr_assert(next.server->tls()->ssl() == nullptr);
  cr_assert(next.server->tls()->resumed());
  next.both_ways(pattern(1'000));
}

Test(tls_light, however_many_tickets_there_are) {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{5}}) {
    Light pair;
    SSL_CTX_set_num_tickets(pair.server_context.get(), count);
    pair.begin();
    pair.both_ways(pattern(1'000));
  }
}

Test(tls_light, a_clients_certificate_is_kept) {
  const Certificate own("DNS:client.example, IP:192.0.2.1", nullptr, true, "Some Client");
  Light pair;
  X509_STORE_add_cert(SSL_CTX_get_cert_store(pair.server_context.get()), own.x509);
  SSL_CTX_set_verify(pair.server_context.get(), SSL_VERIFY_PEER, nullptr);
  own.use(pair.client_context.get());
  pair.begin();
  const TlsLayer& tls = *pair.server->tls();
  cr_assert(tls_peer_has_certificate(tls));
  cr_assert_eq(tls_peer_text(tls, TlsPeerFact::kSubject), "CN=Some Client");
  cr_assert_eq(tls_peer_text(tls, TlsPeerFact::kNames), "DNS:client.example, IP:192.0.2.1");
  cr_assert_eq(tls_peer_text(tls, TlsPeerFact::kSerial), "1267");
}

Test(tls_light, tls_1_2_stays_with_openssl) {
  Light pair;
  SSL_CTX_set_max_proto_version(pair.client_context.get(), TLS1_2_VERSION);
  pair.handshake();
  cr_assert(pair.server->tls()->ssl() != nullptr);
  cr_assert_eq(pair.server->tls()->version(), "TLSv1.2");
  pair.both_ways(pattern(100'000));
}

Test(tls_light, who_wants_short_records_gets_them) {
  Light pair;
  SSL_CTX_set_tlsext_max_fragment_length(pair.client_context.get(), TLSEXT_max_fragment_length_512);
  pair.handshake();
  cr_assert(pair.server->tls()->ssl() != nullptr);
  pair.both_ways(pattern(10'000));
}

// ---- Ends ---------------------------------------------------------------------------------------

Test(tls_light, ends_are_said_and_understood) {
  Light pair;
  pair.begin();
  cr_assert(finish(*pair.loop, write_all(*pair.client, "last words", kLong)).ok());
  pair.client->shutdown_write();
  std::array<char, 64> block;
  IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
  cr_assert_eq(result.bytes, 10u);
  for (int i = 0; i < 2; ++i) {
    result = finish(*pair.loop, read_some(*pair.server, block, kLong));
    cr_assert_eq(result.status, IoStatus::kEof);
  }
  cr_assert(finish(*pair.loop, write_all(*pair.server, "answer", kLong)).ok());
  std::string got;
  pair.server.reset();
  result = finish(*pair.loop, collect(*pair.client, got, 100, 100));
  cr_assert_eq(got, "answer");
  cr_assert_eq(result.status, IoStatus::kEof);
}

Test(tls_light, an_end_that_was_not_said_is_a_cut) {
  Light pair;
  pair.begin();
  cr_assert(finish(*pair.loop, write_all(*pair.client, "half of it", kLong)).ok());
  ::shutdown(pair.client->fd(), SHUT_WR);
  std::string got;
  IoResult result = finish(*pair.loop, collect(*pair.server, got, 100, 100));
  cr_assert_eq(got, "half of it");
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
  std::array<char, 64> block;
  result = finish(*pair.loop, read_some(*pair.server, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
}

Test(tls_light, half_a_record_is_nothing_to_read_yet) {
  Light pair;
  pair.begin();
  cr_assert(finish(*pair.loop, write_all(*pair.client, "a whole record", kLong)).ok());
  turn_for(*pair.loop, milliseconds(5));
  std::array<char, 100> wire;
  const ssize_t size = recv(pair.server->fd(), wire.data(), wire.size(), MSG_DONTWAIT);
  cr_assert_gt(size, 20);
  const int raw = pair.client->fd();
  Task<IoResult> waiting = wait_readable(*pair.server, kLong);
  waiting.start();
  for (ssize_t at = 0; at + 1 < size; ++at) {
    cr_assert_eq(::send(raw, wire.data() + at, 1, 0), 1);
    turn_for(*pair.loop, milliseconds(1));
    cr_assert_not(waiting.done());
    cr_assert_not(pair.server->may_read());
  }
  cr_assert_eq(::send(raw, wire.data() + size - 1, 1, 0), 1);
  cr_assert(turn_until(*pair.loop, [&] { return waiting.done(); }));
  cr_assert(waiting.take().ok());
  std::array<char, 100> block;
  const IoResult got = pair.server->read_now(block);
  cr_assert_eq(std::string_view(block.data(), got.bytes), "a whole record");
}

// What the client's connection says on the wire, with a byte changed, ends it with the right alert.
Test(tls_light, whatever_is_changed_in_a_record_ends_it) {
  struct Change {
    size_t at;
    char bits;
    const char* failure;
    const char* told;
  };
  for (const Change& change :
       {Change{0, 1, "unexpected record", "sslv3 alert unexpected message"},
        Change{1, 1, "wrong version number", "tlsv1 alert protocol version"},
        Change{3, 0x7F, "encrypted length too long", "tlsv1 alert record overflow"},
        Change{5, 1, "decryption failed or bad record mac", "sslv3 alert bad record mac"},
        Change{34, 1, "decryption failed or bad record mac", "sslv3 alert bad record mac"}}) {
    Light pair;
    pair.begin();
    cr_assert(finish(*pair.loop, write_all(*pair.client, "a true record", kLong)).ok());
    turn_for(*pair.loop, milliseconds(5));
    std::array<char, 100> wire;
    const ssize_t size = recv(pair.server->fd(), wire.data(), wire.size(), MSG_DONTWAIT);
    cr_assert_eq(size, 5 + 13 + 1 + 16);
    wire[change.at] = static_cast<char>(wire[change.at] ^ change.bits);
    cr_assert_eq(::send(pair.client->fd(), wire.data(), static_cast<size_t>(size), 0), size);
    std::array<char, 64> block;
    IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(result.error, EPROTO);
    cr_assert_eq(pair.server->tls()->failure(), change.failure);
    cr_assert_eq(ERR_peek_error(), 0ul);
    result = finish(*pair.loop, write_all(*pair.server, "more", kLong));
    cr_assert_eq(result.status, IoStatus::kError);
    result = finish(*pair.loop, read_some(*pair.client, block, kLong));
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(pair.client->tls()->failure(), change.told);
  }
}

Test(tls_light, a_record_that_comes_again_is_refused) {
  Light pair;
  pair.begin();
  cr_assert(finish(*pair.loop, write_all(*pair.client, "once", kLong)).ok());
  turn_for(*pair.loop, milliseconds(5));
  std::array<char, 100> wire;
  const ssize_t size = recv(pair.server->fd(), wire.data(), wire.size(), MSG_DONTWAIT | MSG_PEEK);
  std::array<char, 64> block;
  cr_assert_eq(finish(*pair.loop, read_some(*pair.server, block, kLong)).bytes, 4u);
  cr_assert_eq(::send(pair.client->fd(), wire.data(), static_cast<size_t>(size), 0), size);
  const IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
}

// ---- Records that OpenSSL would not send --------------------------------------------------------

// Both ends of a connection as records: what one seals the other opens.
struct Ends {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  SSL* ssl = SSL_new(context);
  TlsTrafficSecret one;
  TlsTrafficSecret other;
  std::unique_ptr<TlsRecords> a;
  std::unique_ptr<TlsRecords> b;
  Ends() {
    one.size = other.size = 32;
    one.bytes[0] = 1;
    other.bytes[0] = 2;
    const SSL_CIPHER* suite = SSL_CIPHER_find(ssl, reinterpret_cast<const uint8_t*>("\x13\x01"));
    a = TlsRecords::create(suite, one, other);
    b = TlsRecords::create(suite, other, one);
    cr_assert(a != nullptr && b != nullptr);
    // A suite of TLS 1.2, or a secret of another size, is refused.
    suite = SSL_CIPHER_find(ssl, reinterpret_cast<const uint8_t*>("\xC0\x2B"));
    cr_assert(TlsRecords::create(suite, one, other) == nullptr);
    one.size = 31;
    suite = SSL_CIPHER_find(ssl, reinterpret_cast<const uint8_t*>("\x13\x01"));
    cr_assert(TlsRecords::create(suite, one, other) == nullptr);
  }
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  ~Ends() {
    SSL_free(ssl);
    SSL_CTX_free(context);
  }
};

Test(tls_light, records_are_opened_one_at_a_time) {
  Ends ends;
  std::string wire;
  for (const std::string_view text : {"first", "", "second"}) {
    std::string record(TlsRecords::wire_size(text.size()), ' ');
    cr_assert(ends.a->seal({&text, 1}, text.size(), record.data()));
    wire += record;
  }
  size_t used = 0;
  std::span<char> plain;
  std::vector<std::string> got;
  while (!wire.empty()) {
    const TlsRecords::Opened opened = ends.b->open(wire, &used, &plain);
    cr_assert(opened == TlsRecords::Opened::kData || opened == TlsRecords::Opened::kNothing);
    if (opened == TlsRecords::Opened::kData) got.emplace_back(plain.data(), plain.size());
    wire.erase(0, used);
  }
  cr_assert_eq(got.size(), 2u);
  cr_assert_eq(got[0], "first");
  cr_assert_eq(got[1], "second");
}

Test(tls_light, empty_records_without_end_are_refused) {
  Ends ends;
  const std::string_view nothing;
  std::array<char, TlsRecords::wire_size(0)> wire;
  TlsRecords::Opened opened = TlsRecords::Opened::kNothing;
  int count = 0;
  while (opened == TlsRecords::Opened::kNothing && count < 100) {
    size_t used = 0;
    std::span<char> plain;
    cr_assert(ends.a->seal({&nothing, 1}, 0, wire.data()));
    opened = ends.b->open(wire, &used, &plain);
    ++count;
  }
  cr_assert_eq(opened, TlsRecords::Opened::kBroken);
  cr_assert_eq(count, 33);
  // After that nothing is done any more.
  size_t used = 1;
  std::span<char> plain;
  cr_assert_eq(ends.b->open(wire, &used, &plain), TlsRecords::Opened::kBroken);
  cr_assert_eq(used, 0u);
}

Test(tls_light, alerts_are_told_apart) {
  for (const auto& [level, description, expected] :
       {std::tuple{1, SSL_AD_CLOSE_NOTIFY, TlsRecords::Opened::kEnd},
        std::tuple{1, SSL_AD_USER_CANCELLED, TlsRecords::Opened::kNothing},
        std::tuple{2, SSL_AD_BAD_RECORD_MAC, TlsRecords::Opened::kAlert},
        std::tuple{1, SSL_AD_INTERNAL_ERROR, TlsRecords::Opened::kAlert}}) {
    Ends ends;
    std::array<char, TlsRecords::wire_size(2)> wire;
    cr_assert(ends.a->seal_alert(static_cast<uint8_t>(level), static_cast<uint8_t>(description),
                                 wire.data()));
    size_t used = 0;
    std::span<char> plain;
    cr_assert_eq(ends.b->open(wire, &used, &plain), expected);
  }
}

}  // namespace
}  // namespace gatehouse
