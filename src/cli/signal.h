// `gatehouse -s WORD` and `gatehouse upgrade`: tell the running gateway what to do, and wait for
// the outcome.
//
// Over the control socket where there is one: the exit code then is the truth, and every error is
// on standard error. Otherwise by a signal to the process in the pid file: then the outcome of what
// takes time stands in the error log only, and that is said.
#pragma once

#include "cli/command_line.h"

namespace gatehouse {

int run_signal(const CommandLine& line);
int run_upgrade(const CommandLine& line);

}  // namespace gatehouse
