// Names and numbers of gRPC; see grpc.h.
#include "http/grpc.h"

#include <array>

namespace gatehouse {

namespace {

constexpr std::string_view kType = "application/grpc";
constexpr std::string_view kWebType = "application/grpc-web";

constexpr std::string_view kNames[kGrpcStatuses] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

// The text behind `prefix`, whatever its case; none where it begins otherwise.
std::optional<std::string_view> behind(std::string_view text, std::string_view prefix) {
  if (text.size() < prefix.size()) return {};
  if (!equal_ignoring_case(text.substr(0, prefix.size()), prefix)) return {};
  return text.substr(prefix.size());
}

// What may follow a media type: nothing, a suffix, or parameters.
bool ends_type(std::string_view rest) {
  return rest.empty() || rest[0] == '+' || rest[0] == ';' || rest[0] == ' ' || rest[0] == '\t';
}

}  // namespace

std::string_view grpc_status_name(GrpcStatus status) {
  return kNames[static_cast<unsigned>(status)];
}

bool is_grpc_type(std::string_view content_type) {
  const auto rest = behind(content_type, kType);
  return rest && ends_type(*rest);
}

GrpcWeb grpc_web_type(std::string_view content_type) {
  const auto rest = behind(content_type, kWebType);
  if (!rest) return GrpcWeb::kNo;
  if (ends_type(*rest)) return GrpcWeb::kBinary;
  const auto text = behind(*rest, "-text");
  return text && ends_type(*text) ? GrpcWeb::kText : GrpcWeb::kNo;
}

bool is_grpc_request(const FieldList& fields) {
  const Field* type = fields.find(FieldId::kContentType);
  return type != nullptr &&
         (is_grpc_type(type->value) || grpc_web_type(type->value) != GrpcWeb::kNo);
}

std::optional<Duration> parse_grpc_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return {};
  uint64_t number = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return {};
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  switch (text.back()) {
    case 'H':
      return Duration(number * 3'600'000);
    case 'M':
      return Duration(number * 60'000);
    case 'S':
      return Duration(number * 1000);
    case 'm':
      return Duration(number);
    case 'u':
      return Duration((number + 999) / 1000);
    case 'n':
      return Duration((number + 999'999) / 1'000'000);
    default:
      return {};
  }
}

GrpcStatus grpc_status_for(Reason reason) {
  switch (reason) {
    case Reason::kNone:
      return GrpcStatus::kOk;
    case Reason::kClientGone:
      return GrpcStatus::kCancelled;
    case Reason::kGrpcDeadline:
    case Reason::kUpstreamTimeout:
    case Reason::kBodyTimeout:
      return GrpcStatus::kDeadlineExceeded;
    case Reason::kRateLimited:
    case Reason::kConcurrencyLimited:
    case Reason::kBodyTooLarge:
    case Reason::kHeadTooLarge:
    case Reason::kTooManyFields:
      return GrpcStatus::kResourceExhausted;
    case Reason::kNoRoute:
    case Reason::kMethodNotAllowed:
    case Reason::kMethodNotImplemented:
      return GrpcStatus::kUnimplemented;
    case Reason::kUpstreamBadResponse:
    case Reason::kUpstreamHeadTooLarge:
    case Reason::kUpstreamExcess:
    case Reason::kInternal:
      return GrpcStatus::kInternal;
    default:
      return grpc_status_for_http(reason_info(reason).status);
  }
}

GrpcStatus grpc_status_for_http(uint16_t status) {
  switch (status) {
    case 400:
      return GrpcStatus::kInternal;
    case 401:
      return GrpcStatus::kUnauthenticated;
    case 403:
      return GrpcStatus::kPermissionDenied;
    case 404:
      return GrpcStatus::kUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return GrpcStatus::kUnavailable;
    default:
      return GrpcStatus::kUnknown;
  }
}

std::optional<GrpcStatus> parse_grpc_status(std::string_view text) {
  if (text.empty() || text.size() > 9) return {};
  unsigned number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return {};
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number < kGrpcStatuses ? static_cast<GrpcStatus>(number) : GrpcStatus::kUnknown;
}

std::string encode_grpc_message(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if (c >= ' ' && c <= '~' && c != '%') {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<uint8_t>(c);
    encoded += '%';
    encoded += kDigits[byte >> 4];
    encoded += kDigits[byte & 0x0F];
  }
  return encoded;
}

std::string grpc_message(Reason reason, std::string_view request_id) {
  const ReasonInfo& info = reason_info(reason);
  std::string message = std::string(info.text) + " (" + info.code;
  if (!request_id.empty()) message.append(", request ").append(request_id);
  return encode_grpc_message(message + ")");
}

GrpcName parse_grpc_path(std::string_view path) {
  if (!path.starts_with('/')) return {};
  path.remove_prefix(1);
  const size_t slash = path.rfind('/');
  if (slash == path.npos || slash == 0 || slash + 1 == path.size()) return {};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace gatehouse
