// $variables: what log formats and action texts can say about an exchange.
//
// One list gives name and meaning of each (variable_list(), for the manual); a name is resolved to
// a Variable once, when the configuration is loaded. $header_NAME, $response_header_NAME,
// $query_NAME, $cookie_NAME and $capture_NAME take the rest of the name from the request; in field
// names '_' stands for '-'. Values are the bytes of the exchange: whoever writes them escapes them
// (http/text_template.h).
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "http/field.h"

namespace gatehouse {

class Exchange;

// Any fmt::memory_buffer, whatever its inline size.
using TextBuffer = fmt::detail::buffer<char>;

inline void append_text(TextBuffer& out, std::string_view text) {
  out.append(text.data(), text.data() + text.size());
}

// X(enumerator, name, meaning, is a number). Names that end in '_' take a name after it.
#define GATEHOUSE_VARIABLES(X)                                                                     \
  X(kClientAddress, "client_address", "the client's address, by the trusted-proxy rule", false)    \
  X(kClientPort, "client_port", "the client's port; empty where only a proxy knows it", true)      \
  X(kPeerAddress, "peer_address", "the address at the connection's other end", false)              \
  X(kMethod, "method", "the request method", false)                                                \
  X(kHost, "host", "the host that was asked for, without port", false)                             \
  X(kPath, "path", "the normalised path", false)                                                   \
  X(kQuery, "query", "the query, without '?'", false)                                              \
  X(kUri, "uri", "the path and the query, as routed and sent on", false)                           \
  X(kRawTarget, "raw_target", "the request target as it came", false)                              \
  X(kScheme, "scheme", "http or https, as the client sees it", false)                              \
  X(kProtocol, "protocol", "HTTP/1.1, HTTP/1.0", false)                                            \
  X(kRequestLine, "request_line", "method, raw target and protocol", false)                        \
  X(kStatus, "status", "the response's status", true)                                              \
  X(kReason, "reason", "the reason code", false)                                                   \
  X(kRequestId, "request_id", "the request id", false)                                             \
  X(kRoute, "route", "the route's name", false)                                                    \
  X(kListener, "listener", "the listener's name", false)                                           \
  X(kPool, "pool", "the pool of the worker", false)                                                \
  X(kWorker, "worker", "the worker's number in its pool", true)                                    \
  X(kUpstream, "upstream", "the upstream's name", false)                                           \
  X(kTarget, "target", "the address of the last target tried", false)                              \
  X(kTries, "tries", "how many tries were made", true)                                             \
  X(kBytesIn, "bytes_in", "body bytes received from the client", true)                             \
  X(kBytesOut, "bytes_out", "body bytes sent to the client", true)                                 \
  X(kUpstreamBytesIn, "upstream_bytes_in", "bytes received from the upstream", true)               \
  X(kUpstreamBytesOut, "upstream_bytes_out", "bytes sent to the upstream", true)                   \
  X(kDuration, "duration", "seconds from the request's first byte to the end", true)               \
  X(kUpstreamDuration, "upstream_duration", "seconds from the last try's start to the end", true)  \
  X(kUpstreamConnectDuration, "upstream_connect_duration", "seconds the connection took", true)    \
  X(kUpstreamHeadDuration, "upstream_head_duration", "seconds until the response's head", true)    \
  X(kGrpcService, "grpc_service", "the service of a gRPC call, with its package", false)           \
  X(kGrpcMethod, "grpc_method", "the method of a gRPC call", false)                                \
  X(kGrpcStatus, "grpc_status", "the status of a gRPC call", true)                                 \
  X(kProxyAuthority, "proxy_authority", "the host name that a PROXY header told", false)           \
  X(kProxyUniqueId, "proxy_unique_id", "the id that a PROXY header told", false)                   \
  X(kProxyTlsVersion, "proxy_tls_version", "the TLS version that a PROXY header told", false)      \
  X(kProxyTlsCipher, "proxy_tls_cipher", "the cipher suite that a PROXY header told", false)       \
  X(kProxyClientName, "proxy_client_name",                                                         \
    "the common name of the client's certificate, verified, that a PROXY header told", false)      \
  X(kTimeIso8601, "time_iso8601", "2026-11-20T09:30:00.123Z", false)                               \
  X(kTimeUnix, "time_unix", "seconds since 1970, with milliseconds", true)                         \
  X(kTimeCombined, "time_combined", "20/Nov/2026:09:30:00 +0000, as in the combined log", false)   \
  X(kTlsVersion, "tls_version", "TLSv1.2 or TLSv1.3; empty without TLS", false)                    \
  X(kTlsCipher, "tls_cipher", "the cipher suite of the connection", false)                         \
  X(kTlsServerName, "tls_server_name", "the server name that the client asked for (SNI)", false)   \
  X(kTlsProtocol, "tls_protocol", "the protocol agreed on by ALPN", false)                         \
  X(kTlsResumed, "tls_resumed", "yes where the TLS session was resumed, otherwise no", false)      \
  X(kTlsEarlyData, "tls_early_data", "1 where the request came as early data", false)              \
  X(kTlsClientVerified, "tls_client_verified",                                                     \
    "yes where the client has shown a good certificate, otherwise no", false)                      \
  X(kTlsClientSubject, "tls_client_subject", "the subject of the client's certificate (RFC 2253)", \
    false)                                                                                         \
  X(kTlsClientIssuer, "tls_client_issuer", "who issued it", false)                                 \
  X(kTlsClientSerial, "tls_client_serial", "its serial number, in hex digits", false)              \
  X(kTlsClientFingerprint, "tls_client_fingerprint", "its SHA-256, in hex digits", false)          \
  X(kTlsClientSan, "tls_client_san", "its names: DNS:a.example, IP:192.0.2.1", false)              \
  X(kTlsClientNotAfter, "tls_client_not_after", "when it expires, 2026-11-20T09:30:00Z", false)    \
  X(kHeader, "header_", "a field of the request, $header_user_agent", false)                       \
  X(kResponseHeader, "response_header_", "a field of the response", false)                         \
  X(kQueryParameter, "query_", "a parameter of the query, as it came", false)                      \
  X(kCookie, "cookie_", "a cookie of the request", false)                                          \
  X(kCapture, "capture_", "what {name}, * (rest) or a named group of the path stood for", false)

enum class VariableId : uint8_t {
#define GATEHOUSE_VARIABLE_ENUM(id, name, meaning, number) id,
  GATEHOUSE_VARIABLES(GATEHOUSE_VARIABLE_ENUM)
#undef GATEHOUSE_VARIABLE_ENUM
};

struct Variable {
  VariableId id = VariableId::kMethod;
  std::string name;  // of the field, parameter or capture; empty for the others
  FieldId field = FieldId::kOther;
};

struct VariableInfo {
  VariableId id;
  std::string_view name;
  std::string_view meaning;
  bool number;  // its value is a JSON number, or empty
};

// All of them, in the order of VariableId.
std::span<const VariableInfo> variable_list();

// Resolves a name without its '$'. The error says `unknown variable $foo` and what may have been
// meant.
Result<Variable> parse_variable(std::string_view name);

// Appends the value; nothing where there is none.
void append_variable(const Variable& variable, const Exchange& exchange, TextBuffer& out);

// What $pool and $worker say in this process. `pool` is copied.
void set_variable_worker(std::string_view pool, uint32_t index);

}  // namespace gatehouse
