// Beginning a session on an accepted connection; see connection_opener.h.
#include "http/connection_opener.h"

#include <memory>
#include <utility>

#include "core/buffer.h"
#include "core/log.h"
#include "http/client_connection.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

void open_connection(AcceptorState& acceptor, UniqueFd fd, const SocketAddress& peer) {
  auto stream = std::make_unique<Stream>(acceptor.worker->loop(), fd.release());
  const Result<void> opened = stream->open();
  ClientConnection connection(acceptor, std::move(stream), peer);
  if (!opened) {
    GH_LOG(kError, "listener {}: {}", acceptor.listener->name, opened.error().message);
    return;
  }
  start_h1_session(std::move(connection), Buffer());
}

}  // namespace gatehouse
