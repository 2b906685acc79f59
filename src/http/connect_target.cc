// See connect_target.h.
#include "http/connect_target.h"

#include <cerrno>
#include <utility>

namespace gatehouse {

Task<Reason> connect_target(EventLoop& loop, TargetState& state, const SocketAddress& address,
                            Duration patience, std::unique_ptr<UpstreamConnection>& connection) {
  ConnectStart start = start_connect(address);
  if (start.error != 0 && start.error != EINPROGRESS) co_return Reason::kUpstreamConnectFailed;
  connection = std::make_unique<UpstreamConnection>(loop, std::move(start.fd), state);
  const Result<void> opened = connection->stream().open();
  if (!opened) {
    connection.reset();
    co_return Reason::kUpstreamConnectFailed;
  }
  if (start.error == 0) co_return Reason::kNone;
  const IoResult result = co_await connection->stream().connected(patience);
  if (result.ok()) co_return Reason::kNone;
  connection.reset();
  co_return result.status == IoStatus::kTimeout ? Reason::kUpstreamConnectTimeout
                                                : Reason::kUpstreamConnectFailed;
}

}  // namespace gatehouse
