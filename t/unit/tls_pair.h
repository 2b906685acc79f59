// Two Streams with a TCP connection between them that are to speak TLS, and what tests do with
// them.
#pragma once

#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/stream.h"
#include "core/task.h"
#include "core/tls_layer.h"
#include "loopback.h"
#include "tls_certificate.h"

namespace gatehouse::tls_test {

using namespace loopback;
using std::chrono::milliseconds;

inline Task<IoResult> read_some(Stream& stream, std::span<char> into, Duration timeout) {
  const IoResult result = co_await stream.read(into, timeout);
  co_return result;
}

inline Task<IoResult> wait_readable(Stream& stream, Duration timeout) {
  const IoResult result = co_await stream.readable(timeout);
  co_return result;
}

inline Task<IoResult> write_all(Stream& stream, std::string_view bytes, Duration timeout) {
  const IoResult result = co_await stream.write(bytes, timeout);
  co_return result;
}

inline Task<IoResult> write_parts(Stream& stream, std::span<const iovec> parts, Duration timeout) {
  const IoResult result = co_await stream.write(parts, timeout);
  co_return result;
}

inline Task<IoResult> shake_hands(Stream& stream, Duration timeout) {
  const IoResult result = co_await stream.handshake(timeout);
  co_return result;
}

// Reads until `size` bytes, the end, or a failure.
inline Task<IoResult> collect(Stream& stream, std::string& all, size_t size, size_t block_size) {
  std::string block(block_size, ' ');
  IoResult result;
  while (all.size() < size) {
    result = co_await stream.read({block.data(), block.size()}, kLong);
    if (!result.ok()) break;
    all.append(block, 0, result.bytes);
  }
  co_return result;
}

inline IoResult finish(EventLoop& loop, Task<IoResult> task) {
  task.start();
  cr_assert(turn_until(loop, [&] { return task.done(); }), "it still waits");
  return task.take();
}

inline std::string pattern(size_t size) {
  std::string text(size, ' ');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

// Two Streams with a connection between them; TLS begins when handshake() is called.
struct Pair {
  Certificate certificate{"DNS:a.example"};
  Context server_context{SSL_CTX_new(TLS_server_method())};
  Context client_context{SSL_CTX_new(TLS_client_method())};
  std::unique_ptr<EventLoop> loop = make_loop();
  std::unique_ptr<Stream> server;
  std::unique_ptr<Stream> client;

  // `light`: the server leaves OpenSSL after the handshake.
  explicit Pair(int buffers = 0, bool light = false) {
    TlsLayer::prepare_context(server_context.get());
    TlsLayer::prepare_context(client_context.get());
    certificate.use(server_context.get());
    if (light) TlsLayer::lighten_context(server_context.get());
    const Listener listener;
    if (buffers != 0) Connection::set_buffer(listener.fd, SO_RCVBUF, buffers);
    const int ours = listener.begin_connect();
    const int theirs = listener.accept_one();
    cr_assert_geq(theirs, 0);
    if (buffers != 0) Connection::set_buffer(theirs, SO_SNDBUF, buffers);
    if (buffers != 0) Connection::set_buffer(ours, SO_RCVBUF, buffers);
    const int on = 1;
    cr_assert_eq(setsockopt(ours, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    client = std::make_unique<Stream>(*loop, ours);
    server = std::make_unique<Stream>(*loop, theirs);
    cr_assert(client->open().ok() && server->open().ok());
    loop->turn(false);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void start(const std::string& name = "a.example") {
    Result<std::unique_ptr<TlsLayer>> layer = TlsLayer::server(server_context.get());
    cr_assert(layer.ok());
    server->start_tls(std::move(*layer));
    layer = TlsLayer::client(client_context.get(), name);
    cr_assert(layer.ok());
    client->start_tls(std::move(*layer));
  }
  struct Outcome {
    IoResult server;
    IoResult client;
  };
  Outcome try_handshake() {
    start();
    Task<IoResult> ours = shake_hands(*client, kLong);
    Task<IoResult> theirs = shake_hands(*server, kLong);
    ours.start();
    theirs.start();
    cr_assert(turn_until(*loop, [&] { return ours.done() && theirs.done(); }), "no handshake");
    return {theirs.take(), ours.take()};
  }
  void handshake() {
    const Outcome outcome = try_handshake();
    cr_assert(outcome.server.ok(), "%s", server->tls()->failure().c_str());
    cr_assert(outcome.client.ok(), "%s", client->tls()->failure().c_str());
  }
  // The client's tickets are read, so that nothing is under way.
  void settle() {
    turn_for(*loop, milliseconds(20));
    cr_assert_not(client->may_read());
  }
};

}  // namespace gatehouse::tls_test
