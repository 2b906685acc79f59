// TLS over real sockets, a Stream at either end: handshakes, bytes of all sizes, ends that are true
// and ends that are cuts, records without bytes, full sockets, cancelled writes.
#include "core/tls_layer.h"

#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include "core/stream.h"
#include "core/task.h"
#include "loopback.h"
#include "tls_certificate.h"
#include "tls_pair.h"

namespace gatehouse {
namespace {

using namespace loopback;
using namespace tls_test;
using std::chrono::milliseconds;

// ---- Handshakes ---------------------------------------------------------------------------------

Test(tls_layer, a_handshake_tells_its_facts) {
  Pair pair;
  pair.handshake();
  const TlsLayer& tls = *pair.server->tls();
  cr_assert(tls.handshake_done());
  cr_assert_eq(tls.version(), "TLSv1.3");
  cr_assert_eq(tls.server_name(), "a.example");
  cr_assert_eq(tls.cipher(), pair.client->tls()->cipher());
  cr_assert(tls.cipher().starts_with("TLS_"));
  cr_assert_eq(tls.alpn(), "");
  cr_assert_not(tls.resumed());
  cr_assert_eq(tls.failure(), "");
  cr_assert_eq(TlsLayer::of(tls.ssl()), &tls);
  pair.settle();
}

Test(tls_layer, an_address_is_no_server_name) {
  Pair pair;
  pair.start("127.0.0.1");
  cr_assert_eq(pair.client->tls()->server_name(), "");
}

Test(tls_layer, a_handshake_has_one_time_limit) {
  Pair pair;
  pair.start();
  const int64_t begin = monotonic_ms();
  const IoResult result = finish(*pair.loop, shake_hands(*pair.server, milliseconds(300)));
  cr_assert_eq(result.status, IoStatus::kTimeout);
  cr_assert_geq(monotonic_ms() - begin, 290);
  cr_assert_lt(monotonic_ms() - begin, 1500);
}

Test(tls_layer, both_sides_learn_that_they_have_no_version_in_common) {
  Pair pair;
  SSL_CTX_set_min_proto_version(pair.server_context.get(), TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(pair.client_context.get(), TLS1_2_VERSION);
  const Pair::Outcome outcome = pair.try_handshake();
  cr_assert_eq(outcome.server.status, IoStatus::kError);
  cr_assert_eq(outcome.server.error, EPROTO);
  cr_assert_eq(pair.server->tls()->failure(), "unsupported protocol");
  cr_assert_eq(outcome.client.status, IoStatus::kError);
  cr_assert_eq(pair.client->tls()->failure(), "tlsv1 alert protocol version");
  // Nothing is left behind for the next connection of this thread to stumble over.
  cr_assert_eq(ERR_peek_error(), 0ul);
}

Test(tls_layer, what_is_no_tls_is_refused) {
  auto loop = make_loop();
  Connection tcp(*loop);
  const Context context{SSL_CTX_new(TLS_server_method())};
  Result<std::unique_ptr<TlsLayer>> layer = TlsLayer::server(context.get());
  cr_assert(layer.ok());
  tcp.stream->start_tls(std::move(*layer));
  tcp.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const IoResult result = finish(*loop, shake_hands(*tcp.stream, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(tcp.stream->tls()->failure(), "http request");
}

Test(tls_layer, a_peer_that_goes_away_within_a_handshake_is_told_from_a_broken_one) {
  auto loop = make_loop();
  Connection tcp(*loop);
  const Context context{SSL_CTX_new(TLS_server_method())};
  Result<std::unique_ptr<TlsLayer>> layer = TlsLayer::server(context.get());
  cr_assert(layer.ok());
  tcp.stream->start_tls(std::move(*layer));
  tcp.send(std::string_view("\x16\x03\x01\x02", 4));
  tcp.finish();
  const IoResult result = finish(*loop, shake_hands(*tcp.stream, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
  cr_assert_eq(tcp.stream->tls()->failure(), "the peer closed the connection");
}

// ---- Bytes --------------------------------------------------------------------------------------

Test(tls_layer, bytes_of_all_sizes_arrive_whole_both_ways) {
  Pair pair;
  pair.handshake();
  uint64_t total = 0;
  for (const size_t size : {size_t{1}, size_t{100}, size_t{16'383}, size_t{16'384}, size_t{16'385},
                            size_t{61'440}, size_t{61'441}, size_t{1'000'000}}) {
    const std::string text = pattern(size);
    for (const bool up : {true, false}) {
      Stream& from = up ? *pair.client : *pair.server;
      Stream& to = up ? *pair.server : *pair.client;
      for (const size_t block : {size_t{1000}, size_t{16'368}, size_t{65'520}}) {
        std::string got;
        Task<IoResult> reading = collect(to, got, size, block);
        Task<IoResult> writing = write_all(from, text, kLong);
        reading.start();
        writing.start();
        cr_assert(turn_until(*pair.loop, [&] { return reading.done() && writing.done(); }));
        const IoResult written = writing.take();
        cr_assert(written.ok());
        cr_assert_eq(written.bytes, size);
        cr_assert_eq(got, text);
      }
    }
    total += 3 * size;
  }
  cr_assert_eq(pair.server->bytes_in(), total);
  cr_assert_eq(pair.server->bytes_out(), total);
}

Test(tls_layer, parts_of_all_sizes_are_joined) {
  Pair pair;
  pair.handshake();
  const std::string small = pattern(100);
  const std::string large = pattern(70'000);
  const std::string record = pattern(16'384);
  const std::array<std::array<std::string_view, 5>, 6> cases{{
      {small, small, small, small, small},
      {small, large, small, "", ""},
      {large, small, large, small, small},
      {record, record, record, record, small},
      {"", small, "", large, ""},
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

Test(tls_layer, parts_that_fit_share_one_record) {
  Pair pair;
  pair.handshake();
  pair.settle();
  const iovec parts[] = {{const_cast<char*>("head"), 4}, {const_cast<char*>("body"), 4}};
  cr_assert(finish(*pair.loop, write_parts(*pair.server, parts, kLong)).ok());
  // 5 bytes of header, the bytes, their type and the tag.
  std::array<char, 100> wire;
  turn_for(*pair.loop, milliseconds(5));
  cr_assert_eq(recv(pair.client->fd(), wire.data(), wire.size(), MSG_DONTWAIT), 5 + 8 + 1 + 16);
}

Test(tls_layer, a_read_takes_all_the_records_that_have_come) {
  Pair pair;
  pair.handshake();
  pair.settle();
  for (const char* text : {"one ", "two ", "three"}) {
    cr_assert(finish(*pair.loop, write_all(*pair.client, text, kLong)).ok());
  }
  turn_for(*pair.loop, milliseconds(5));
  std::array<char, 64> block;
  const IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
  cr_assert_eq(std::string_view(block.data(), result.bytes), "one two three");
  cr_assert_not(pair.server->may_read());
  cr_assert_eq(pair.server->read_now(block).status, IoStatus::kTimeout);
}

Test(tls_layer, what_did_not_fit_a_read_is_there_without_an_event) {
  Pair pair;
  pair.handshake();
  cr_assert(finish(*pair.loop, write_all(*pair.client, "12345678", kLong)).ok());
  std::array<char, 4> block;
  for (const char* expected : {"1234", "5678"}) {
    const IoResult result = finish(*pair.loop, read_some(*pair.server, block, kLong));
    cr_assert_eq(std::string_view(block.data(), result.bytes), expected);
  }
  cr_assert_not(pair.server->may_read());
}

// ---- Records that carry nothing -----------------------------------------------------------------

Test(tls_layer, tickets_wake_nobody) {
  Pair pair;
  pair.handshake();
  int activity = 0;
  pair.client->watch_activity([](void* count) { ++*static_cast<int*>(count); }, &activity);
  turn_for(*pair.loop, milliseconds(20));
  cr_assert_eq(activity, 0);
  cr_assert_not(pair.client->may_read());
  // One at a time, while somebody waits.
  pair.client->watch_activity(nullptr, nullptr);
  Task<IoResult> waiting = wait_readable(*pair.client, milliseconds(400));
  waiting.start();
  SSL_new_session_ticket(pair.server->tls()->ssl());
  cr_assert(finish(*pair.loop, shake_hands(*pair.server, kLong)).ok());
  turn_for(*pair.loop, milliseconds(20));
  cr_assert_not(waiting.done());
  // The wait goes on past the moment where it asks by itself, and ends in time.
  cr_assert(turn_until(*pair.loop, [&] { return waiting.done(); }));
  cr_assert_eq(waiting.take().status, IoStatus::kTimeout);
}

Test(tls_layer, half_a_record_is_nothing_to_read_yet) {
  Pair pair;
  pair.handshake();
  pair.settle();
  cr_assert(finish(*pair.loop, write_all(*pair.server, "a whole record", kLong)).ok());
  turn_for(*pair.loop, milliseconds(5));
  std::array<char, 100> wire;
  const ssize_t size = recv(pair.client->fd(), wire.data(), wire.size(), MSG_DONTWAIT);
  cr_assert_gt(size, 20);
  // The same bytes again, in two halves, from a connection that nobody encrypts.
  const int raw = pair.server->fd();
  Task<IoResult> waiting = wait_readable(*pair.client, kLong);
  waiting.start();
  cr_assert_eq(::send(raw, wire.data(), 20, 0), 20);
  turn_for(*pair.loop, milliseconds(20));
  cr_assert_not(waiting.done());
  cr_assert_not(pair.client->may_read());
  cr_assert_eq(::send(raw, wire.data() + 20, static_cast<size_t>(size - 20), 0), size - 20);
  cr_assert(turn_until(*pair.loop, [&] { return waiting.done(); }));
  cr_assert(waiting.take().ok());
  std::array<char, 100> block;
  const IoResult got = pair.client->read_now(block);
  cr_assert_eq(std::string_view(block.data(), got.bytes), "a whole record");
}

Test(tls_layer, a_key_update_is_answered_with_the_next_bytes) {
  Pair pair;
  pair.handshake();
  cr_assert_eq(SSL_key_update(pair.client->tls()->ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  cr_assert(finish(*pair.loop, write_all(*pair.client, "ping", kLong)).ok());
  std::array<char, 64> block;
  cr_assert_eq(finish(*pair.loop, read_some(*pair.server, block, kLong)).bytes, 4u);
  cr_assert(finish(*pair.loop, write_all(*pair.server, "pong", kLong)).ok());
  const IoResult result = finish(*pair.loop, read_some(*pair.client, block, kLong));
  cr_assert_eq(std::string_view(block.data(), result.bytes), "pong");
}

// ---- Ends ---------------------------------------------------------------------------------------

Test(tls_layer, an_end_that_was_said_is_an_end_and_the_other_direction_lives_on) {
  Pair pair;
  pair.handshake();
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
  result = finish(*pair.loop, read_some(*pair.client, block, kLong));
  cr_assert_eq(std::string_view(block.data(), result.bytes), "answer");
  pair.server->shutdown_write();
  result = finish(*pair.loop, read_some(*pair.client, block, kLong));
  cr_assert_eq(result.status, IoStatus::kEof);
}

Test(tls_layer, closing_a_stream_says_the_end) {
  Pair pair;
  pair.handshake();
  cr_assert(finish(*pair.loop, write_all(*pair.server, "bye", kLong)).ok());
  pair.server.reset();
  std::string got;
  const IoResult result = finish(*pair.loop, collect(*pair.client, got, 100, 100));
  cr_assert_eq(got, "bye");
  cr_assert_eq(result.status, IoStatus::kEof);
}

Test(tls_layer, an_end_that_was_not_said_is_a_cut) {
  Pair pair;
  pair.handshake();
  cr_assert(finish(*pair.loop, write_all(*pair.server, "half of it", kLong)).ok());
  ::shutdown(pair.server->fd(), SHUT_WR);
  std::string got;
  IoResult result = finish(*pair.loop, collect(*pair.client, got, 100, 100));
  cr_assert_eq(got, "half of it");
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
  // And stays one.
  std::array<char, 64> block;
  result = finish(*pair.loop, read_some(*pair.client, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
}

Test(tls_layer, a_changed_record_is_an_error) {
  Pair pair;
  pair.handshake();
  pair.settle();
  cr_assert(finish(*pair.loop, write_all(*pair.server, "true bytes", kLong)).ok());
  turn_for(*pair.loop, milliseconds(5));
  std::array<char, 100> wire;
  const ssize_t size = recv(pair.client->fd(), wire.data(), wire.size(), MSG_DONTWAIT);
  cr_assert_gt(size, 20);
  wire[10] = static_cast<char>(wire[10] ^ 1);
  cr_assert_eq(::send(pair.server->fd(), wire.data(), static_cast<size_t>(size), 0), size);
  std::array<char, 64> block;
  const IoResult result = finish(*pair.loop, read_some(*pair.client, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, EPROTO);
  cr_assert_eq(pair.client->tls()->failure(), "decryption failed or bad record mac");
  cr_assert_eq(finish(*pair.loop, write_all(*pair.client, "more", kLong)).status, IoStatus::kError);
}

Test(tls_layer, a_peer_that_ends_is_told_to_whoever_watches) {
  Pair pair;
  pair.handshake();
  int told = 0;
  pair.server->watch_peer(
      [](void* count, bool reset) { *static_cast<int*>(count) += reset ? 100 : 1; }, &told);
  pair.client->shutdown_write();
  cr_assert(turn_until(*pair.loop, [&] { return told != 0; }));
  cr_assert_eq(told, 1);
}

// ---- Full sockets -------------------------------------------------------------------------------

Test(tls_layer, a_write_waits_for_room_and_times_out_without_it) {
  Pair pair(4096);
  pair.handshake();
  pair.settle();
  const std::string large = pattern(4'000'000);
  const IoResult result = finish(*pair.loop, write_all(*pair.server, large, milliseconds(100)));
  cr_assert_eq(result.status, IoStatus::kTimeout);
  cr_assert_gt(result.bytes, 0u);
  cr_assert_lt(result.bytes, large.size());
  // What came next would be read as the rest of it.
  const IoResult next = finish(*pair.loop, write_all(*pair.server, "next", kLong));
  cr_assert_eq(next.status, IoStatus::kError);
  cr_assert_eq(next.error, EPIPE);
  // No end is said: the peer must not take what it has for the whole.
  pair.server.reset();
  std::string got;
  const IoResult end = finish(*pair.loop, collect(*pair.client, got, large.size(), 65'520));
  cr_assert_eq(end.status, IoStatus::kError);
  cr_assert_eq(got, large.substr(0, got.size()));
}

Test(tls_layer, a_slow_reader_gets_everything) {
  Pair pair(65'536);
  pair.handshake();
  const std::string large = pattern(3'000'000);
  Task<IoResult> writing = write_all(*pair.server, large, milliseconds(300));
  writing.start();
  cr_assert_not(writing.done(), "the socket took it all");
  std::string got;
  std::array<char, 8000> block;
  while (got.size() < large.size()) {
    const IoResult result = finish(*pair.loop, read_some(*pair.client, block, kLong));
    cr_assert(result.ok());
    got.append(block.data(), result.bytes);
  }
  cr_assert(turn_until(*pair.loop, [&] { return writing.done(); }));
  cr_assert(writing.take().ok());
  cr_assert_eq(got, large);
}

Test(tls_layer, a_cancelled_write_that_was_encrypted_whole_leaves_by_itself) {
  Pair pair(4096);
  pair.handshake();
  pair.settle();
  const std::string text = pattern(50'000);
  std::string all;
  for (bool full = false; !full;) {
    cr_assert_lt(all.size(), 20'000'000u, "the socket takes it all");
    Task<IoResult> writing = write_all(*pair.server, text, kLong);
    writing.start();
    full = !writing.done();
    all += text;
  }
  pair.server->shutdown_write();
  std::string got;
  const IoResult end = finish(*pair.loop, collect(*pair.client, got, SIZE_MAX, 65'520));
  cr_assert_eq(got, all);
  cr_assert_eq(end.status, IoStatus::kEof);
}

}  // namespace
}  // namespace gatehouse
