// How canaries stand, on disk: so that after a restart of everything each goes on where it was.
//
// One SQLite database, canaries.db, in the agent's folder, with a row for each canary's row in the
// traffic table. Nothing else hangs on it: where it cannot be read or written, that is said once,
// and canaries begin anew after a restart of the gateway (the agent's own needs no disk).
// For one thread at a time; several processes may have it open (an upgrade).
#pragma once

#include <map>
#include <string>

#include "core/canary.h"
#include "core/result.h"

namespace gatehouse {

class CanaryStore {
 public:
  // `folder`: the agent's, which is there.
  explicit CanaryStore(const std::string& folder) : path_(folder + "/canaries.db") {}

  // All stands, by the names of their rows.
  Result<std::map<std::string, CanaryStand>> load() const;
  Result<void> save(const std::string& row, const CanaryStand& stand) const;

 private:
  std::string path_;
};

}  // namespace gatehouse
