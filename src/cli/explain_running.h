// `gatehouse explain --running`: the answer comes from the generation that serves now, and not from
// the file, which may have changed since.
#pragma once

#include "cli/command_line.h"

namespace gatehouse {

int run_explain_running(const CommandLine& line);

}  // namespace gatehouse
