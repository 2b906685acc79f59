// What the limits of one route are compiled to, and how a request's key is hashed for each.
//
// Only modules/limit.cc, which decides by it, includes this.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/keyed_hash.h"
#include "core/limit_conf.h"
#include "core/limit_holds.h"
#include "core/shared_limit.h"
#include "http/exchange.h"
#include "http/module.h"
#include "http/variables.h"

namespace gatehouse {

inline constexpr size_t kLimitsPerRoute = 16;  // with parents

// Which responses tell the client about its limits.
enum class TellClient : uint8_t { kAlways, kRefused, kOff };

struct LimitPart {
  LimitKeyPart conf;
  Variable variable;
  bool is_secret = false;  // what a client may have for a password: shown in part only
};

// A limit as one route uses it.
struct RouteLimit {
  LimitSettings settings;
  std::string field_name;
  std::vector<LimitPart> parts;
  uint32_t cost = 1;
  // Bound by attach.
  mutable std::shared_ptr<SharedLimit> shared;
  mutable uint64_t hash_base = 0;
};

struct RouteLimits final : ModuleState {
  std::string route;
  std::string detail;
  std::vector<RouteLimit> limits;
  TellClient tell = TellClient::kRefused;
  bool has_concurrency = false;
  bool asks_first = false;  // more than one may refuse
  // Bound by attach.
  mutable KeyedHash hash{HashKey{}};
  mutable LimitHolds holds;
  mutable uint32_t worker_row = 0;
  // The value of RateLimit-Policy, for these epochs of the rules. Each worker has generations of
  // its own, which only its loop uses.
  mutable std::string policy;
  mutable std::array<uint32_t, kLimitsPerRoute> policy_epochs{};
};

extern const DirectiveTable kLimitTable;
extern const DirectiveTable kRouteLimitTable;

// Reports what is wrong with any [limit], also with one that no route uses.
void check_limit_sections(const Config& config, ConfigErrors& errors);

// What the route's section asks for; null where that is nothing. An error has been blamed.
Result<std::unique_ptr<RouteLimits>> compile_limits(RouteBuilder& builder);

// The hash of the request's key under one limit of the route.
uint64_t hash_limit_key(const RouteLimits& route, const RouteLimit& limit,
                        const Exchange& exchange);

// The key in text, for an operator. Of what may be a secret only the beginning is shown.
std::string describe_limit_key(const RouteLimits& route, const RouteLimit& limit,
                               const Exchange& exchange);

}  // namespace gatehouse
