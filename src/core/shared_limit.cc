// One limit's zones; see shared_limit.h.
#include "core/shared_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr std::string_view kRowType = "limit";
constexpr std::string_view kTableType = "limit_table";
constexpr uint32_t kLayoutVersion = 1;
constexpr size_t kNameInZone = 28;  // bytes of a limit's name that a zone's name has room for

// A zone's name is of visible ASCII characters, and not long. Names are the operator's, so the hash
// needs no key.
std::string short_name(std::string_view name) {
  const auto is_visible = [](char c) { return c > ' ' && c <= '~'; };
  if (name.size() <= kNameInZone && std::all_of(name.begin(), name.end(), is_visible)) {
    return std::string(name);
  }
  const uint64_t hash = siphash<1, 3>({}, name.data(), name.size());
  std::string text(name.substr(0, kNameInZone - 9));
  for (char& c : text) {
    if (!is_visible(c)) c = '_';
  }
  return fmt::format("{}~{:08x}", text, hash >> 32);
}
std::string row_zone(std::string_view name) {
  return "limit/" + short_name(name);
}
std::string table_zone(std::string_view name, uint32_t keys) {
  return fmt::format("limit#{}/{}", keys, short_name(name));
}

template <size_t N>
void write_text(char (&to)[N], std::string_view text) {
  std::memset(to, 0, N);
  std::memcpy(to, text.data(), std::min(text.size(), N - 1));
}
template <size_t N>
std::string read_text(const char (&from)[N]) {
  return std::string(from, strnlen(from, N));
}

}  // namespace

Result<std::unique_ptr<SharedLimit>> SharedLimit::open(SharedMemory& shared,
                                                       const LimitSettings& settings,
                                                       int64_t now_us) {
  const auto failed = [&](const Error& why) {
    return Error{fmt::format("limit {}: {}", settings.name, why.message)};
  };
  Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
      row_zone(settings.name), kRowType, kLayoutVersion, sizeof(LimitRow), alignof(LimitRow));
  if (!zone) return failed(zone.error());
  std::unique_ptr<SharedLimit> limit(new SharedLimit(shared, zone_as<LimitRow>(*zone)));
  {
    Result<SharedMemory::Lock> lock = shared.lock();
    if (!lock) return failed(lock.error());
    LimitRow& row = *limit->row_;
    if (row.name[0] == '\0') write_text(row.name, settings.name);
    if (settings.rate) {
      // Where it has had none, nobody decides by it yet.
      if (!limit->has_rate()) row.rules.change(make_limit_rule(*settings.rate, now_us));
    }
  }
  if (settings.rate) {
    if (Result<void> made = limit->open_tables(settings.keys_max, true); !made) {
      return failed(made.error());
    }
    const uint64_t epoch = limit->rules().epoch.load(std::memory_order_acquire);
    if (epoch >= limit->row_->refreshed.load() + kLimitEpochs / 2) limit->refresh();
  }
  return limit;
}

Result<void> SharedLimit::open_tables(uint32_t keys, bool make) {
  const std::string limit = name();
  const uint32_t in_force = row_->keys.load(std::memory_order_acquire);
  if (make) {
    bool created = false;
    Result<std::span<std::byte>> zone =
        shared_.adopt_or_create_zone(table_zone(limit, keys), kTableType, kLayoutVersion,
                                     LimitTable::bytes_for(keys), alignof(LimitSet), &created);
    if (!zone) return Error{zone.error().message + "; a smaller keys_max helps too"};
    table_ = LimitTable(*zone);
    // A size that was in force once: what stands there is older than what is in force now.
    if (!created && in_force != 0 && in_force != keys) table_.reset_all();
  } else {
    table_ = LimitTable(shared_.find_zone(table_zone(limit, keys), kTableType, kLayoutVersion));
  }
  const uint32_t before =
      in_force != keys ? in_force : row_->keys_before.load(std::memory_order_acquire);
  if (before == 0 || before == keys) return {};
  before_ = LimitTable(shared_.find_zone(table_zone(limit, before), kTableType, kLayoutVersion));
  table_.set_before(&before_);
  return {};
}

// A state tells sixteen epochs apart.
void SharedLimit::refresh() {
  const uint32_t epoch = row_->rules.epoch.load(std::memory_order_acquire);
  before_.refresh(row_->rules);
  table_.refresh(row_->rules);
  row_->refreshed.store(epoch, std::memory_order_relaxed);
}

std::unique_ptr<SharedLimit> SharedLimit::find(SharedMemory& shared, std::string_view name) {
  auto* row = zone_as<LimitRow>(shared.find_zone(row_zone(name), kRowType, kLayoutVersion));
  if (row == nullptr) return nullptr;
  std::unique_ptr<SharedLimit> limit(new SharedLimit(shared, row));
  const uint32_t keys = row->keys.load(std::memory_order_acquire);
  if (keys != 0) (void)limit->open_tables(keys, false);
  return limit;
}

