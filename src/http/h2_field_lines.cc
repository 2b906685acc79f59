// See h2_field_lines.h.
#include "http/h2_field_lines.h"

#include <cassert>

namespace gatehouse {

namespace {

// What somebody else's request must not be compressed with.
bool is_secret(FieldId id) {
  return id == FieldId::kAuthorization || id == FieldId::kProxyAuthorization ||
         id == FieldId::kCookie || id == FieldId::kSetCookie;
}

nghttp2_nv line_of(std::string_view name, std::string_view value, uint8_t flags) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), flags};
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

}  // namespace

void H2FieldLines::reserve(const FieldList& fields) {
  for (const Field& field : fields) names_size_ += field.name.size();
  names_.reserve(names_size_);
  lines_.reserve(lines_.size() + fields.size());
}

void H2FieldLines::clear() {
  names_.clear();
  names_size_ = 0;
  lines_.clear();
}

void H2FieldLines::add(std::string_view name, std::string_view value) {
  lines_.push_back(line_of(name, value, NGHTTP2_NV_FLAG_NONE));
}

void H2FieldLines::add(const FieldList& fields) {
  for (const Field& field : fields) {
    if (field.dropped) continue;
    const size_t start = names_.size();
    assert(start + field.name.size() <= names_.capacity());
    for (const char c : field.name) names_ += lower(c);
    lines_.push_back(
        line_of({names_.data() + start, field.name.size()}, field.value,
                is_secret(field.id) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE));
  }
}

void write_h2_request(const Exchange& exchange, std::string_view authority, bool https,
                      std::string& scratch, H2FieldLines& lines) {
  const Request& request = exchange.request;
  lines.clear();
  lines.reserve(request.fields);
  lines.reserve(request.added);
  lines.add(":method", request.head.method);
  lines.add(":scheme", https ? "https" : "http");
  lines.add(":authority", authority);
  lines.add(":path", request.target.wire);
  lines.add(request.fields);
  lines.add(request.added);
  if (request.facts.body.kind == BodyLength::Kind::kLength) {
    scratch = std::to_string(request.facts.body.length);
    lines.add("content-length", scratch);
  }
  if (request.facts.te_trailers) lines.add("te", "trailers");
}

}  // namespace gatehouse
