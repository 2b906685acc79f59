// A moment as text for people.
#pragma once

#include <cstdint>
#include <string>

namespace gatehouse {

// "2026-11-20 19:04:48 UTC"; `seconds` since 1970.
std::string utc_text(int64_t seconds);

}  // namespace gatehouse
