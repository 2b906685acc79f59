// gRPC over HTTP as the gateway needs it: telling its requests, reading their deadlines, and saying
// what went wrong in its own terms
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
//
// A gRPC answer has the HTTP status 200 whatever comes of the call; that stands in the field
// grpc-status, mostly in the trailers. An answer made here has no messages and is "trailers-only":
// the head is all there is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/units.h"
#include "http/field.h"
#include "http/reason.h"

namespace gatehouse {

// https://grpc.github.io/grpc/core/md_doc_statuscodes.html
enum class GrpcStatus : uint8_t {
  kOk,
  kCancelled,
  kUnknown,
  kInvalidArgument,
  kDeadlineExceeded,
  kNotFound,
  kAlreadyExists,
  kPermissionDenied,
  kResourceExhausted,
  kFailedPrecondition,
  kAborted,
  kOutOfRange,
  kUnimplemented,
  kInternal,
  kUnavailable,
  kDataLoss,
  kUnauthenticated,
};
inline constexpr unsigned kGrpcStatuses = 17;

// Exchange::grpc_status of what is no call, and of a call whose status nobody has told yet.
inline constexpr int8_t kGrpcStatusNone = -1;
inline constexpr int8_t kGrpcStatusPending = -2;

// "OK", "DEADLINE_EXCEEDED".
std::string_view grpc_status_name(GrpcStatus status);

// True for application/grpc, with or without a suffix ("+proto") or parameters; not for gRPC-Web.
bool is_grpc_type(std::string_view content_type);

// gRPC-Web: application/grpc-web or application/grpc-web-text, with or without suffix.
enum class GrpcWeb : uint8_t { kNo, kBinary, kText };
GrpcWeb grpc_web_type(std::string_view content_type);

// True where the request's Content-Type is that of gRPC or gRPC-Web.
bool is_grpc_request(const FieldList& fields);

// The value of grpc-timeout: up to eight digits and one of H M S m u n. Rounded up to whole
// milliseconds. None where it is malformed.
std::optional<Duration> parse_grpc_timeout(std::string_view text);

// What the gateway answers when it has decided so. Reasons that tell a client that nothing has
// happened are UNAVAILABLE, which clients may try again.
GrpcStatus grpc_status_for(Reason reason);

// The same for an HTTP status alone
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
GrpcStatus grpc_status_for_http(uint16_t status);

// The value of grpc-status as a number from 0 on; none where it is malformed. Numbers that have no
// name here are kUnknown, as the protocol says.
std::optional<GrpcStatus> parse_grpc_status(std::string_view text);

// A message as grpc-message carries it: what is not visible ASCII, and '%', as %XX.
std::string encode_grpc_message(std::string_view text);

// What grpc-message says of `reason`, encoded, with its code and the request id if there is one.
std::string grpc_message(Reason reason, std::string_view request_id);

// "/package.Service/Method" taken apart; empty parts where the path is no such.
struct GrpcName {
  std::string_view service;
  std::string_view method;
};
GrpcName parse_grpc_path(std::string_view path);

}  // namespace gatehouse
