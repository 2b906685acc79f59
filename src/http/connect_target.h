// Connecting to a target: everything between its address and a connection that carries bytes.
#pragma once

#include <memory>

#include "core/event_loop.h"
#include "core/sockets.h"
#include "core/task.h"
#include "core/tls_layer.h"
#include "core/units.h"
#include "http/reason.h"
#include "http/upstream_connection.h"

namespace gatehouse {

// Sets `connection`, or says why there is none: kUpstreamConnectFailed, kUpstreamConnectTimeout,
// kUpstreamTlsFailed. `header`, where it is not empty, goes out first
// (PROXY protocol). With `tls` (http/upstream_tls) the handshake is a part of it, and of the
// time. All references outlive the task.
Task<Reason> connect_target(EventLoop& loop, TargetState& state, const SocketAddress& address,
                            Duration patience, std::string_view header,
                            std::unique_ptr<TlsLayer> tls,
                            std::unique_ptr<UpstreamConnection>& connection);

// Whether the target has chosen HTTP/2 (RFC 9113 §3.2).
bool chose_h2(UpstreamConnection& connection);

}  // namespace gatehouse
