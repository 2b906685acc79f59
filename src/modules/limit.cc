// Limits: how often, and how many at once, the same key may be served.
//
//   [limit per_client]
//   key  = client_address
//   rate = 100/1s burst 200         # a token bucket; without burst, a sliding window
//   [limit organisation]
//   key         = header_x_organisation
//   rate        = 1000/1m
//   concurrency = 50                # at once, until the response or the tunnel ends
//   parent      = everybody         # a [limit] that has to have room as well
//   [route api]
//   limit = per_client organisation
//
// A limit is one budget for each key, for all routes that use it (`scope = route`: each route has
// its own). A request has to have room in every limit of its route and in their parents; the first
// that has none refuses it, with 429, and then nothing is taken from any: all of them are asked
// before anything is taken. Only where another worker took the last of a budget between asking and
// taking is something given back; for that moment others may be refused, but never is more
// admitted than a limit allows. A worker that is killed in that moment leaves what it took as used.
//
// Shared: each limit's budgets, rules and counters (core/shared_limit.h), exchanges under way
// (core/limit_holds.h). Nothing there needs repair after a crash: see those files. When the table
// of budgets is full, the budget nearest to being unused is forgotten, and counted (`evicted`).
//
// A key is hashed straight from the request; nothing is allocated for an admitted request.
// Leaves out: waiting for room (a request that has none is answered at once).
#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "http/bound_generation.h"
#include "http/generation.h"
#include "http/route.h"
#include "http/worker.h"
#include "modules/limit_fields.h"
#include "modules/limit_route.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

constexpr uint32_t kSampled = 8;  // of so many admitted requests one is counted by key

constexpr const DirectiveTable* kTables[] = {&kLimitTable, &kRouteLimitTable};
constexpr ModuleSection kSections[] = {
    {"limit", NameRule::kRequired, "How often, and how many at once, the same key may be served."},
};

// ---- Deciding -----------------------------------------------------------------------------------

void count_key(const RouteLimits& route, const RouteLimit& limit, const Exchange& exchange,
               uint64_t hash, bool is_refused, int64_t now_us) {
  LimitTop& top = limit.shared->top(route.worker_row);
  uint32_t place = 0;
  const uint64_t tag = hash != 0 ? hash : 1;
  if (top.add(tag, is_refused ? 1 : kSampled, is_refused, now_us, place)) {
    top.set_text(place, tag, describe_limit_key(route, limit, exchange));
  }
}

// One of kSampled, by no pattern of the client's making.
bool is_sampled() {
  thread_local constinit uint32_t state = 0x9E3779B9;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % kSampled == 0;
}

// What was taken of one limit for a request, until that is admitted.
struct Part {
  uint64_t hash = 0;
  LimitTable::Taken taken;
  std::atomic<uint64_t>* held = nullptr;
};

// One for each limit of the route; only those are set up.
class Admission {
 public:
  explicit Admission(size_t count) {
    for (size_t i = 0; i < count; ++i) new (&room_[i * sizeof(Part)]) Part();
  }
  Part& operator[](size_t i) {
    return *std::launder(reinterpret_cast<Part*>(&room_[i * sizeof(Part)]));
  }

 private:
  static_assert(std::is_trivially_destructible_v<Part>);
  alignas(Part) std::byte room_[kLimitsPerRoute * sizeof(Part)];
};

void append_policy(const RouteLimits& route, TextBuffer& out) {
  const size_t begin = out.size();
  for (const RouteLimit& limit : route.limits) {
    if (limit.settings.dry_run) continue;
    if (limit.settings.rate) {
      if (out.size() != begin) append_text(out, ", ");
      append_rate_policy(limit.field_name, limit.shared->rules().current(), out);
    }
    if (limit.settings.concurrency != 0) {
      if (out.size() != begin) append_text(out, ", ");
      append_concurrency_policy(limit.field_name, limit.settings.concurrency, out);
    }
  }
}

// The policies change with the rules only, so that their text is kept.
std::string_view policy_of(const RouteLimits& route) {
  bool changed = route.policy.empty();
  for (size_t i = 0; i < route.limits.size(); ++i) {
    const uint32_t epoch = route.limits[i].shared->rules().epoch.load(std::memory_order_acquire);
    changed |= std::exchange(route.policy_epochs[i], epoch) != epoch;
  }
  if (changed) {
    fmt::memory_buffer text;
    append_policy(route, text);
    route.policy.assign(text.data(), text.size());
  }
  return route.policy;
}

