// Beginning a session on an accepted connection; see connection_opener.h.
#include "http/connection_opener.h"

#include <memory>
#include <string_view>
#include <utility>

#include "core/buffer.h"
#include "core/log.h"
#include "core/task.h"
#include "http/client_connection.h"
#include "http/generation.h"
#include "http/proxy_protocol_accept.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// A connection whose protocol is still being found out. It goes when another session takes it.
class ConnectionOpener final : public Session {
 public:
  explicit ConnectionOpener(ClientConnection&& connection)
      : connection_(std::move(connection)),
        generation_(*connection_.acceptor()->generation),
        listener_(*connection_.acceptor()->listener) {
    generation_.hold();
    connection_.worker().add_session(*this);
  }
  ~ConnectionOpener() override {
    run_.cancel();
    generation_.release();
  }

  void start() {
    run_ = run();
    run_.start();
  }
  // A client that is let in so far may send one request, and is told then that it is the last. It
  // has no more time than any.
  void drain() override {}
  void begin_leaving() override {}
  void cut() override { connection_.worker().retire_session(*this); }
  const AcceptorState* acceptor() const override { return connection_.acceptor(); }

 private:
  Task<void> run() {
    Worker& worker = connection_.worker();
    bool let_in = true;
    if (listener_.conf->proxy_protocol) let_in = co_await accept_proxy_header(connection_);
    if (let_in && listener_.tls != nullptr) let_in = co_await shake_hands();
    if (let_in) begin_session();
    worker.retire_session(*this);
  }

  Task<bool> shake_hands() {
    Stream& stream = connection_.stream();
    Result<std::unique_ptr<TlsLayer>> layer = listener_.tls->accept();
    if (!layer) {
      GH_LOG(kError, "listener {}: {}", listener_.name, layer.error().message);
      co_return false;
    }
    stream.start_tls(std::move(*layer));
    const IoResult result = co_await stream.handshake(listener_.tls->handshake_timeout());
    if (!result.ok()) {
      GH_LOG(kInfo, "listener {}: TLS handshake with {} failed: {}", listener_.name,
             connection_.peer.format(),
             result.status == IoStatus::kTimeout ? "timed out" : stream.tls()->failure());
      listener_.cells->tls_failures.add();
    } else {
      listener_.cells->tls_handshakes.add();
      if (stream.tls()->resumed()) listener_.cells->tls_resumed.add();
    }
    co_return result.ok();
  }

  void begin_session() {
    const TlsLayer* tls = connection_.stream().tls();
    if (tls != nullptr && tls->alpn() == "h2") {
      start_h2_session(std::move(connection_), Buffer());
    } else {
      start_h1_session(std::move(connection_), Buffer());
    }
  }

  ClientConnection connection_;
  // Where the handshake finds its certificates.
  const Generation& generation_;
  const Listener& listener_;
  Task<void> run_;
};

}  // namespace

void open_connection(AcceptorState& acceptor, UniqueFd fd, const SocketAddress& peer) {
  auto stream = std::make_unique<Stream>(acceptor.worker->loop(), fd.release());
  const Result<void> opened = stream->open();
  ClientConnection connection(acceptor, std::move(stream), peer);
  if (!opened) {
    GH_LOG(kError, "listener {}: {}", acceptor.listener->name, opened.error().message);
    return;
  }
  if (acceptor.listener->tls == nullptr && !acceptor.listener->conf->proxy_protocol) {
    start_h1_session(std::move(connection), Buffer());
    return;
  }
  (new ConnectionOpener(std::move(connection)))->start();
}

}  // namespace gatehouse
