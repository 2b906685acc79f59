// `gatehouse config list | show N | diff N [M] | rollback N`: the configurations that were loaded,
// as the agent keeps them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_config(const CommandLine& line);

// The versions for people, as a table.
std::string versions_text(const nlohmann::json& versions);

}  // namespace gatehouse
