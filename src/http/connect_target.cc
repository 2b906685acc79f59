// See connect_target.h.
#include "http/connect_target.h"

#include <openssl/x509.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "core/log.h"

namespace gatehouse {

namespace {

// "certificate verify failed: self-signed certificate"
std::string failure_of(const TlsLayer& tls) {
  std::string text = tls.failure();
  const long verdict = SSL_get_verify_result(tls.ssl());
  if (verdict != X509_V_OK) {
    text += text.empty() ? "" : ": ";
    text += X509_verify_cert_error_string(verdict);
  }
  return text.empty() ? "the target closed the connection" : text;
}

}  // namespace

Task<Reason> connect_target(EventLoop& loop, TargetState& state, const SocketAddress& address,
                            Duration patience, std::string_view header,
                            std::unique_ptr<TlsLayer> tls,
                            std::unique_ptr<UpstreamConnection>& connection) {
  const Moment until = loop.now() + patience;
  ConnectStart start = start_connect(address);
  if (start.error != 0 && start.error != EINPROGRESS) co_return Reason::kUpstreamConnectFailed;
  connection = std::make_unique<UpstreamConnection>(loop, std::move(start.fd), state);
  const Result<void> opened = connection->stream().open();
  if (!opened) {
    connection.reset();
    co_return Reason::kUpstreamConnectFailed;
  }
  if (start.error != 0) {
    const IoResult result = co_await connection->stream().connected(patience);
    if (!result.ok()) {
      connection.reset();
      co_return result.status == IoStatus::kTimeout ? Reason::kUpstreamConnectTimeout
                                                    : Reason::kUpstreamConnectFailed;
    }
  }
  if (!header.empty()) {
    const IoResult sent = co_await connection->stream().write(header, patience);
    if (!sent.ok()) {
      connection.reset();
      co_return Reason::kUpstreamConnectFailed;
    }
    connection->set_header(header);
  }
  if (tls == nullptr) co_return Reason::kNone;
  connection->stream().start_tls(std::move(tls));
  const auto left = std::max(std::chrono::duration_cast<Duration>(until - loop.now()), Duration(1));
  const IoResult shaken = co_await connection->stream().handshake(left);
  if (shaken.ok()) co_return Reason::kNone;
  if (shaken.status == IoStatus::kTimeout) {
    connection.reset();
    co_return Reason::kUpstreamConnectTimeout;
  }
  GH_LOG(kWarn, "target {}: the TLS handshake failed: {}", state.key(),
         failure_of(*connection->stream().tls()));
  connection.reset();
  co_return Reason::kUpstreamTlsFailed;
}

bool chose_h2(UpstreamConnection& connection) {
  const TlsLayer* const tls = connection.stream().tls();
  return tls != nullptr && tls->alpn() == "h2";
}

}  // namespace gatehouse
