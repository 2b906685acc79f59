// `gatehouse status`: what runs, since when, which generation serves, and what still drains.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_status(const CommandLine& line);

// The master's answer for people. `now_us`: microseconds since 1970. What the answer lacks is left
// out, so that versions next to each other can be mixed.
std::string status_text(const nlohmann::json& status, int64_t now_us);

}  // namespace gatehouse
