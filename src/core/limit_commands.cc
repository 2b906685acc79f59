// See limit_commands.h.
#include "core/limit_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/config_errors.h"
#include "core/control_message.h"
#include "core/limit_holds.h"
#include "core/log.h"
#include "core/shared_limit.h"

namespace gatehouse {
namespace {

using nlohmann::json;

constexpr std::string_view kFileRate = "file";

json describe(const SharedLimit& limit) {
  const LimitSettings settings = limit.settings();
  const LimitTotals totals = limit.totals();
  json about = {{"name", settings.name},
                {"key", ValueType<LimitKey>::format(settings.key)},
                {"scope", settings.by_route ? "route" : "limit"},
                {"cost", settings.cost},
                {"mode", settings.dry_run ? "dry_run" : "enforce"},
                {"admitted", totals.admitted},
                {"refused", totals.refused},
                {"concurrency_refused", totals.concurrency_refused},
                {"dry_run", totals.dry_run},
                {"evicted", totals.evicted},
                {"uncounted", totals.uncounted}};
  if (!settings.parent.empty()) about["parent"] = settings.parent;
  if (settings.concurrency != 0) about["concurrency"] = settings.concurrency;
  if (settings.rate) {
    about["rate"] = ValueType<LimitRate>::format(*settings.rate);
    about["keys_max"] = settings.keys_max;
    const uint32_t overridden = limit.row().overridden.load();
    if (overridden != LimitRow::kNone) {
      about["file_rate"] = ValueType<LimitRate>::format(limit.file_rate());
      about["kept"] = overridden == LimitRow::kKept;
    }
  }
  return about;
}

// Reads the whole table: some milliseconds for a million keys.
void add_used(const SharedLimit& limit, json& about) {
  if (!about.contains("rate")) return;
  about["keys_used"] = limit.table().used_keys(limit.rules(), monotonic_now().us);
}

Result<std::unique_ptr<SharedLimit>> find_limit(SharedMemory& shared, const json& request) {
  const std::string name = control_text(request, "name");
  const std::vector<std::string> names = SharedLimit::names(shared);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    const std::string_view nearest =
        nearest_word(name, std::vector<std::string_view>(names.begin(), names.end()));
    return Error{
        fmt::format("there is no limit {}{}", name,
                    nearest.empty() ? std::string() : fmt::format(", did you mean {}?", nearest))};
  }
  std::unique_ptr<SharedLimit> limit = SharedLimit::find(shared, name);
  if (limit == nullptr) return Error{fmt::format("limit {} cannot be found", name)};
  return limit;
}

// The key that the request names; none where it names none.
Result<std::optional<uint64_t>> key_of(SharedMemory& shared, const SharedLimit& limit,
                                       const json& request) {
  std::vector<std::string> words = control_texts(request, "key");
  const LimitSettings settings = limit.settings();
  if (words.empty()) {
    // The only one there is.
    if (!settings.key.parts.empty() || settings.by_route) return std::optional<uint64_t>();
  } else if (settings.key.parts.empty() && !settings.by_route && words.size() == 1 &&
             words[0] == "all") {
    words.clear();
  }
  Result<uint64_t> hash = hash_limit_words(KeyedHash(shared.secret()), settings.name, settings.key,
                                           settings.by_route, words);
  if (!hash) return hash.error();
  return std::optional<uint64_t>(*hash);
}

Result<json> budget_of(SharedMemory& shared, const SharedLimit& limit, uint64_t hash) {
  const LimitSettings settings = limit.settings();
  json budget = json::object();
  const int64_t now_us = monotonic_now().us;
  if (settings.rate) {
    LimitTable::Taken seen;
    (void)limit.table().has_room(limit.rules(), hash, now_us, settings.cost, seen);
    const LimitRule& rule = limit.rules().at(seen.epoch);
    const uint64_t used = limit_used_units(rule, seen.count, now_us);
    budget["used"] = (used + kTokenUnits - 1) / kTokenUnits;
    budget["remaining"] = limit_remaining(rule, seen.count, now_us);
    budget["retry_ms"] = (limit_retry_us(rule, seen.count, now_us, settings.cost) + 999) / 1000;
  }
  if (settings.concurrency != 0) {
    const Result<LimitHolds> holds = LimitHolds::open(shared);
    if (!holds) return holds.error();
    budget["under_way"] = holds->count(hash);
  }
  return budget;
}

}  // namespace

