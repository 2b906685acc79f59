// Telling upstreams who the client is; see proxy_protocol_out.h.
#include "http/proxy_protocol_out.h"

#include "core/stream.h"
#include "http/client_connection.h"
#include "http/proxy_protocol.h"

namespace gatehouse {

namespace {

SocketAddress destination_of(const ClientConnection& connection) {
  const ProxyHeader* told = connection.proxy.get();
  if (told != nullptr && !told->destination.is_none()) return told->destination;
  const Result<SocketAddress> local = local_address(connection.stream().fd());
  return local ? *local : SocketAddress();
}

void add_tls(const TlsLayer& tls, ProxyHeader& header) {
  header.alpn = tls.alpn();
  header.authority = tls.server_name();
  header.tls.used = true;
  header.tls.version = tls.version();
  header.tls.cipher = tls.cipher();
}

}  // namespace

std::string proxy_header_for(const Exchange& exchange, ProxyProtocolOut version) {
  const ClientConnection& connection = *exchange.connection;
  ProxyHeader header;
  const bool same = exchange.client_address == connection.source;
  if (!exchange.client_address.is_none()) {
    header.source =
        SocketAddress::ip(exchange.client_address, same ? connection.source_port : uint16_t{0});
    header.destination = destination_of(connection);
  }
  if (const TlsLayer* tls = connection.stream().tls()) {
    add_tls(*tls, header);
  } else if (connection.proxy != nullptr) {
    header.alpn = connection.proxy->alpn;
    header.authority = connection.proxy->authority;
    header.tls = connection.proxy->tls;
  }
  return format_proxy_header(header, version == ProxyProtocolOut::kV1 ? 1 : 2);
}

}  // namespace gatehouse
