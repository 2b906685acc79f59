// Letting proxies in; see proxy_protocol_accept.h.
#include "http/proxy_protocol_accept.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "core/log.h"
#include "http/proxy_protocol_reader.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

void count(const ClientConnection& connection, Reason why) {
  const auto reason = static_cast<unsigned>(why);
  connection.acceptor()->listener->cells->reasons[reason].add();
  connection.worker().pool_cells().reasons[reason].add();
}

// Whoever reaches a unix socket was let in by the permissions of its path.
bool is_trusted(const ClientConnection& connection) {
  const auto& trusted = connection.acceptor()->listener->conf->trusted_proxy;
  return connection.peer.is_none() ||
         std::any_of(trusted.begin(), trusted.end(), [&](const NetworkPrefix& network) {
           return network.contains(connection.peer);
         });
}

}  // namespace

Task<bool> accept_proxy_header(ClientConnection& connection) {
  const Listener& listener = *connection.acceptor()->listener;
  if (!is_trusted(connection)) {
    count(connection, Reason::kUntrustedProxy);
    GH_LOG(kWarn, "listener {}: {} is refused: it is not in trusted_proxy", listener.name,
           connection.peer.format());
    co_return false;
  }
  auto header = std::make_unique<ProxyHeader>();
  const Duration patience = listener.conf->header_timeout;
  const ProxyRead read = co_await read_proxy_header(connection.stream(), patience, *header);
  if (read.status == ProxyRead::Status::kNothing) co_return false;
  if (read.status != ProxyRead::Status::kRead) {
    count(connection, Reason::kBadProxyHeader);
    // The listener may have changed while this waited.
    GH_LOG(kWarn, "listener {}: the PROXY header of {} is refused: {}",
           connection.acceptor()->listener->name, connection.peer.format(),
           read.status == ProxyRead::Status::kRefused ? read.problem
           : read.status == ProxyRead::Status::kLate  ? "it did not come in time"
                                                      : "the connection ended within it");
    co_return false;
  }
  if (!header->source.is_none()) {
    connection.source = header->source.ip();
    connection.source_port = header->source.port();
  }
  connection.proxy = std::move(header);
  co_return true;
}

}  // namespace gatehouse
