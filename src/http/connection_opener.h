// What happens to a client's connection between its being accepted and the session that speaks its
// protocol.
#pragma once

#include "core/sockets.h"
#include "core/unique_fd.h"
#include "http/session.h"

namespace gatehouse {

// Takes an accepted, non-blocking socket and begins a session on it.
void open_connection(AcceptorState& acceptor, UniqueFd fd, const SocketAddress& peer);

}  // namespace gatehouse
