// The field names gatehouse knows, and what each means to a gateway.
//
// One list (GATEHOUSE_FIELDS) gives the number, the spelling and the treatment of each name;
// field_id() finds a number from the bytes of a name with one hash, one load and one comparison.
// It allocates nothing and accepts any bytes: what is not in the list is FieldId::kOther.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse {

// What the gateway does with a field.
//   kEndToEnd   handed on, also where Connection nominates it: a client must not be able to make
//               the gateway remove what a later hop decides by
//   kHopByHop   never handed on
//   kFraming    never handed on as it came: the gateway writes its own. A Connection field that
//               nominates one is refused
enum class FieldKind : uint8_t { kUnknown, kEndToEnd, kHopByHop, kFraming };

// X(enumerator, spelling, kind). At most 63 entries: FieldList keeps a bit for each.
#define GATEHOUSE_FIELDS(X)                                \
  X(kHost, "Host", kFraming)                               \
  X(kConnection, "Connection", kHopByHop)                  \
  X(kContentLength, "Content-Length", kFraming)            \
  X(kTransferEncoding, "Transfer-Encoding", kFraming)      \
  X(kTe, "TE", kHopByHop)                                  \
  X(kTrailer, "Trailer", kEndToEnd)                        \
  X(kUpgrade, "Upgrade", kHopByHop)                        \
  X(kHttp2Settings, "HTTP2-Settings", kHopByHop)           \
  X(kKeepAlive, "Keep-Alive", kHopByHop)                   \
  X(kProxyConnection, "Proxy-Connection", kHopByHop)       \
  X(kProxyAuthenticate, "Proxy-Authenticate", kEndToEnd)   \
  X(kProxyAuthorization, "Proxy-Authorization", kEndToEnd) \
  X(kExpect, "Expect", kEndToEnd)                          \
  X(kMaxForwards, "Max-Forwards", kEndToEnd)               \
  X(kForwarded, "Forwarded", kEndToEnd)                    \
  X(kXForwardedFor, "X-Forwarded-For", kEndToEnd)          \
  X(kXForwardedProto, "X-Forwarded-Proto", kEndToEnd)      \
  X(kXForwardedHost, "X-Forwarded-Host", kEndToEnd)        \
  X(kXForwardedPort, "X-Forwarded-Port", kEndToEnd)        \
  X(kXForwardedPrefix, "X-Forwarded-Prefix", kEndToEnd)    \
  X(kXForwardedSsl, "X-Forwarded-Ssl", kEndToEnd)          \
  X(kXRealIp, "X-Real-IP", kEndToEnd)                      \
  X(kXRequestId, "X-Request-ID", kEndToEnd)                \
  X(kVia, "Via", kEndToEnd)                                \
  X(kTraceparent, "Traceparent", kEndToEnd)                \
  X(kTracestate, "Tracestate", kEndToEnd)                  \
  X(kDate, "Date", kEndToEnd)                              \
  X(kServer, "Server", kEndToEnd)                          \
  X(kContentType, "Content-Type", kEndToEnd)               \
  X(kContentEncoding, "Content-Encoding", kEndToEnd)       \
  X(kContentRange, "Content-Range", kEndToEnd)             \
  X(kLocation, "Location", kEndToEnd)                      \
  X(kUserAgent, "User-Agent", kEndToEnd)                   \
  X(kReferer, "Referer", kEndToEnd)                        \
  X(kOrigin, "Origin", kEndToEnd)                          \
  X(kCookie, "Cookie", kEndToEnd)                          \
  X(kSetCookie, "Set-Cookie", kEndToEnd)                   \
  X(kAuthorization, "Authorization", kEndToEnd)            \
  X(kWwwAuthenticate, "WWW-Authenticate", kEndToEnd)       \
  X(kAccept, "Accept", kEndToEnd)                          \
  X(kAcceptEncoding, "Accept-Encoding", kEndToEnd)         \
  X(kAcceptLanguage, "Accept-Language", kEndToEnd)         \
  X(kCacheControl, "Cache-Control", kEndToEnd)             \
  X(kPragma, "Pragma", kEndToEnd)                          \
  X(kAge, "Age", kEndToEnd)                                \
  X(kExpires, "Expires", kEndToEnd)                        \
  X(kEtag, "ETag", kEndToEnd)                              \
  X(kLastModified, "Last-Modified", kEndToEnd)             \
  X(kIfMatch, "If-Match", kEndToEnd)                       \
  X(kIfNoneMatch, "If-None-Match", kEndToEnd)              \
  X(kIfModifiedSince, "If-Modified-Since", kEndToEnd)      \
  X(kRange, "Range", kEndToEnd)                            \
  X(kVary, "Vary", kEndToEnd)                              \
  X(kAllow, "Allow", kEndToEnd)                            \
  X(kRetryAfter, "Retry-After", kEndToEnd)                 \
  X(kSecWebSocketKey, "Sec-WebSocket-Key", kEndToEnd)      \
  X(kStrictTransportSecurity, "Strict-Transport-Security", kEndToEnd)

enum class FieldId : uint8_t {
  kOther,
#define GATEHOUSE_FIELD_ENUM(name, spelling, kind) name,
  GATEHOUSE_FIELDS(GATEHOUSE_FIELD_ENUM)
#undef GATEHOUSE_FIELD_ENUM
      kCount
};
static_assert(static_cast<size_t>(FieldId::kCount) <= 64);

// The number of a name, compared without regard to case. Any bytes may be given.
FieldId field_id(std::string_view name);

// The usual spelling; empty for kOther.
std::string_view field_name(FieldId id);

FieldKind field_kind(FieldId id);

// True where a program that turns names into variables (CGI, WSGI, PHP) would read `name` as
// `known`, though the names differ: "Content_Length", "X.Forwarded.For". Case is ignored, and all
// bytes but letters and digits are the same to such programs.
bool field_name_imitates(std::string_view name, std::string_view known);

// field_name_imitates() for any name of the list.
bool field_name_imitates_known(std::string_view name);

// ASCII comparison without regard to case; any bytes may be given.
bool equal_ignoring_case(std::string_view a, std::string_view b);

}  // namespace gatehouse
