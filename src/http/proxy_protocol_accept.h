// Who the client of an accepted connection is where a proxy stands in front of the listener
// (`proxy_protocol = on`).
#pragma once

#include "core/task.h"
#include "http/client_connection.h"

namespace gatehouse {

// Reads the PROXY header of a connection and sets its `source` and `proxy` by it. False where the
// connection is not let in, which is counted by the listener's reasons and logged: its peer is not
// in trusted_proxy (untrusted_proxy; not a byte of it is read), or it sent no proper header within
// header_timeout (bad_proxy_header). One that ends without a byte is a probe of the port and no
// cause for complaint. A header without addresses (LOCAL, UNKNOWN) leaves the peer as the client.
//
// REQUIRES: the connection outlives the Task, has its acceptor, and nothing was read of it.
Task<bool> accept_proxy_header(ClientConnection& connection);

}  // namespace gatehouse
