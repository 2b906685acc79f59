// Counting client connections; see client_connection.h.
#include "http/client_connection.h"

#include <utility>

#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

ClientConnection::ClientConnection(AcceptorState& acceptor, std::unique_ptr<Stream> stream,
                                   const SocketAddress& address)
    : peer(address.ip()),
      peer_port(address.port()),
      source(peer),
      source_port(peer_port),
      acceptor_(&acceptor),
      worker_(acceptor.worker),
      listener_cells_(acceptor.listener->cells),
      stream_(std::move(stream)) {
  ++acceptor.sessions;
  for (SeriesCells* cells : {listener_cells_, &worker_->pool_cells()}) {
    cells->connections.add();
    cells->connections_active.add(1);
  }
}

ClientConnection::ClientConnection(ClientConnection&& other) noexcept
    : peer(other.peer),
      peer_port(other.peer_port),
      source(other.source),
      source_port(other.source_port),
      proxy(std::move(other.proxy)),
      acceptor_(std::exchange(other.acceptor_, nullptr)),
      worker_(other.worker_),
      listener_cells_(std::exchange(other.listener_cells_, nullptr)),
      stream_(std::move(other.stream_)) {}

ClientConnection::~ClientConnection() {
  if (listener_cells_ == nullptr) return;
  for (SeriesCells* cells : {listener_cells_, &worker_->pool_cells()}) {
    cells->connections_active.add(-1);
  }
  leave_acceptor();
}

void ClientConnection::leave_acceptor() {
  if (acceptor_ == nullptr) return;
  AcceptorState& acceptor = *std::exchange(acceptor_, nullptr);
  if (--acceptor.sessions == 0 && acceptor.closed) worker_->defer_reap();
}

}  // namespace gatehouse
