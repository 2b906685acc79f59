// Priorities of responses (RFC 9218): what the Priority field of a request or a response says.
//
// libnghttp2 orders DATA frames by them: lower urgency first, then responses one after the other,
// or in turns where they are incremental. PRIORITY_UPDATE frames are read by it, too. The
// priorities of RFC 7540 are switched off (SETTINGS_NO_RFC7540_PRIORITIES), as RFC 9113 §5.3
// allows.
#pragma once

#include <cstdint>
#include <string_view>

namespace gatehouse {

struct H2Priority {
  uint8_t urgency = 3;  // 0 (first) to 7
  bool incremental = false;
  friend bool operator==(const H2Priority&, const H2Priority&) = default;
};

// Takes over what `field`, a dictionary (RFC 8941 §3.2), says; members that are unknown or have
// another type are passed over, and a field that is malformed changes nothing. True where
// `priority` has changed.
bool update_priority(std::string_view field, H2Priority& priority);

}  // namespace gatehouse