std::vector<std::string> SharedLimit::names(SharedMemory& shared) {
  std::vector<std::string> names;
  for (const ZoneInfo& zone : shared.zones()) {
    if (zone.type != kRowType || zone.retired || zone.version != kLayoutVersion) continue;
    const auto* row = zone_as<LimitRow>(shared.find_zone(zone.name, kRowType, kLayoutVersion));
    // One that was only prepared, for a configuration that was then refused, is none.
    if (row == nullptr || row->generation.load(std::memory_order_acquire) == 0) continue;
    names.push_back(read_text(row->name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<ListedLimit> SharedLimit::list(SharedMemory& shared) {
  std::vector<ListedLimit> limits;
  for (std::string& name : names(shared)) {
    const std::unique_ptr<SharedLimit> limit = find(shared, name);
    if (limit != nullptr) limits.push_back({std::move(name), limit->totals()});
  }
  return limits;
}

Result<void> SharedLimit::serve(const LimitSettings& settings, uint32_t generation,
                                int64_t now_us) {
  // Most workers come second.
  if (row_->generation.load(std::memory_order_acquire) >= generation) return {};
  Result<SharedMemory::Lock> lock = shared_.lock();
  if (!lock) return lock.error();
  LimitRow& row = *row_;
  if (row.generation.load(std::memory_order_relaxed) >= generation) return {};
  write_text(row.key, ValueType<LimitKey>::format(settings.key));
  write_text(row.parent, settings.parent);
  row.dry_run.store(settings.dry_run);
  row.by_route.store(settings.by_route);
  row.cost.store(settings.cost);
  row.concurrency.store(settings.concurrency);
  const uint32_t keys = settings.rate ? settings.keys_max : 0;
  if (const uint32_t was = row.keys.load(); was != keys) {
    row.keys_before.store(was);
    row.keys.store(keys, std::memory_order_release);
  }
  const LimitRate rate = settings.rate.value_or(LimitRate{});
  row.file_count.store(rate.count);
  row.file_period_us.store(rate.period_us);
  row.file_burst.store(rate.burst.value_or(0));
  if (settings.rate && row.overridden.load() != LimitRow::kKept) {
    if (row.rules.current().rate() != rate) row.rules.change(make_limit_rule(rate, now_us));
    row.overridden.store(LimitRow::kNone);
  }
  row.generation.store(generation, std::memory_order_release);
  return {};
}

Result<void> SharedLimit::set_rate(const LimitRate& rate, bool keep, int64_t now_us) {
  if (row_->keys.load() == 0) return Error{"the limit has no rate to change"};
  const LimitRule rule = make_limit_rule(rate, now_us);
  if (rule.capacity() < row_->cost.load()) {
    return Error{
        fmt::format("no request would ever be admitted: each costs {}", row_->cost.load())};
  }
  {
    Result<SharedMemory::Lock> lock = shared_.lock();
    if (!lock) return lock.error();
    if (row_->rules.current().rate() != rate) row_->rules.change(rule);
    row_->overridden.store(keep ? LimitRow::kKept : LimitRow::kUntilReload);
  }
  refresh();
  return {};
}

Result<void> SharedLimit::unset_rate(int64_t now_us) {
  if (Result<void> set = set_rate(file_rate(), false, now_us); !set) return set;
  row_->overridden.store(LimitRow::kNone);
  return {};
}

LimitTotals SharedLimit::totals() const {
  LimitTotals totals;
  for (const LimitCounters& counters : row_->counters) {
    totals.admitted += counters.admitted.load(std::memory_order_relaxed);
    totals.refused += counters.refused.load(std::memory_order_relaxed);
    totals.concurrency_refused += counters.concurrency_refused.load(std::memory_order_relaxed);
    totals.dry_run += counters.dry_run.load(std::memory_order_relaxed);
    totals.evicted += counters.evicted.load(std::memory_order_relaxed);
    totals.uncounted += counters.uncounted.load(std::memory_order_relaxed);
  }
  return totals;
}

bool SharedLimit::reset(std::optional<uint64_t> hash) {
  if (!hash) {
    before_.reset_all();
    table_.reset_all();
    for (LimitTop& top : row_->tops) top.clear();
    return true;
  }
  // The one before first: a take between the two would fetch what is to be forgotten.
  const bool known_before = !before_.empty() && before_.reset(*hash);
  return (!table_.empty() && table_.reset(*hash)) || known_before;
}

std::string SharedLimit::name() const {
  return read_text(row_->name);
}

LimitRate SharedLimit::file_rate() const {
  LimitRate rate;
  rate.count = row_->file_count.load();
  rate.period_us = row_->file_period_us.load();
  if (const uint64_t burst = row_->file_burst.load(); burst != 0) rate.burst = burst;
  return rate;
}

LimitSettings SharedLimit::settings() const {
  LimitSettings settings;
  settings.name = name();
  Result<SharedMemory::Lock> lock = shared_.lock();
  if (!lock) return settings;
  if (Result<LimitKey> key = ValueType<LimitKey>::parse(read_text(row_->key))) {
    settings.key = std::move(*key);
  }
  settings.parent = read_text(row_->parent);
  settings.keys_max = row_->keys.load();
  if (settings.keys_max != 0) settings.rate = rules().current().rate();
  settings.cost = row_->cost.load();
  settings.concurrency = row_->concurrency.load();
  settings.by_route = row_->by_route.load() != 0;
  settings.dry_run = row_->dry_run.load() != 0;
  return settings;
}

}  // namespace gatehouse
