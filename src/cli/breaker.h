// `gatehouse breaker list | open | close`: how the circuit breakers stand, and a word of the
// operator's on them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_breaker(const CommandLine& line);

// The answer to breaker_list (core/breaker_commands.h) for people.
std::string breaker_text(const nlohmann::json& answer);

}  // namespace gatehouse
