// The directives of limits, and compiling them; see limit_route.h. What they mean is in limit.cc.
#include "modules/limit_route.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "core/config_errors.h"
#include "modules/limit_fields.h"

namespace gatehouse {

namespace {

enum class LimitScope : uint8_t { kLimit, kRoute };
enum class LimitMode : uint8_t { kEnforce, kDryRun };

}  // namespace

constexpr EnumName<LimitScope> kLimitScopeNames[] = {{LimitScope::kLimit, "limit"},
                                                     {LimitScope::kRoute, "route"}};
template <>
struct ValueType<LimitScope> : EnumValueType<LimitScope, kLimitScopeNames> {};

constexpr EnumName<LimitMode> kLimitModeNames[] = {{LimitMode::kEnforce, "enforce"},
                                                   {LimitMode::kDryRun, "dry_run"}};
template <>
struct ValueType<LimitMode> : EnumValueType<LimitMode, kLimitModeNames> {};

constexpr EnumName<TellClient> kTellClientNames[] = {
    {TellClient::kAlways, "always"}, {TellClient::kRefused, "refused"}, {TellClient::kOff, "off"}};
template <>
struct ValueType<TellClient> : EnumValueType<TellClient, kTellClientNames> {};

namespace {

constexpr std::string_view kOff = "off";

// ---- Configuration ------------------------------------------------------------------------------

struct LimitConf {
  LimitKey key;
  std::optional<LimitRate> rate;
  std::optional<uint32_t> concurrency;
  uint32_t cost = 1;
  std::string parent;
  LimitScope scope = LimitScope::kLimit;
  LimitMode mode = LimitMode::kEnforce;
  uint32_t keys_max = 65'536;
};

struct RouteLimitConf {
  std::vector<std::string> limit;
  std::optional<uint32_t> limit_cost;
  TellClient limit_fields = TellClient::kRefused;
};

constexpr Directive kLimitDirectives[] = {
    directive<&LimitConf::key>(
        "key",
        "Whose budget it is: all, or up to four variables without their dollar. Addresses are cut "
        "to a prefix, IPv4 to /32 and IPv6 to /64 unless said otherwise: client_address/24 /56. A "
        "part that a request lacks is empty.",
        "client_address header_x_api_key", DirectiveFlag::kRequired),
    directive<&LimitConf::rate>(
        "rate",
        "How often: at most so many in any stretch of that time (a sliding window; see LIMITS for "
        "its bound), or, with burst, so many at once that are refilled at the rate (a token "
        "bucket).",
        "100/1s burst 200"),
    directive<&LimitConf::concurrency>(
        "concurrency", "How many exchanges of one key may be under way at the same time.", "20",
        range(1, 1'000'000)),
    directive<&LimitConf::cost>("cost", "What one request takes of the rate's budget.", "1",
                                range(1, 1'000'000)),
    directive<&LimitConf::parent>(
        "parent", "Another [limit] that has to have room as well, and so on upwards.",
        "organisation"),
    directive<&LimitConf::scope>(
        "scope", "One budget for all routes that use the limit, or one for each route.", "route"),
    directive<&LimitConf::mode>(
        "mode", "dry_run counts what would be refused, and refuses nothing.", "dry_run"),
    directive<&LimitConf::keys_max>(
        "keys_max",
        "How many keys have a budget at the same time, at 30 bytes of shared memory each.", "65536",
        range(LimitTable::kKeysMin, LimitTable::kKeysMax)),
};

void check_limit(const LimitConf& conf, SectionErrors& errors) {
  if (!conf.rate && !conf.concurrency) {
    errors.add({}, "the limit limits nothing", "expected: rate, concurrency, or both");
  }
  if (!conf.rate) return;
  const uint64_t capacity = conf.rate->burst.value_or(conf.rate->count);
  if (conf.cost > capacity) {
    errors.add("cost", "no request would ever be admitted",
               fmt::format("expected: at most {}, what may be used at once", capacity));
  }
}

constexpr DirectiveTable kSectionTable =
    directive_table<LimitConf, &check_limit>("limit", kLimitDirectives);

constexpr Directive kRouteLimitDirectives[] = {
    directive<&RouteLimitConf::limit>(
        "limit", "The limits that a request has to have room in, with their parents.",
        "per_client organisation", DirectiveFlag::kWords,
        expects("names of [limit] sections, or off")),
    directive<&RouteLimitConf::limit_cost>(
        "limit_cost", "What a request of this route takes of each rate, in place of its cost.", "5",
        range(1, 1'000'000)),
    directive<&RouteLimitConf::limit_fields>(
        "limit_fields",
        "Which responses have the fields RateLimit and RateLimit-Policy: all, those that a limit "
        "has refused, or none.",
        "always"),
};
constexpr DirectiveTable kRouteTable =
    directive_table<RouteLimitConf>("route", kRouteLimitDirectives);

bool is_of_request(VariableId id) {
  switch (id) {
    case VariableId::kClientAddress:
    case VariableId::kPeerAddress:
    case VariableId::kMethod:
    case VariableId::kHost:
    case VariableId::kPath:
    case VariableId::kQuery:
    case VariableId::kUri:
    case VariableId::kScheme:
    case VariableId::kProtocol:
    case VariableId::kRoute:
    case VariableId::kListener:
    case VariableId::kHeader:
    case VariableId::kQueryParameter:
    case VariableId::kCookie:
    case VariableId::kCapture:
      return true;
    default:
      return false;
  }
}

Result<std::vector<LimitPart>> compile_key(const LimitKey& key) {
  std::vector<LimitPart> parts;
  for (const LimitKeyPart& conf : key.parts) {
    Result<Variable> variable = parse_variable(conf.name);
    if (!variable) return variable.error();
    if (!is_of_request(variable->id)) {
      return Error{fmt::format("${} is not known before a request is answered", conf.name)};
    }
    const bool is_secret = variable->id == VariableId::kHeader ||
                           variable->id == VariableId::kCookie ||
                           variable->id == VariableId::kQueryParameter;
    parts.push_back({conf, std::move(*variable), is_secret});
  }
  return parts;
}

const LimitConf& conf_of(const ConfigSection& section) {
  return section.get<LimitConf>(kLimitTable);
}

std::string suggestion(const Config& config, std::string_view name) {
  std::vector<std::string_view> names;
  for (const ConfigSection& each : config.sections("limit")) names.push_back(each.name());
  const std::string_view nearest = nearest_word(name, names);
  return nearest.empty() ? "expected: the name of a [limit] section"
                         : fmt::format("did you mean \"{}\"?", nearest);
}

// One limit and what stands above it, each once.
Result<void> add_limit(RouteBuilder& builder, RouteLimits& state, const std::string& first,
                       size_t entry) {
  const auto& route = builder.section().get<RouteLimitConf>(kRouteLimitTable);
  for (std::string name = first; !name.empty();) {
    const ConfigSection* section = builder.config().find("limit", name);
    if (section == nullptr) {
      if (name != first) return {};  // said where the parent is named
      builder.blame(kRouteLimitTable, "limit", suggestion(builder.config(), name), entry);
      return Error{fmt::format("there is no [limit {}]", name)};
    }
    const LimitConf& conf = conf_of(*section);
    Result<std::vector<LimitPart>> parts = compile_key(conf.key);
    if (section->is_broken() || !parts) return {};
    const bool known =
        std::any_of(state.limits.begin(), state.limits.end(),
                    [&](const RouteLimit& other) { return other.settings.name == name; });
    if (!known) {
      if (state.limits.size() == kLimitsPerRoute) {
        builder.blame(kRouteLimitTable, "limit",
                      fmt::format("expected: at most {}, with their parents", kLimitsPerRoute),
                      entry);
        return Error{"too many limits"};
      }
      RouteLimit limit;
      limit.settings = {name,
                        conf.rate,
                        conf.key,
                        conf.parent,
                        conf.keys_max,
                        conf.cost,
                        conf.concurrency.value_or(0),
                        conf.scope == LimitScope::kRoute,
                        conf.mode == LimitMode::kDryRun};
      limit.field_name = limit_field_name(name);
      limit.parts = std::move(*parts);
      limit.cost = route.limit_cost.value_or(conf.cost);
      if (conf.rate && limit.cost > conf.rate->burst.value_or(conf.rate->count)) {
        builder.blame(kRouteLimitTable, "limit_cost",
                      fmt::format("expected: at most what limit {} lets be used at once", name));
        return Error{"no request would ever be admitted"};
      }
      state.limits.push_back(std::move(limit));
    }
    name = conf.parent;
    // A circle is reported for the sections; it must not keep us here.
    if (known) break;
  }
  return {};
}

// ---- Keys ---------------------------------------------------------------------------------------

std::string_view text_of(const LimitPart& part, const Exchange& exchange,
                         fmt::memory_buffer& room) {
  const Request& request = exchange.request;
  switch (part.variable.id) {
    case VariableId::kHeader: {
      const Field* field = part.variable.field == FieldId::kOther
                               ? request.fields.find(part.variable.name)
                               : request.fields.find(part.variable.field);
      return field != nullptr ? field->value : std::string_view();
    }
    case VariableId::kHost:
      return request.authority.host;
    case VariableId::kPath:
      return request.target.path;
    case VariableId::kMethod:
      return request.head.method;
    default:
      room.clear();
      append_variable(part.variable, exchange, room);
      return {room.data(), room.size()};
  }
}

const IpAddress& address_of(const LimitPart& part, const Exchange& exchange) {
  return part.variable.id == VariableId::kPeerAddress ? exchange.peer : exchange.client_address;
}

}  // namespace

constinit const DirectiveTable kRouteLimitTable = kRouteTable;
constinit const DirectiveTable kLimitTable = kSectionTable;

void check_limit_sections(const Config& config, ConfigErrors& errors) {
  for (const ConfigSection& section : config.sections("limit")) {
    if (section.is_broken()) continue;
    const LimitConf& conf = conf_of(section);
    if (Result<std::vector<LimitPart>> parts = compile_key(conf.key); !parts) {
      section.report(errors, kLimitTable, "key", parts.error().message);
    }
    size_t above = 0;
    for (std::string_view parent = conf.parent; !parent.empty();) {
      const ConfigSection* next = config.find("limit", parent);
      if (next == nullptr) {
        // A parent's own parent is its own business.
        if (above == 0) {
          section.report(errors, kLimitTable, "parent",
                         fmt::format("there is no [limit {}]", parent), suggestion(config, parent));
        }
        break;
      }
      if (next == &section || ++above >= kLimitsPerRoute) {
        section.report(
            errors, kLimitTable, "parent",
            next == &section ? "a limit is its own parent in the end"
                             : "too many parents above each other",
            fmt::format("expected: fewer than {} above each other, in no circle", kLimitsPerRoute));
        break;
      }
      parent = conf_of(*next).parent;
    }
  }
}

Result<std::unique_ptr<RouteLimits>> compile_limits(RouteBuilder& builder) {
  const auto& conf = builder.section().get<RouteLimitConf>(kRouteLimitTable);
  const auto nothing = [] { return std::unique_ptr<RouteLimits>(); };
  if (builder.is_fallback() || conf.limit.empty()) return nothing();
  if (conf.limit.size() == 1 && conf.limit.front() == kOff) return nothing();
  auto state = std::make_unique<RouteLimits>();
  for (size_t i = 0; i < conf.limit.size(); ++i) {
    const auto here = conf.limit.begin() + static_cast<std::ptrdiff_t>(i);
    const bool twice = std::find(conf.limit.begin(), here, conf.limit[i]) != here;
    if (conf.limit[i] == kOff || twice) {
      builder.blame(kRouteLimitTable, "limit", "expected: names of [limit] sections, or off alone",
                    i);
      return Error{twice ? "given twice" : "off stands beside a name"};
    }
    if (Result<void> added = add_limit(builder, *state, conf.limit[i], i); !added) {
      return added.error();
    }
  }
  state->route = builder.section().name();
  state->tell = conf.limit_fields;
  size_t may_refuse = 0;
  for (const RouteLimit& limit : state->limits) {
    if (!state->detail.empty()) state->detail += ", ";
    state->detail += limit.settings.name;
    if (limit.settings.rate) {
      state->detail += " " + ValueType<LimitRate>::format(*limit.settings.rate);
    }
    if (limit.settings.concurrency != 0) {
      state->detail += fmt::format(" concurrency {}", limit.settings.concurrency);
      state->has_concurrency = true;
    }
    if (limit.settings.dry_run) state->detail += " (dry run)";
    may_refuse += (limit.settings.rate ? 1 : 0) + (limit.settings.concurrency != 0 ? 1 : 0);
  }
  state->asks_first = may_refuse > 1;
  return state;
}

uint64_t hash_limit_key(const RouteLimits& route, const RouteLimit& limit,
                        const Exchange& exchange) {
  uint64_t hash = limit.hash_base;
  if (limit.parts.empty()) return hash;
  fmt::memory_buffer room;
  for (const LimitPart& part : limit.parts) {
    hash = part.conf.is_address
               ? join_limit_key(route.hash, hash, part.conf, address_of(part, exchange))
               : join_limit_key(route.hash, hash, text_of(part, exchange, room));
  }
  return hash;
}

std::string describe_limit_key(const RouteLimits& route, const RouteLimit& limit,
                               const Exchange& exchange) {
  if (limit.parts.empty() && !limit.settings.by_route) return "all";
  std::string text = limit.settings.by_route ? route.route : std::string();
  fmt::memory_buffer room;
  for (const LimitPart& part : limit.parts) {
    if (!text.empty()) text += ' ';
    if (part.conf.is_address) {
      text += cut_address_text(part.conf, address_of(part, exchange));
      continue;
    }
    const std::string_view value = text_of(part, exchange, room);
    if (value.empty()) {
      text += '-';
    } else if (part.is_secret && value.size() > 8) {
      text += fmt::format("{}...", value.substr(0, 4));
    } else {
      text += value;
    }
  }
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace gatehouse
