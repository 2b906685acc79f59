// Shedding: a pool of workers that is at its limit turns requests away at once.
//
//   [workers default]
//   memory_max = 512m
//   cpu_max    = 90%
//
// A request for a route with an upstream is answered with 503 and Retry-After before anything else
// is done for it: overload_memory where the worker has more memory than that, overload_cpu for a
// part of the requests where it uses more of a processor (http/shedding says how it is known).
// What the gateway answers itself (metrics, health, redirects) goes on being answered.
//
// Nothing is shared; a configuration that sets neither key pays nothing.
#include <optional>

#include "core/directive.h"
#include "core/process_conf.h"
#include "http/exchange.h"
#include "http/module.h"
#include "http/route_conf.h"
#include "http/shedding.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

struct SheddingConf {
  Bytes memory_max;
  std::optional<Percent> cpu_max;
};

constexpr Directive kDirectives[] = {
    directive<&SheddingConf::memory_max>(
        "memory_max",
        "Memory that a worker of this pool may use for itself before it turns requests away; 0 "
        "is no limit.",
        "512m", range(Bytes{0}, Bytes{uint64_t{1} << 50})),
    directive<&SheddingConf::cpu_max>(
        "cpu_max",
        "Share of one processor that a worker of this pool may use before it turns a part of the "
        "requests away; no limit where it is not set.",
        "90%", range(Percent{100}, Percent{10'000})),
};
constexpr DirectiveTable kSheddingTable = directive_table<SheddingConf>("workers", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kSheddingTable};

// The limits of each pool that has some.
struct SheddingState final : ModuleState {
  struct Pool {
    std::string name;
    ShedLimits limits;
  };
  std::vector<Pool> pools;
};

Verdict shed(Exchange& exchange, const void* state) {
  const auto& pools = static_cast<const SheddingState*>(state)->pools;
  Worker& worker = *exchange.worker;
  for (const SheddingState::Pool& pool : pools) {
    if (pool.name != worker.pool_name()) continue;
    const Reason why = worker.shedder().judge(pool.limits);
    if (why == Reason::kNone) return Verdict::kContinue;
    exchange.refuse(why);
    return Verdict::kAnswered;
  }
  return Verdict::kContinue;
}

Result<void> compile_route(RouteBuilder& builder) {
  if (builder.is_fallback() || builder.section().get<RouteConf>(kRouteTable).upstream.empty()) {
    return {};
  }
  auto state = std::make_unique<SheddingState>();
  for (const ConfigSection& section : builder.config().sections("workers")) {
    const SheddingConf& conf = section.get<SheddingConf>(kSheddingTable);
    ShedLimits limits;
    limits.memory_max = conf.memory_max;
    if (conf.cpu_max) limits.cpu_max = conf.cpu_max->hundredths;
    if (limits.any()) state->pools.push_back({section.name(), limits});
  }
  if (state->pools.empty()) return {};
  builder.add_hook(Phase::kAuthenticate, &shed, builder.own(std::move(state)), kRouteTable, {});
  return {};
}

}  // namespace

constinit const Module kSheddingModule{"shedding", kTables, &compile_route, nullptr, nullptr};

}  // namespace gatehouse
