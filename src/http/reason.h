// The one list of reason codes: why an exchange was decided the way it was.
//
// Every decision about an exchange (refused, no route, upstream timed out, …) names one Reason.
// The same code stands in the access log, in the metrics, in the error reply and in what
// `gatehouse explain` says, so a code never changes its spelling once released: add, never rename.
// The parsers and checks of src/http return Reason::kNone for "nothing wrong".
//
// A response of an upstream that fails the same checks (kBadChunk, kRepeatedLength, …) is
// answered with the status of kUpstreamBadResponse. Absent on purpose: texts that
// quote bytes of the message, which each place that prints them would have to escape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse {

// X(enumerator, code in logs and metrics, status of the reply, one sentence for a person).
// Status 0 means that no reply belongs to the code.
#define GATEHOUSE_REASONS(X)                                                                      \
  X(kNone, "none", 0, "The exchange was handed on.")                                              \
  X(kReply, "reply", 200, "A reply action answered the request.")                                 \
  X(kRedirect, "redirect", 302, "A redirect action answered the request.")                        \
  X(kMetrics, "metrics", 200, "The metrics action answered the request.")                         \
  X(kBadRequestLine, "bad_request_line", 400, "The request line is malformed.")                   \
  X(kBadMethod, "bad_method", 400, "The request method is malformed.")                            \
  X(kBadTarget, "bad_target", 400, "The request target is malformed.")                            \
  X(kBadVersion, "bad_version", 400, "The protocol version is missing or malformed.")             \
  X(kUnsupportedVersion, "unsupported_version", 505, "The protocol version is not supported.")    \
  X(kBadStatusLine, "bad_status_line", 502, "The status line of the response is malformed.")      \
  X(kBadFieldName, "bad_field_name", 400, "A field name holds a byte that is not allowed.")       \
  X(kBadFieldValue, "bad_field_value", 400, "A field value holds a byte that is not allowed.")    \
  X(kBareCr, "bare_cr", 400, "A carriage return without a line feed was found.")                  \
  X(kBareLf, "bare_lf", 400, "A line feed without a carriage return was found.")                  \
  X(kObsFold, "obs_fold", 400, "A field line begins with white space (obsolete folding).")        \
  X(kNulByte, "nul_byte", 400, "The message head holds a NUL byte.")                              \
  X(kSpaceBeforeColon, "space_before_colon", 400, "A field name is followed by white space.")     \
  X(kHeadTooLarge, "head_too_large", 431, "The message head is larger than allowed.")             \
  X(kTargetTooLong, "target_too_long", 414, "The request target is longer than allowed.")         \
  X(kTooManyFields, "too_many_fields", 431, "The message has more fields than allowed.")          \
  X(kMissingHost, "missing_host", 400, "The Host field is missing.")                              \
  X(kRepeatedHost, "repeated_host", 400, "The Host field appears more than once.")                \
  X(kBadHost, "bad_host", 400, "The host name or port is malformed.")                             \
  X(kBadConnection, "bad_connection", 400,                                                        \
    "The Connection field is malformed or names a field "                                         \
    "that must not be removed.")                                                                  \
  X(kBothLengths, "both_lengths", 400, "Content-Length and Transfer-Encoding are both present.")  \
  X(kRepeatedLength, "repeated_length", 400, "The Content-Length field appears more than once.")  \
  X(kBadLength, "bad_length", 400, "The Content-Length is malformed or not allowed here.")        \
  X(kBadTransferEncoding, "bad_transfer_encoding", 400,                                           \
    "The Transfer-Encoding is not exactly one final chunked.")                                    \
  X(kBadChunk, "bad_chunk", 400, "The chunked body is malformed.")                                \
  X(kBadTrailer, "bad_trailer", 400, "The trailer section is malformed or too large.")            \
  X(kBodyTooLarge, "body_too_large", 413, "The request body is larger than allowed.")             \
  X(kHeadTimeout, "head_timeout", 408, "The request head did not arrive in time.")                \
  X(kBodyTimeout, "body_timeout", 408, "The request body did not arrive in time.")                \
  X(kWriteTimeout, "write_timeout", 0, "The client did not take the response in time.")           \
  X(kUnsupportedExpectation, "unsupported_expectation", 417, "The expectation is not supported.") \
  X(kMethodNotImplemented, "method_not_implemented", 501, "The method is not implemented.")       \
  X(kMethodNotAllowed, "method_not_allowed", 405, "The method is not allowed here.")              \
  X(kNoRoute, "no_route", 404, "No route matches the request.")                                   \
  X(kNoTarget, "no_target", 503, "No target of the upstream is available.")                       \
  X(kClientGone, "client_gone", 499, "The client went away before the response was complete.")    \
  X(kClientTruncatedBody, "client_truncated_body", 400,                                           \
    "The client closed the connection before the end of the body.")                               \
  X(kUpstreamConnectFailed, "upstream_connect_failed", 502,                                       \
    "The connection to the upstream could not be made.")                                          \
  X(kUpstreamConnectTimeout, "upstream_connect_timeout", 504,                                     \
    "The connection to the upstream was not made in time.")                                       \
  X(kUpstreamTlsFailed, "upstream_tls_failed", 502,                                               \
    "The upstream did not prove who it is, or speaks no TLS that the gateway speaks.")            \
  X(kUpstreamReset, "upstream_reset", 502, "The upstream closed the connection early.")           \
  X(kUpstreamRefused, "upstream_refused", 502, "The upstream refused to look at the request.")    \
  X(kUpstreamTimeout, "upstream_timeout", 504, "The upstream did not answer in time.")            \
  X(kUpstreamBadResponse, "upstream_bad_response", 502, "The upstream's response is malformed.")  \
  X(kUpstreamTruncated, "upstream_truncated", 502, "The upstream's response ended early.")        \
  X(kUpstreamExcess, "upstream_excess", 502, "The upstream sent more than it announced.")         \
  X(kUpstreamHeadTooLarge, "upstream_head_too_large", 502,                                        \
    "The head of the upstream's response is larger than allowed.")                                \
  X(kTooEarly, "too_early", 425,                                                                  \
    "The request came before the handshake was over, and must not be repeated.")                  \
  X(kRateLimited, "rate_limited", 429, "A rate limit has no room for the request.")               \
  X(kConcurrencyLimited, "concurrency_limited", 429,                                              \
    "A limit on concurrent requests has no room for the request.")                                \
  X(kCircuitOpen, "circuit_open", 503, "The circuit breaker of the upstream is open.")            \
  X(kTargetsBusy, "targets_busy", 503, "All targets of the upstream have their fill.")            \
  X(kQueueTimeout, "queue_timeout", 503, "No target of the upstream became free in time.")        \
  X(kOverloadUpstream, "overload_upstream", 503, "The upstream has all that it can take.")        \
  X(kOverloadMemory, "overload_memory", 503, "The gateway has no memory to spare.")               \
  X(kOverloadCpu, "overload_cpu", 503, "The gateway has no processor time to spare.")             \
  X(kUntrustedProxy, "untrusted_proxy", 0,                                                        \
    "A connection without a PROXY header from a trusted proxy was refused.")                      \
  X(kBadProxyHeader, "bad_proxy_header", 0,                                                       \
    "A connection without a proper PROXY header was refused.")                                    \
  X(kBadGrpcWeb, "bad_grpc_web", 400, "The body is no proper gRPC-Web text.")                     \
  X(kGrpcDeadline, "grpc_deadline", 504, "The deadline of the call was over.")                    \
  X(kConnectionLimit, "connection_limit", 503, "The gateway has no connection to spare.")         \
  X(kBadPseudoField, "bad_pseudo_field", 400,                                                     \
    "A pseudo-field is missing, repeated, unknown or in the wrong place.")                        \
  X(kH2Protocol, "h2_protocol", 0, "The client broke the rules of HTTP/2 framing.")               \
  X(kH2ResetFlood, "h2_reset_flood", 0, "The client made the gateway reset too many streams.")    \
  X(kH2PingFlood, "h2_ping_flood", 0, "The client sent too many PING frames.")                    \
  X(kH2SettingsFlood, "h2_settings_flood", 0, "The client sent too many SETTINGS frames.")        \
  X(kH2EmptyFlood, "h2_empty_flood", 0, "The client sent too many frames without content.")       \
  X(kH2PriorityFlood, "h2_priority_flood", 0, "The client changed priorities too often.")         \
  X(kH2WindowFlood, "h2_window_flood", 0, "The client sent too many WINDOW_UPDATE frames.")       \
  X(kH2HeaderFlood, "h2_header_flood", 0,                                                         \
    "The client sent a field section without end, or one far over the limit.")                    \
  X(kDraining, "draining", 503, "The gateway is shutting down.")                                  \
  X(kInternal, "internal", 500, "The gateway could not process the request.")

enum class Reason : uint8_t {
#define GATEHOUSE_REASON_ENUM(name, code, status, text) name,
  GATEHOUSE_REASONS(GATEHOUSE_REASON_ENUM)
#undef GATEHOUSE_REASON_ENUM
      kCount
};

inline constexpr size_t kReasonCount = static_cast<size_t>(Reason::kCount);

struct ReasonInfo {
  const char* code;  // snake_case, never changes
  uint16_t status;   // of the reply; 0 where none is sent, 499 stands in logs only
  const char* text;  // one sentence for a person
};

// REQUIRES: reason < Reason::kCount.
const ReasonInfo& reason_info(Reason reason);

// The reason with this code, or kCount where there is none.
Reason reason_from_code(std::string_view code);

}  // namespace gatehouse
