// Whom the workers run as, and what they may do: resolved by the master, applied in each worker.
//
// A worker reads bytes from strangers, so it keeps nothing that it does not need: no root, no
// supplementary groups but its user's own, no capability in any set, no way to gain privileges by
// executing a set-uid program. What was dropped is verified; a worker that still could become root
// does not start.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace gatehouse {

struct RunAs {
  bool change = false;  // false: stay who we are
  uid_t user = 0;
  gid_t group = 0;
  std::vector<gid_t> groups;  // supplementary
  std::string name;           // of the user that the workers will be, for messages
};

// Looks the names up (numbers are taken too). Where the process is not root, nothing can change:
// says so in the log if a user was asked for. As root without a user, warns that the workers keep
// root. An empty group is the user's own.
Result<RunAs> resolve_run_as(const std::string& user, const std::string& group);

// In the worker. Any failure means that the worker must not go on.
Result<void> drop_privileges(const RunAs& run_as);

// Raises RLIMIT_NOFILE of this process to at least `wanted` (never lowers it), the hard limit too
// where that is allowed. Gives the limit in force; less than `wanted` is no error but is logged.
uint32_t raise_descriptor_limit(uint32_t wanted);

}  // namespace gatehouse
