// Connecting to a target: everything between its address and a connection that carries bytes.
#pragma once

#include <memory>

#include "core/event_loop.h"
#include "core/sockets.h"
#include "core/task.h"
#include "core/units.h"
#include "http/reason.h"
#include "http/upstream_connection.h"

namespace gatehouse {

// Sets `connection`, or says why there is none: kUpstreamConnectFailed, kUpstreamConnectTimeout.
// All references outlive the task.
Task<Reason> connect_target(EventLoop& loop, TargetState& state, const SocketAddress& address,
                            Duration patience, std::unique_ptr<UpstreamConnection>& connection);

}  // namespace gatehouse