Result<json> limit_list_command(SharedMemory& shared, const json&) {
  json limits = json::array();
  for (const std::string& name : SharedLimit::names(shared)) {
    const std::unique_ptr<SharedLimit> limit = SharedLimit::find(shared, name);
    if (limit == nullptr) continue;
    limits.push_back(describe(*limit));
    add_used(*limit, limits.back());
  }
  return json{{"limits", std::move(limits)}};
}

Result<json> limit_show_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<SharedLimit>> limit = find_limit(shared, request);
  if (!limit) return limit.error();
  json about = describe(**limit);
  add_used(**limit, about);
  Result<std::optional<uint64_t>> key = key_of(shared, **limit, request);
  if (!key) return key.error();
  if (*key) {
    Result<json> budget = budget_of(shared, **limit, **key);
    if (!budget) return budget.error();
    about["budget"] = std::move(*budget);
  }
  json top = json::array();
  for (const LimitTopKey& each : (*limit)->top_keys()) {
    top.push_back({{"key", each.text},
                   {"requests", each.requests},
                   {"refused", each.refused},
                   {"error", each.error}});
  }
  about["top"] = std::move(top);
  return about;
}

Result<json> limit_set_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<SharedLimit>> limit = find_limit(shared, request);
  if (!limit) return limit.error();
  if (!(*limit)->has_rate() || !(*limit)->settings().rate) {
    return Error{"the limit has no rate in the configuration, so that none can be set"};
  }
  const std::string before = ValueType<LimitRate>::format((*limit)->rules().current().rate());
  const std::string text = control_text(request, "rate");
  const bool keep = control_flag(request, "keep");
  const int64_t now_us = monotonic_now().us;
  if (text == kFileRate) {
    if (Result<void> done = (*limit)->unset_rate(now_us); !done) return done.error();
  } else {
    const Result<LimitRate> rate = ValueType<LimitRate>::parse(text);
    if (!rate) {
      return Error{fmt::format("\"{}\": {}; expected {}", text, rate.error().message,
                               ValueType<LimitRate>::expected())};
    }
    if (Result<void> done = (*limit)->set_rate(*rate, keep, now_us); !done) return done.error();
  }
  const std::string after = ValueType<LimitRate>::format((*limit)->rules().current().rate());
  GH_LOG(kNotice, "limit {}: the rate is {} by command, it was {}{}", (*limit)->name(), after,
         before, keep ? "; kept over reloads" : "");
  return json{{"before", before}, {"rate", after}};
}

Result<json> limit_reset_command(SharedMemory& shared, const json& request) {
  Result<std::unique_ptr<SharedLimit>> limit = find_limit(shared, request);
  if (!limit) return limit.error();
  std::optional<uint64_t> hash;
  if (!control_texts(request, "key").empty()) {
    Result<std::optional<uint64_t>> key = key_of(shared, **limit, request);
    if (!key) return key.error();
    hash = *key;
  }
  const bool known = (*limit)->reset(hash);
  GH_LOG(kNotice, "limit {}: {} reset by command", (*limit)->name(),
         hash ? "a key was" : "all keys were");
  return json{{"known", known}};
}

json limit_status(SharedMemory& shared) {
  json limits = json::array();
  for (const std::string& name : SharedLimit::names(shared)) {
    const std::unique_ptr<SharedLimit> limit = SharedLimit::find(shared, name);
    if (limit != nullptr) limits.push_back(describe(*limit));
  }
  return limits;
}

}  // namespace gatehouse
