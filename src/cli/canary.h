// `gatehouse canary list | start | pause | resume | promote | rollback`: how the canaries stand,
// and the operator's word on one.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_canary(const CommandLine& line);

// The answer to canary_list (core/canary_commands.h) for people.
std::string canary_text(const nlohmann::json& answer);

}  // namespace gatehouse
