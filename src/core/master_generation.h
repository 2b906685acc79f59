// What the master knows of one loaded configuration: its bytes, and what to do for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/log_files.h"
#include "core/process_plan.h"
#include "core/process_privileges.h"
#include "core/resolver.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

struct MasterGeneration {
  uint32_t number = 1;
  UniqueFd config;  // the sealed bytes that every worker compiles
  ProcessPlan plan;
  NameTable names;  // what the targets' host names mean
  RunAs run_as;     // whom its workers run as

  FileOwner owner() const {
    return run_as.change ? FileOwner{run_as.user, run_as.group} : FileOwner{};
  }
};

using MasterGenerationPtr = std::shared_ptr<const MasterGeneration>;

}  // namespace gatehouse
