// See h2_response.h.
#include "http/h2_response.h"

#include <charconv>
#include <vector>

#include "http/field_names.h"

namespace gatehouse {
namespace {

// Keeps its memory from one response to the next.
thread_local std::vector<nghttp2_nv> lines;
// The digits of a status and of a length.
thread_local char numbers[3 + 20];

constexpr uint8_t kStatic = NGHTTP2_NV_FLAG_NO_COPY_NAME;

void push(std::string_view name, std::string_view value, uint8_t flags = NGHTTP2_NV_FLAG_NONE) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  };
  lines.push_back({bytes(name), bytes(value), name.size(), value.size(), flags});
}

void begin(uint16_t status) {
  lines.clear();
  if (status == 200) {
    push(":status", "200", kStatic | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    return;
  }
  numbers[0] = static_cast<char>('0' + status / 100 % 10);
  numbers[1] = static_cast<char>('0' + status / 10 % 10);
  numbers[2] = static_cast<char>('0' + status % 10);
  push(":status", {numbers, 3}, kStatic);
}

// What belongs to a connection stays behind (§8.2.2). From an upstream such fields are dropped
// already; a hook or a handler may have added one.
bool belongs_to_connection(const Field& field) {
  return field_kind(field.id) == FieldKind::kHopByHop || field.id == FieldId::kTransferEncoding;
}

void push_all(const FieldList& fields) {
  for (const Field& field : fields) {
    if (!field.dropped && !belongs_to_connection(field)) push(field.name, field.value);
  }
}

}  // namespace

std::span<const nghttp2_nv> H2Fields::response(const Exchange& exchange, ClientFraming framing,
                                               std::string_view date) {
  const Response& response = exchange.response;
  const bool tunnel = framing == ClientFraming::kTunnel;
  begin(tunnel ? uint16_t{200} : response.status);
  for (const Field& field : response.fields) {
    if (field.dropped || belongs_to_connection(field)) continue;
    if (tunnel && equal_ignoring_case(field.name, "Sec-WebSocket-Accept")) continue;
    push(field.name, field.value);
  }
  push_all(response.added);
  if (!response.fields.has(FieldId::kDate) && !date.empty()) push("date", date, kStatic);
  if (framing == ClientFraming::kLength) {
    char* const digits = numbers + 3;
    const char* const end = std::to_chars(digits, digits + 20, response.body.length).ptr;
    push("content-length", {digits, static_cast<size_t>(end - digits)}, kStatic);
  }
  return lines;
}

std::span<const nghttp2_nv> H2Fields::interim(uint16_t status, const FieldList& fields) {
  begin(status);
  push_all(fields);
  return lines;
}

std::span<const nghttp2_nv> H2Fields::trailers(const FieldList& fields) {
  lines.clear();
  push_all(fields);
  return lines;
}

}  // namespace gatehouse
