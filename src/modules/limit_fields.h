// The RateLimit and RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers-10), and
// Retry-After: what a client is told about the limits it is under.
//
//   RateLimit-Policy: "per_client";q=200;w=2, "all";q=10;qu="concurrent-requests"
//   RateLimit: "per_client";r=150;t=1
//
// q is what may be used at once: N of a window, the burst of a bucket; w, the seconds after which
// all of it is there again. r is what is left now, and t the seconds until all of it is there
// again, or, where nothing is left, until something is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/limit_state.h"
#include "http/text_template.h"

namespace gatehouse {

// A limit's name as a structured field's string (RFC 9651 §3.3.3): quoted, other characters than
// visible ASCII replaced by '_'.
std::string limit_field_name(std::string_view name);

// The member of RateLimit-Policy for a rate, and for a concurrency.
void append_rate_policy(std::string_view field_name, const LimitRule& rule, TextBuffer& out);
void append_concurrency_policy(std::string_view field_name, uint32_t concurrency, TextBuffer& out);

// The member of RateLimit; `count` is the key's under `rule`.
void append_rate_state(std::string_view field_name, const LimitRule& rule, uint64_t count,
                       int64_t now_us, uint64_t cost, TextBuffer& out);

// Seconds, rounded up: what Retry-After says. At least 1.
uint64_t retry_seconds(int64_t us);

}  // namespace gatehouse
