// WebSocket over HTTP/2 (RFC 8441), where the upstream speaks HTTP/1.1: what the client of an
// Upgrade has to send (RFC 6455 §4.1), and how the answer is checked. Over HTTP/2 there is no key.
#pragma once

#include <string_view>

#include "http/exchange.h"

namespace gatehouse {

// Adds Sec-WebSocket-Key with 16 random bytes to the request towards the upstream, in the place of
// whatever the client sent under that name. Returns the key, in the arena; empty where there are no
// random bytes to be had.
std::string_view add_websocket_key(Exchange& exchange);

// Whether the response's one Sec-WebSocket-Accept is the answer to `key`.
bool accepts_websocket(const FieldList& response_fields, std::string_view key);

}  // namespace gatehouse
