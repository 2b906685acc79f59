// `gatehouse limit list | show | set | reset`: rate limits, who uses them most, and changing them
// while the gateway runs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_limit(const CommandLine& line);

// The answers to limit_list and limit_show (core/limit_commands.h) for people.
std::string limit_list_text(const nlohmann::json& answer);
std::string limit_show_text(const nlohmann::json& answer);

}  // namespace gatehouse
