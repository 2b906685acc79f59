// `gatehouse target list | drain | disable | enable`: the targets of upstreams, and the operator's
// word on them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

// The exit code.
int run_target(const CommandLine& line);

// The table that `target list` prints of the master's answer.
std::string target_text(const nlohmann::json& answer);

}  // namespace gatehouse