void tell_client(const RouteLimits& route, Exchange& exchange, std::string_view state) {
  const std::string_view policy = exchange.arena.copy(policy_of(route));
  if (policy.empty()) return;
  exchange.add_response_field("RateLimit-Policy", policy);
  if (!state.empty()) exchange.add_response_field("RateLimit", exchange.arena.copy(state));
}

// Gives back what was taken and lets go of what was held.
void undo(const RouteLimits& route, Admission& admission) {
  for (size_t i = 0; i < route.limits.size(); ++i) {
    const RouteLimit& limit = route.limits[i];
    limit.shared->table().give_back(limit.shared->rules(), admission[i].taken, limit.cost);
    if (admission[i].held != nullptr) LimitHolds::release(admission[i].held);
  }
}

Verdict refuse(const RouteLimits& route, size_t index, Exchange& exchange, Admission& admission,
               int64_t now_us, bool by_concurrency) {
  const RouteLimit& limit = route.limits[index];
  LimitCounters& counters = limit.shared->counters(route.worker_row);
  LimitCounters::add(by_concurrency ? counters.concurrency_refused : counters.refused);
  count_key(route, limit, exchange, admission[index].hash, true, now_us);
  exchange.refuse(by_concurrency ? Reason::kConcurrencyLimited : Reason::kRateLimited);
  uint64_t seconds = 1;
  fmt::memory_buffer state;
  if (!by_concurrency) {
    const LimitTable::Taken& seen = admission[index].taken;
    const LimitRule& rule = limit.shared->rules().at(seen.epoch);
    seconds = retry_seconds(limit_retry_us(rule, seen.count, now_us, limit.cost));
    append_rate_state(limit.field_name, rule, seen.count, now_us, limit.cost, state);
  }
  const fmt::format_int number(seconds);
  exchange.response.fields.push("Retry-After", exchange.arena.copy({number.data(), number.size()}));
  if (route.tell != TellClient::kOff) {
    tell_client(route, exchange, {state.data(), state.size()});
  }
  return Verdict::kAnswered;
}

// Holds a place of each concurrency; the index of the limit that has none, or none.
std::optional<size_t> hold_places(const RouteLimits& route, Admission& admission) {
  for (size_t i = 0; i < route.limits.size(); ++i) {
    const RouteLimit& limit = route.limits[i];
    if (limit.settings.concurrency == 0) continue;
    LimitCounters& counters = limit.shared->counters(route.worker_row);
    switch (route.holds.hold(admission[i].hash, limit.settings.concurrency, &admission[i].held)) {
      case LimitHolds::Outcome::kHeld:
        break;
      case LimitHolds::Outcome::kUncounted:
        LimitCounters::add(counters.uncounted);
        break;
      case LimitHolds::Outcome::kRefused:
        if (!limit.settings.dry_run) return i;
        LimitCounters::add(counters.dry_run);
        break;
    }
  }
  return std::nullopt;
}

Verdict admit(Exchange& exchange, const void* state) {
  const auto& route = *static_cast<const RouteLimits*>(state);
  const int64_t now_us = exchange.worker->loop().now().us;
  const size_t count = route.limits.size();
  Admission admission(count);
  for (size_t i = 0; i < count; ++i) {
    const RouteLimit& limit = route.limits[i];
    admission[i].hash = hash_limit_key(route, limit, exchange);
    if (limit.settings.rate) limit.shared->table().prefetch(admission[i].hash);
  }
  if (route.asks_first) {
    for (size_t i = 0; i < count; ++i) {
      const RouteLimit& limit = route.limits[i];
      if (!limit.settings.rate || limit.settings.dry_run) continue;
      if (!limit.shared->table().has_room(limit.shared->rules(), admission[i].hash, now_us,
                                          limit.cost, admission[i].taken)) {
        return refuse(route, i, exchange, admission, now_us, false);
      }
    }
  }
  if (route.has_concurrency) {
    if (const std::optional<size_t> full = hold_places(route, admission)) {
      undo(route, admission);
      return refuse(route, *full, exchange, admission, now_us, true);
    }
  }
  fmt::memory_buffer told;
  for (size_t i = 0; i < count; ++i) {
    const RouteLimit& limit = route.limits[i];
    LimitCounters& counters = limit.shared->counters(route.worker_row);
    if (limit.settings.rate) {
      LimitTable::Taken& taken = admission[i].taken;
      const bool has_room = limit.shared->table().take(limit.shared->rules(), admission[i].hash,
                                                       now_us, limit.cost, taken);
      if (taken.evicted) LimitCounters::add(counters.evicted);
      if (!has_room && !limit.settings.dry_run) {
        undo(route, admission);
        return refuse(route, i, exchange, admission, now_us, false);
      }
      if (!has_room) LimitCounters::add(counters.dry_run);
      if (route.tell == TellClient::kAlways && !limit.settings.dry_run) {
        if (told.size() != 0) append_text(told, ", ");
        append_rate_state(limit.field_name, limit.shared->rules().at(taken.epoch), taken.count,
                          now_us, limit.cost, told);
      }
    }
  }
  for (size_t i = 0; i < count; ++i) {
    const RouteLimit& limit = route.limits[i];
    LimitCounters::add(limit.shared->counters(route.worker_row).admitted);
    if (admission[i].held != nullptr) exchange.at_end(&LimitHolds::release, admission[i].held);
    if (is_sampled()) {
      count_key(route, limit, exchange, admission[i].hash, false, now_us);
    }
  }
  if (route.tell == TellClient::kAlways) tell_client(route, exchange, {told.data(), told.size()});
  return Verdict::kContinue;
}

