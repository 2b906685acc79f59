// Binding targets to what a worker has for them: counters, rows in shared memory, and what the
// balancers know them by. For the targets of a generation this is done on the helper thread, for
// those of a set made at run time on the loop's.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/keyed_hash.h"
#include "core/metrics.h"
#include "core/result.h"
#include "core/target_report.h"
#include "core/traffic_table.h"
#include "http/row_holds.h"
#include "http/upstream.h"

namespace gatehouse {

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
