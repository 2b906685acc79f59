// `gatehouse certificate list | reload`: which certificates serve and when they expire, and taking
// new ones from their files.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command_line.h"

namespace gatehouse {

int run_certificate(const CommandLine& line);

// The answer to certificate_list (core/master_certificates.cc) for people. `now`: seconds since
// 1970.
std::string certificate_text(const nlohmann::json& answer, int64_t now);

}  // namespace gatehouse
