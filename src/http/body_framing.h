// What the fields of a head mean together: the one place that decides where a message ends.
//
// check_request() and check_response() read a parsed head once and say how long the body is (RFC
// 9112 §6), whether the connection can carry another message, and what the hop-by-hop fields ask
// for. They refuse everything that two programs could frame differently, even where the RFC lets a
// recipient repair it: both lengths, repeated or listed lengths, a Transfer-Encoding that is not
// exactly one final chunked. A refused message ends its connection: nothing after it can be
// trusted.
//
// Both mark as dropped what must not be handed on: hop-by-hop fields, the unknown fields that
// Connection nominates, and the fields that the gateway writes itself from the facts (Host,
// Content-Length, Transfer-Encoding, Connection). Writing the next message is then: own framing
// fields, and every field that is not dropped. One exception: Content-Length stays in a response
// to HEAD and in a 304, where it frames nothing and tells the client something.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>

#include "http/field.h"
#include "http/h1_parser.h"
#include "http/host.h"
#include "http/reason.h"
#include "http/target.h"

namespace gatehouse {

struct BodyLength {
  enum class Kind : uint8_t {
    kNone,        // no body, and no framing field to send
    kLength,      // exactly `length` bytes; may be 0: "Content-Length: 0" was said
    kChunked,     // http/chunked.h
    kUntilClose,  // response only: to the end of the connection
    kTunnel,      // no body: after the head (101, 2xx to CONNECT) bytes belong to another protocol
  };
  Kind kind = Kind::kNone;
  uint64_t length = 0;

  // Whether a byte of a body may follow the head.
  bool empty() const { return kind == Kind::kNone || (kind == Kind::kLength && length == 0); }
};

struct RequestFacts {
  BodyLength body;               // kTunnel for CONNECT
  bool keep_alive = false;       // the client connection may carry another request after this one
  bool expect_continue = false;  // HTTP/1.1, a body is announced and the client waits for 100
  bool te_trailers = false;      // the client takes trailers ("TE: trailers")
  bool has_authority = false;    // false only for HTTP/1.0 without a Host field
  Authority authority;           // from the target if it names the host, else from Host
  // The one protocol that the client offers to switch to, empty if none or not acceptable:
  // offers in HTTP/1.0, with a body, as a list, not nominated by Connection, and of h2c, HTTP/x
  // or TLS/x are dropped, which RFC 9110 §7.8 lets a server do. The exchange becomes a tunnel only
  // when the upstream answers 101.
  std::string_view upgrade;
};

// kNone and `out`, or the reason to refuse. `target` is the parsed target of the same head.
[[nodiscard]] Reason check_request(const RequestHead& head, FieldList& fields,
                                   const RequestTarget& target, std::pmr::memory_resource& arena,
                                   RequestFacts& out);

struct ResponseFacts {
  BodyLength body;           // never a body for 1xx, 204, 304, and answers to HEAD
  bool keep_alive = false;   // the upstream connection may be used again once the body has ended
  std::string_view upgrade;  // 101: the protocol it switches to
};

// The same for a response to a request of `method`; a 101 needs the caller to check that the
// request offered an upgrade. A status 1xx other than 101 is interim: another head follows.
[[nodiscard]] Reason check_response(const ResponseHead& head, FieldList& fields, Method method,
                                    ResponseFacts& out);

// True where a field of that name may stand in a trailer section: not framing, routing,
// authentication, nor anything that changes how the content is read (RFC 9110 §6.5.1).
bool trailer_allowed(const Field& field);

}  // namespace gatehouse
