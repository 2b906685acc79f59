// The field sections of HTTP/2 responses, as libnghttp2 takes them (RFC 9113 §8.3.2).
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <span>
#include <string_view>

#include "http/exchange.h"
#include "http/h1_writer.h"

namespace gatehouse {

// Field lines for one call of libnghttp2, which copies them and makes the names lower case. One is
// enough for a thread: the views are good until the next call.
class H2Fields {
 public:
  // exchange.response with its status, framed as `framing` says; `date` where it has none. A tunnel
  // (RFC 8441) has the status 200 in the place of 101, and none of the fields that belong to that.
  static std::span<const nghttp2_nv> response(const Exchange& exchange, ClientFraming framing,
                                              std::string_view date);
  static std::span<const nghttp2_nv> interim(uint16_t status, const FieldList& fields);
  // Those that are not dropped; may be none.
  static std::span<const nghttp2_nv> trailers(const FieldList& fields);
};

}  // namespace gatehouse
