// `gatehouse target register | deregister | registrations`: targets of upstreams with
// `discover = api`.
//
//   gatehouse target register UPSTREAM ADDRESS [weight N] [backup] [lease 30s] [version V] [tag T]…
//   gatehouse target deregister UPSTREAM ADDRESS
//   gatehouse target registrations UPSTREAM
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "cli/command_line.h"
#include "core/result.h"

namespace gatehouse {

// Runs the command; gives the exit code.
int run_register(const CommandLine& line);

// The words behind UPSTREAM ADDRESS as the agent takes them.
Result<nlohmann::json> registration_of(std::span<const std::string> words);
// The table of `registrations`. `now_us`: wall clock.
std::string registrations_text(const nlohmann::json& answer, int64_t now_us);

}  // namespace gatehouse
