// Writing HTTP/1.1 heads into a buffer: status line or request line, fields, framing.
//
// The counterpart of h1_parser.h. Only what is not dropped is written, and framing fields only by
// this code: so a head that was read with another meaning cannot be handed on with it.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/buffer.h"
#include "http/exchange.h"

namespace gatehouse {

// How the response's body is delimited towards an HTTP/1 client.
enum class ClientFraming : uint8_t { kNone, kLength, kChunked, kUntilClose, kTunnel };

// The framing for exchange.response towards this request's client (RFC 9112 §6).
ClientFraming client_framing(const Exchange& exchange);

// "OK" for 200; empty for a status without a standard phrase (RFC 9110 §15).
std::string_view status_phrase(uint16_t status);

struct ResponseHeadOptions {
  ClientFraming framing = ClientFraming::kNone;
  bool close = false;     // the connection ends after this response
  std::string_view date;  // sent where the response has no Date field
};

// Borrows a buffer that fits and writes the whole response head. Room for at least `extra` more
// bytes stays behind it where the buffer's class allows.
Buffer write_response_head(const Exchange& exchange, const ResponseHeadOptions& options,
                           size_t extra);

// Borrows a buffer and writes an interim response (1xx) with the fields that are not dropped.
Buffer write_interim_head(uint16_t status, const FieldList& fields);

// Borrows a buffer that fits and writes the request head for an HTTP/1.1 upstream. `host` is what
// the Host field says.
Buffer write_request_head(const Exchange& exchange, std::string_view host);

// Writes trailer lines and the empty line that ends a chunked body, from "0 CRLF" on.
Buffer write_last_chunk(const FieldList& trailers);

}  // namespace gatehouse
