// Messages of the gRPC health protocol; see grpc_health.h.
#include "agent/grpc_health.h"

#include <fmt/format.h>
#include <strings.h>

#include <cstdint>
#include <optional>

namespace gatehouse {

namespace {

constexpr size_t kFrameHead = 5;  // "compressed", length
constexpr std::string_view kStates[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};

const std::string* find_field(const ProbeAnswer& answer, const char* name) {
  for (const FieldExpectation& field : answer.fields) {
    if (strcasecmp(field.name.c_str(), name) == 0) return &field.value;
  }
  return nullptr;
}

// Takes a varint from the front.
std::optional<uint64_t> take_varint(std::string_view& bytes) {
  uint64_t number = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    number |= uint64_t{byte & 0x7FU} << shift;
    if ((byte & 0x80) == 0) return number;
  }
  return {};
}

bool skip(std::string_view& bytes, size_t count) {
  if (bytes.size() < count) return false;
  bytes.remove_prefix(count);
  return true;
}

// The field `status` of HealthCheckResponse; 0 where it is left out, none where the bytes are no
// message.
std::optional<uint64_t> read_status(std::string_view message) {
  uint64_t status = 0;
  while (!message.empty()) {
    const std::optional<uint64_t> key = take_varint(message);
    if (!key) return {};
    switch (*key & 7) {
      case 0: {
        const std::optional<uint64_t> value = take_varint(message);
        if (!value) return {};
        if (*key >> 3 == 1) status = *value;
        break;
      }
      case 1:
        if (!skip(message, 8)) return {};
        break;
      case 2: {
        const std::optional<uint64_t> size = take_varint(message);
        if (!size || *size > message.size()) return {};
        message.remove_prefix(static_cast<size_t>(*size));
        break;
      }
      case 5:
        if (!skip(message, 4)) return {};
        break;
      default:
        return {};
    }
  }
  return status;
}

}  // namespace

std::string grpc_health_request(std::string_view service) {
  std::string message;
  if (!service.empty()) {
    message += '\x0A';  // field 1, a string
    message += static_cast<char>(service.size());
    message += service;
  }
  std::string frame(kFrameHead - 1, '\0');
  frame += static_cast<char>(message.size());
  return frame + message;
}

ProbeOutcome judge_grpc_health(const ProbeAnswer& answer) {
  const auto http = static_cast<uint16_t>(answer.status);
  if (http != 200) return {false, fmt::format("HTTP status {}", http), http};
  const std::string* const status = find_field(answer, "grpc-status");
  if (status == nullptr) return {false, "no grpc-status", http};
  if (*status != "0") {
    const std::string* const message = find_field(answer, "grpc-message");
    return {false,
            fmt::format("grpc-status {}{}{}", *status, message != nullptr ? ": " : "",
                        message != nullptr ? *message : std::string()),
            http};
  }
  const std::string_view body = answer.body;
  size_t size = 0;
  for (size_t i = 1; i < kFrameHead && i < body.size(); ++i) {
    size = size << 8 | static_cast<uint8_t>(body[i]);
  }
  if (body.size() < kFrameHead || body[0] != '\0' || body.size() - kFrameHead != size) {
    return {false, "the answer is no message", http};
  }
  const std::optional<uint64_t> state = read_status(body.substr(kFrameHead));
  if (!state) return {false, "the answer is malformed", http};
  if (*state == 1) return {true, {}, http};
  return {false,
          *state < std::size(kStates) ? std::string(kStates[*state])
                                      : fmt::format("serving status {}", *state),
          http};
}

}  // namespace gatehouse
