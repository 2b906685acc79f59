// Checking a configuration: compiling it as a worker would, and telling what the master has to do.
//
// The same code runs at start-up, for -t, in the agent and in the checker that the master forks.
#pragma once

#include <memory>
#include <span>

#include "core/check_answer.h"
#include "core/config_source.h"
#include "http/generation.h"
#include "http/module.h"

namespace gatehouse {

// What the compiled configuration asks of the master. `cpus`: what `workers = auto` means. `names`:
// what the names of targets mean now.
ProcessPlan plan_of(const Generation& generation, uint32_t cpus, const NameTable& names);

// CPUs that this process may use, at least 1.
uint32_t available_cpus();

// Compiles the source and resolves its targets' names, which may block.
CheckAnswer check_config(std::shared_ptr<const ConfigSource> source,
                         std::span<const Module* const> modules);

}  // namespace gatehouse
