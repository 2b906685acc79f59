// Binding targets to what a worker has for them: counters, rows in shared memory, and what the
// balancers know them by. For the targets of a generation this is done on the helper thread, for
// those of a set made at run time on the loop's.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/keyed_hash.h"
#include "core/metrics.h"
#include "core/result.h"
#include "core/traffic_table.h"
#include "http/row_holds.h"
#include "http/upstream.h"

namespace gatehouse {

// What a target's row says of its configuration (TrafficRow::settings).
struct TargetSettings {
  uint32_t weight = 1;
  uint32_t max_connections = 0;
  bool backup = false;

  // Bits: 0-15 weight, 16 backup, 32-63 max_connections. All zeros: nothing was said yet.
  uint64_t pack() const {
    return (weight & 0xffff) | uint64_t{backup} << 16 | uint64_t{max_connections} << 32;
  }
  static TargetSettings unpack(uint64_t word) {
    TargetSettings settings;
    settings.weight = static_cast<uint32_t>(word & 0xffff);
    settings.backup = (word >> 16 & 1) != 0;
    settings.max_connections = static_cast<uint32_t>(word >> 32);
    return settings;
  }
};

// The key that the values of the upstream's sticky cookies are made with.
HashKey sticky_key(const UpstreamConf& conf, const SharedMemory& shared);
// Of a target: its name under that key, so that nobody can tell the address from it.
uint64_t sticky_id(HashKey key, std::string_view target_name);

// Gives the upstream and its configured targets their rows, where they need any. Fails where all
// rows are in use.
Result<void> bind_upstream(Upstream& upstream, RowHolds& rows, HashKey key);
// The same for one target.
Result<void> bind_target(const Upstream& upstream, UpstreamTarget& target, RowHolds& rows,
                         HashKey key);

}  // namespace gatehouse
