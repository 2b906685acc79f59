// See canary_store.h.
#include "agent/canary_store.h"

#include <algorithm>

#include "agent/history_database.h"

namespace gatehouse {
namespace {

constexpr int kWaitMs = 2'000;
constexpr char kTable[] =
    "CREATE TABLE IF NOT EXISTS canary(row TEXT PRIMARY KEY, state TEXT NOT NULL,"
    " stage INTEGER NOT NULL, share INTEGER NOT NULL, cause INTEGER NOT NULL)";

}  // namespace

Result<std::map<std::string, CanaryStand>> CanaryStore::load() const {
  try {
    SqlDatabase database(path_, kWaitMs);
    database.run(kTable);
    std::map<std::string, CanaryStand> stands;
    SqlStatement all(database, "SELECT row, state, stage, share, cause FROM canary");
    while (all.step()) {
      CanaryStand stand;
      if (!canary_state_from(all.text(1), stand.state)) continue;
      stand.stage = static_cast<uint8_t>(
          std::clamp<int64_t>(all.number(2), 0, static_cast<int64_t>(kCanaryStepsMax) - 1));
      stand.share = static_cast<uint16_t>(
          std::clamp<int64_t>(all.number(3), 0, static_cast<int64_t>(kWholeShare)));
      const auto cause = std::clamp<int64_t>(all.number(4), 0, 255);
      // What is not known becomes none.
      stand.cause = CanaryStand::unpack(static_cast<uint64_t>(cause) << 24).cause;
      stands.emplace(all.text(0), stand);
    }
    return stands;
  } catch (const SqlFailure& failure) {
    return Error{"canaries are not remembered: " + failure.message};
  }
}

Result<void> CanaryStore::save(const std::string& row, const CanaryStand& stand) const {
  try {
    SqlDatabase database(path_, kWaitMs);
    database.run(kTable);
    SqlStatement put(database,
                     "INSERT OR REPLACE INTO canary(row, state, stage, share, cause)"
                     " VALUES(?1, ?2, ?3, ?4, ?5)");
    put.bind(1, row)
        .bind(2, canary_state_name(stand.state))
        .bind(3, int64_t{stand.stage})
        .bind(4, int64_t{stand.share})
        .bind(5, static_cast<int64_t>(stand.cause))
        .run();
    return {};
  } catch (const SqlFailure& failure) {
    return Error{"canaries are not remembered: " + failure.message};
  }
}

}  // namespace gatehouse
