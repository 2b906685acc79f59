// ClientConnection: what is known of a client's connection before its first request.
//
// Made when it is accepted, passed on while its protocol is being found out (http/acceptor,
// http/connection_opener), kept by the session that speaks it. Counts itself: as long as it lives
// the connection is among its listener's and its pool's, and its acceptor waits for it.
#pragma once

#include <cstdint>
#include <memory>

#include "core/metrics.h"
#include "core/sockets.h"
#include "core/stream.h"
#include "http/proxy_protocol.h"
#include "http/session.h"

namespace gatehouse {

class ClientConnection {
 public:
  // `stream` is not open yet.
  ClientConnection(AcceptorState& acceptor, std::unique_ptr<Stream> stream,
                   const SocketAddress& peer);
  ClientConnection(ClientConnection&& other) noexcept;
  ClientConnection& operator=(ClientConnection&&) = delete;
  ~ClientConnection();

  // Null once it is a tunnel, which belongs to no listener any more.
  AcceptorState* acceptor() const { return acceptor_; }
  Worker& worker() const { return *worker_; }
  Stream& stream() const { return *stream_; }
  // REQUIRES: nothing needs the acceptor's listener any more.
  void leave_acceptor();

  // Who connected to the socket; none over a unix socket.
  IpAddress peer;
  uint16_t peer_port = 0;
  // Who the client is, as far as the connection tells: the peer, or what its PROXY header said.
  IpAddress source;
  uint16_t source_port = 0;
  // The PROXY header that it began with; null where there was none.
  std::unique_ptr<ProxyHeader> proxy;

 private:
  AcceptorState* acceptor_;
  Worker* worker_;
  SeriesCells* listener_cells_;  // of the listener it was accepted by; null: moved from
  std::unique_ptr<Stream> stream_;
};

}  // namespace gatehouse
