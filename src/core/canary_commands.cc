// See canary_commands.h.
#include "core/canary_commands.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/canary.h"
#include "core/clock.h"
#include "core/config_values.h"
#include "core/control_message.h"
#include "core/log.h"
#include "core/traffic_table.h"

namespace gatehouse {
namespace {

using nlohmann::json;

uint64_t now_ms() {
  return static_cast<uint64_t>(monotonic_now().us) / 1000;
}

struct Found {
  uint32_t index;
  std::string name;
  std::string route;
  std::string upstream;
};

// Those that a worker names now; all of them where `name` is empty.
std::vector<Found> find_canaries(const TrafficTable& table, const std::string& name) {
  std::vector<Found> found;
  for (const TrafficTable::Listed& row : table.list(TrafficKind::kSplit)) {
    if (row.holds == 0) continue;
    const std::vector<std::string_view> words = split_words(row.name);
    if (words.size() != 3) continue;
    if (!name.empty() && words[0] != name) continue;
    found.push_back(
        {row.index, std::string(words[0]), std::string(words[1]), std::string(words[2])});
  }
  return found;
}

json describe(const TrafficRow& row, const Found& canary, uint64_t now) {
  const CanaryStand stand = CanaryStand::unpack(row.share.load(std::memory_order_acquire));
  const CanaryFigures figures = load_canary_figures(row);
  json about = {{"name", canary.name},
                {"route", canary.route},
                {"upstream", canary.upstream},
                {"state", canary_state_name(stand.state)},
                {"share", stand.share},
                {"step", stand.state == CanaryState::kNone ? 0 : stand.stage + 1},
                {"cause", canary_cause_text(stand.cause)},
                {"changes", stand.changes},
                {"requests", figures.requests},
                {"errors", figures.errors},
                {"p95_us", figures.p95_us}};
  const uint64_t since = row.up_since_ms.load(std::memory_order_relaxed);
  if (since != 0) about["since_ms_ago"] = now - std::min(now, since);
  return about;
}

// `change` makes the next stand of the present one, or says why not.
template <class Change>
Result<json> change(SharedMemory& shared, const json& request, const char* what, Change change) {
  const std::string name = control_text(request, "name");
  if (name.empty()) return Error{"the name of a canary is missing"};
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  const std::vector<Found> found = find_canaries(**table, name);
  if (found.empty()) return Error{"there is no canary " + name};
  TrafficRow& row = (*table)->row(found[0].index);
  uint64_t seen = row.share.load(std::memory_order_acquire);
  CanaryStand next;
  do {
    Result<CanaryStand> wanted = change(CanaryStand::unpack(seen));
    if (!wanted) return Error{"canary " + name + " is " + wanted.error().message};
    next = *wanted;
    next.cause = CanaryCause::kOperator;
  } while (!change_canary(row, seen, next, now_ms()));
  if (next.state == CanaryState::kNone) {
    GH_LOG(kNotice, "canary {}: {} by command", name, what);
  } else {
    GH_LOG(kNotice, "canary {}: {} by command; {} of route {} go to {}", name, what,
           ValueType<Percent>::format({next.share}), found[0].route, found[0].upstream);
  }
  return json{{"state", canary_state_name(next.state)}, {"share", next.share}};
}

Error is_not(CanaryStand stand) {
  return Error{std::string(canary_state_name(stand.state))};
}

}  // namespace

Result<json> canary_list_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<TrafficTable>> table = TrafficTable::open(shared);
  if (!table) return table.error();
  json canaries = json::array();
  const uint64_t now = now_ms();
  for (const Found& one : find_canaries(**table, control_text(request, "name"))) {
    canaries.push_back(describe((*table)->row(one.index), one, now));
  }
  return json{{"canaries", std::move(canaries)}};
}

Result<json> canary_start_command(SharedMemory& shared, const json& request) {
  return change(shared, request, "started", [](CanaryStand stand) -> Result<CanaryStand> {
    if (stand.state == CanaryState::kRunning) return is_not(stand);
    return CanaryStand{};
  });
}

Result<json> canary_pause_command(SharedMemory& shared, const json& request) {
  return change(shared, request, "paused", [](CanaryStand stand) -> Result<CanaryStand> {
    if (stand.state != CanaryState::kRunning) return is_not(stand);
    stand.state = CanaryState::kPaused;
    return stand;
  });
}

Result<json> canary_resume_command(SharedMemory& shared, const json& request) {
  return change(shared, request, "resumed", [](CanaryStand stand) -> Result<CanaryStand> {
    if (stand.state != CanaryState::kPaused) return is_not(stand);
    stand.state = CanaryState::kRunning;
    return stand;
  });
}

Result<json> canary_promote_command(SharedMemory& shared, const json& request) {
  return change(shared, request, "promoted", [](CanaryStand stand) -> Result<CanaryStand> {
    stand.state = CanaryState::kPromoted;
    stand.share = kWholeShare;
    return stand;
  });
}

Result<json> canary_rollback_command(SharedMemory& shared, const json& request) {
  return change(shared, request, "rolled back", [](CanaryStand stand) -> Result<CanaryStand> {
    stand.state = CanaryState::kRolledBack;
    stand.share = 0;
    return stand;
  });
}

}  // namespace gatehouse