// ---- Compiling and binding ----------------------------------------------------------------------

Result<void> compile_route(RouteBuilder& builder) {
  Result<std::unique_ptr<RouteLimits>> compiled = compile_limits(builder);
  if (!compiled) return compiled.error();
  if (*compiled == nullptr) return {};
  const RouteLimits* limits = builder.own(std::move(*compiled));
  builder.add_hook(Phase::kAdmit, &admit, limits, kRouteLimitTable, "limit", limits->detail);
  return {};
}

// Calls visit(limits) for each route that has some.
template <typename Visit>
Result<void> each_route(BoundGeneration& bound, Visit visit) {
  for (const auto& route : bound.generation->routes()) {
    for (const Hook& hook : route->before) {
      if (hook.function != &admit) continue;
      if (Result<void> done = visit(*static_cast<const RouteLimits*>(hook.state)); !done) {
        return done;
      }
    }
  }
  return {};
}

Result<void> attach(BoundGeneration& bound) {
  const KeyedHash hash(bound.shared.secret());
  const int64_t now_us = monotonic_now().us;
  std::map<std::string, std::shared_ptr<SharedLimit>> known;
  std::optional<LimitHolds> holds;
  return each_route(bound, [&](const RouteLimits& route) -> Result<void> {
    route.hash = hash;
    route.worker_row = bound.row;
    if (route.has_concurrency) {
      if (!holds) {
        Result<LimitHolds> opened = LimitHolds::open(bound.shared);
        if (!opened) return opened.error();
        if (Result<void> made = opened->open_column(bound.row); !made) return made.error();
        holds = std::move(*opened);
      }
      route.holds = *holds;
    }
    for (const RouteLimit& limit : route.limits) {
      std::shared_ptr<SharedLimit>& shared = known[limit.settings.name];
      if (shared == nullptr) {
        Result<std::unique_ptr<SharedLimit>> opened =
            SharedLimit::open(bound.shared, limit.settings, now_us);
        if (!opened) return opened.error();
        shared = std::move(*opened);
      }
      limit.shared = shared;
      limit.hash_base = begin_limit_key(hash, limit.settings.name);
      if (limit.settings.by_route) {
        limit.hash_base = join_limit_key(hash, limit.hash_base, route.route);
      }
    }
    return {};
  });
}

void serve(BoundGeneration& bound) {
  const int64_t now_us = monotonic_now().us;
  (void)each_route(bound, [&](const RouteLimits& route) -> Result<void> {
    for (const RouteLimit& limit : route.limits) {
      const Result<void> done = limit.shared->serve(limit.settings, bound.plan.generation, now_us);
      if (!done) GH_LOG(kError, "limit {}: {}", limit.settings.name, done.error().message);
    }
    return {};
  });
}

}  // namespace

constinit const Module kLimitModule = {
    .name = "limit",
    .tables = kTables,
    .compile_route = &compile_route,
    .attach = &attach,
    .sections = kSections,
    .check = &check_limit_sections,
    .serve = &serve,
};

}  // namespace gatehouse
