// Tunnels: bytes both ways after a switch of protocols; declared in proxy.h.
#include "core/buffer.h"
#include "core/stream.h"
#include "http/proxy.h"

namespace gatehouse {

namespace {

enum class PumpEnd : uint8_t { kEof, kReadFailed, kWriteFailed, kIdle };

// One direction. `moved` is shared by both: a tunnel is idle when neither direction moves.
template <class From, class To>
Task<PumpEnd> pump(From& from, To& to, std::string_view unread, Duration idle_timeout,
                   Moment& moved) {
  if (!unread.empty()) {
    const IoResult first = co_await to.write(unread, idle_timeout);
    if (!first.ok()) co_return PumpEnd::kWriteFailed;
  }
  BufferClass size_class = BufferClass::kHead;
  for (;;) {
    // No buffer is held while nothing moves.
    const IoResult ready = co_await from.readable(idle_timeout);
    if (ready.status == IoStatus::kTimeout) {
      const Moment now = from.loop().now();
      if (now >= moved + idle_timeout) co_return PumpEnd::kIdle;
      continue;
    }
    Buffer buffer(size_class);
    for (;;) {
      const IoResult got = from.read_now({buffer.data(), buffer.capacity()});
      if (got.status == IoStatus::kTimeout) break;
      if (got.status == IoStatus::kEof) co_return PumpEnd::kEof;
      if (!got.ok()) co_return PumpEnd::kReadFailed;
      moved = from.loop().now();
      const IoResult put = co_await to.write({buffer.data(), got.bytes}, idle_timeout);
      if (!put.ok()) co_return PumpEnd::kWriteFailed;
      moved = from.loop().now();
      if (got.bytes < buffer.capacity()) break;
      if (size_class == BufferClass::kHead) {
        size_class = BufferClass::kBulk;
        buffer = Buffer(size_class);
      }
    }
  }
}

template <class Client>
Task<Reason> run(Client& client, Stream& upstream, std::string_view client_unread,
                 std::string_view upstream_unread, Duration idle_timeout) {
  Moment moved = client.loop().now();
  Task<PumpEnd> up = pump(client, upstream, client_unread, idle_timeout, moved);
  Task<PumpEnd> down = pump(upstream, client, upstream_unread, idle_timeout, moved);
  up.start();
  down.start();
  co_await any_done(up, down);
  const bool up_first = up.done();
  const PumpEnd first = up_first ? up.take() : down.take();
  if (first == PumpEnd::kEof) {
    if (up_first) {
      upstream.shutdown_write();
    } else {
      client.shutdown_write();
    }
    Task<PumpEnd>& rest = up_first ? down : up;
    co_await done(rest);
    const PumpEnd second = rest.take();
    if (second == PumpEnd::kEof) co_return Reason::kNone;
    if (second == PumpEnd::kIdle) co_return Reason::kUpstreamTimeout;
    const bool client_failed = (second == PumpEnd::kReadFailed) != up_first;
    co_return client_failed ? Reason::kClientGone : Reason::kUpstreamReset;
  }
  if (first == PumpEnd::kIdle) co_return Reason::kUpstreamTimeout;
  const bool client_failed = (first == PumpEnd::kReadFailed) == up_first;
  co_return client_failed ? Reason::kClientGone : Reason::kUpstreamReset;
}

}  // namespace

Task<Reason> run_tunnel(const ClientTunnel& client, Stream& upstream,
                        std::string_view client_unread, std::string_view upstream_unread,
                        Duration idle_timeout) {
  if (client.connection != nullptr) {
    return run(*client.connection, upstream, client_unread, upstream_unread, idle_timeout);
  }
  return run(*client.stream, upstream, client_unread, upstream_unread, idle_timeout);
}

}  // namespace gatehouse
