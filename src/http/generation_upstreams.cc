// Upstreams, their policies, and what of them a route goes to. See generation_builder.h.
#include <cstddef>
#include <utility>

#include "core/process_conf.h"
#include "http/canary_conf.h"
#include "http/generation_builder.h"
#include "http/health_conf.h"
#include "http/proxy.h"
#include "http/target_transport.h"
#include "http/traffic_plan.h"
#include "http/upstream_tls.h"

namespace gatehouse {

void GenerationBuilder::add_upstreams() {
  for (const ConfigSection& section : config().sections("upstream")) {
    auto upstream = std::make_unique<Upstream>();
    upstream->name = section.name();
    upstream->origin = section.origin();
    upstream->conf = &section.get<UpstreamConf>(kUpstreamTable);
    add_targets(*upstream, upstream->conf->target, &section, section.origin());
    const auto& watched = section.get<UpstreamHealthConf>(kUpstreamHealthTable);
    upstream->plain = upstream->configured.targets.size() <= 1 &&
                      watched.health.kind == HealthCheck::Kind::kNone &&
                      watched.discover.kind == Discovery::Kind::kNone &&
                      !upstream->conf->needs_rows();
    if (watched.discover.kind != Discovery::Kind::kNone) upstream->has_members = true;
    upstream->checked = watched.health.kind != HealthCheck::Kind::kNone;
    check_traffic(config(), section, errors_);
    add_policy(*upstream, section);
    upstreams_.emplace(upstream->name, upstream.get());
    generation_.upstreams_.push_back(std::move(upstream));
  }
}

void GenerationBuilder::add_targets(Upstream& upstream, const std::vector<TargetConf>& targets,
                                    const ConfigSection* section, Origin origin) {
  const TransportPair transports = make_transports(upstream, targets, section, origin);
  upstream.transport =
      upstream.conf->discovered_scheme == TargetScheme::kHttps ? transports.tls : transports.plain;
  for (size_t i = 0; i < targets.size(); ++i) {
    const TargetConf& conf = targets[i];
    UpstreamTarget target;
    target.name = upstream.name + "/" + conf.text;
    target.address_text = conf.text;
    target.address = conf.address;
    target.host = conf.host;
    target.weight = conf.weight;
    target.backup = conf.backup;
    target.max_connections = conf.max_connections.value_or(upstream.conf->max_connections);
    target.resolved = conf.resolved;
    target.origin = section != nullptr ? section->origin_of(kUpstreamTable, "target", i) : origin;
    target.is_name = !conf.resolved;
    target.transport = conf.tls ? transports.tls : transports.plain;
    // Such a generation serves nobody; all the same, nothing secret goes out in the clear.
    const bool unspeakable = conf.tls && transports.tls == nullptr;
    if (!conf.resolved) {
      upstream.has_members = true;
      const auto found = names_.find(conf.text);
      if (found != names_.end()) {
        target.address = found->second;
        target.resolved = true;
      }
    }
    if (unspeakable) target.resolved = false;
    for (const UpstreamTarget& other : upstream.configured.targets) {
      if (other.address_text != target.address_text) continue;
      section->report(errors_, kUpstreamTable, "target",
                      "the same target as at " + section->where(other.origin),
                      "expected: one line for each target; a weight gives it a larger share", i);
    }
    upstream.configured.targets.push_back(std::move(target));
  }
}

// What is spoken to http and to https targets. `section` is null for the URL of a route.
GenerationBuilder::TransportPair GenerationBuilder::make_transports(
    const Upstream& upstream, const std::vector<TargetConf>& targets, const ConfigSection* section,
    Origin origin) {
  const UpstreamConf& conf = *upstream.conf;
  TransportPair pair;
  pair.plain = make_transport(conf, nullptr);
  bool secure = conf.discovered_scheme == TargetScheme::kHttps;
  for (const TargetConf& target : targets) secure = secure || target.tls;
  if (!secure) return pair;
  const ConfigSection& settings = section != nullptr ? *section : config().defaults("upstream");
  const std::shared_ptr<const UpstreamTls> tls =
      make_upstream_tls(config(), *generation_.source_, settings, origin, errors_);
  if (tls != nullptr) pair.tls = make_transport(conf, tls);
  return pair;
}

void GenerationBuilder::add_policy(Upstream& upstream, const ConfigSection& section) {
  const auto& conf = section.get<UpstreamPolicyConf>(kUpstreamPolicyTable);
  upstream.policy = make_policy(conf, upstream.name);
  if (conf.needs_target_rows()) upstream.plain = false;
  const std::string& name = conf.fallback.upstream;
  if (!name.empty()) fallbacks_.push_back({&upstream, &section, name});
}

// REQUIRES: all upstreams are there.
void GenerationBuilder::link_fallbacks() {
  const auto report = [this](const Fallback& fallback, std::string problem, std::string expected) {
    fallback.section->report(errors_, kUpstreamPolicyTable, "fallback", std::move(problem),
                             std::move(expected));
  };
  for (const Fallback& fallback : fallbacks_) {
    const Upstream* other = find_upstream(fallback.name);
    if (other == nullptr) {
      std::vector<std::string_view> names;
      for (const auto& known : upstreams_) names.push_back(known.first);
      report(fallback, "there is no [upstream " + fallback.name + "]",
             suggest_name(fallback.name, names, ValueType<FallbackConf>::expected()));
      continue;
    }
    // A fallback may have one itself, as long as the chain has an end.
    const Upstream* next = other;
    while (next != nullptr && next != fallback.upstream) {
      next = next->policy != nullptr ? next->policy->fallback : nullptr;
    }
    if (next == nullptr) {
      fallback.upstream->policy->fallback = other;
    } else {
      report(fallback, "the fallbacks go in a circle",
             "expected: an upstream that does not fall back to this one");
    }
  }
}

const Upstream* GenerationBuilder::find_upstream(std::string_view name) const {
  const auto found = upstreams_.find(name);
  return found == upstreams_.end() ? nullptr : found->second;
}

// The upstream with one target that `upstream = http://…` means; the same for the same URL.
const Upstream* GenerationBuilder::inline_upstream(const ConfigSection& section,
                                                   const std::string& url) {
  const Result<TargetConf> target = ValueType<TargetConf>::parse(url);
  if (!target) {
    section.report(errors_, kRouteTable, "upstream", target.error().message,
                   "expected: " + std::string(kUpstreamExpected));
    return nullptr;
  }
  const std::string key = ValueType<TargetConf>::format(*target);
  const auto known = inline_upstreams_.find(key);
  if (known != inline_upstreams_.end()) return known->second;
  auto upstream = std::make_unique<Upstream>();
  upstream->name = target->text;
  upstream->origin = section.origin_of(kRouteTable, "upstream");
  upstream->conf = &config().defaults("upstream").get<UpstreamConf>(kUpstreamTable);
  upstream->is_inline = true;
  upstream->is_https = target->tls;
  upstream->plain = !upstream->conf->needs_rows();
  add_targets(*upstream, {*target}, nullptr, upstream->origin);
  add_policy(*upstream, config().defaults("upstream"));
  const Upstream* made = upstream.get();
  inline_upstreams_.emplace(key, made);
  generation_.upstreams_.push_back(std::move(upstream));
  return made;
}

// What a route calls by name or URL; null where there is nothing, which was reported then.
const Upstream* GenerationBuilder::route_upstream(const ConfigSection& section,
                                                  const std::string& name) {
  if (name.find("://") != std::string::npos) return inline_upstream(section, name);
  if (const Upstream* upstream = find_upstream(name)) return upstream;
  std::vector<std::string_view> names;
  for (const auto& other : upstreams_) names.push_back(other.first);
  // An address without its scheme is the likeliest slip.
  const bool is_address =
      name.find(':') != std::string::npos && ValueType<TargetConf>::parse("http://" + name).ok();
  section.report(errors_, kRouteTable, "upstream", "there is no [upstream " + name + "]",
                 is_address ? "did you mean \"http://" + name + "\"?"
                            : suggest_name(name, names, kUpstreamExpected));
  return nullptr;
}

// REQUIRES: all upstreams are there.
void GenerationBuilder::find_canaries() {
  const bool agent = config().sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable).agent;
  std::vector<std::string_view> routes;
  for (const ConfigSection& route : config().sections("route")) routes.push_back(route.name());
  std::vector<std::string_view> upstreams;
  for (const auto& upstream : upstreams_) upstreams.push_back(upstream.first);
  for (const ConfigSection& section : config().sections("canary")) {
    if (section.is_broken()) continue;
    const auto& conf = section.get<CanaryConf>(kCanaryTable);
    if (!agent) {
      section.report(errors_, kCanaryTable, {},
                     "the agent does that, and [gatehouse] agent is off");
    }
    const ConfigSection* route = config().find("route", conf.route);
    if (route == nullptr) {
      section.report(errors_, kCanaryTable, "route", "there is no [route " + conf.route + "]",
                     suggest_name(conf.route, routes, "the name of a [route]"));
    }
    const Upstream* fresh = find_upstream(conf.upstream);
    if (fresh == nullptr) {
      section.report(errors_, kCanaryTable, "upstream",
                     "there is no [upstream " + conf.upstream + "]",
                     suggest_name(conf.upstream, upstreams, "the name of an [upstream]"));
    }
    if (route == nullptr || fresh == nullptr) continue;
    const RouteUpstream& wanted = route->get<RouteConf>(kRouteTable).upstream;
    if (wanted.empty()) {
      section.report(errors_, kCanaryTable, "route",
                     route->label() + " hands its requests to no upstream");
      continue;
    }
    if (const Result<RouteUpstream> both = with_canary(wanted, conf.upstream); !both) {
      section.report(errors_, kCanaryTable, "upstream", both.error().message,
                     "the route's upstream: " + ValueType<RouteUpstream>::format(wanted));
      continue;
    }
    const auto [other, is_new] = canaries_.emplace(route->name(), &section);
    if (is_new) continue;
    section.report(errors_, kCanaryTable, "route", "a route has one canary at a time",
                   "first: " + other->second->where(other->second->origin()));
  }
}

void GenerationBuilder::add_upstream_action(Route& route) {
  const ConfigSection& section = *route.section;
  RouteUpstream wanted = route.conf->upstream;
  SplitCanary canary;
  if (const auto found = canaries_.find(route.name); found != canaries_.end()) {
    canary.section = found->second;
    const std::string& fresh = canary.section->get<CanaryConf>(kCanaryTable).upstream;
    canary.fresh = find_upstream(fresh);
    canary.row_name = canary_row_name(canary.section->name(), route.name, fresh);
    wanted = *with_canary(wanted, fresh);
  }
  std::vector<const Upstream*> sides;
  for (const SplitSide& side : wanted.sides) {
    sides.push_back(route_upstream(section, side.upstream));
    if (sides.back() == nullptr) return;
    if (!side.condition && sides.back() != canary.fresh) canary.stable = sides.back();
  }
  route.action.name = "upstream";
  route.action.detail = ValueType<RouteUpstream>::format(wanted);
  route.action.origin = section.origin_of(kRouteTable, "upstream");
  if (sides.size() == 1) {
    route.action.function = &proxy_action;
    route.action.state = sides[0];
    return;
  }
  route.split = std::make_unique<UpstreamSplit>(std::move(wanted), std::move(sides),
                                                route.conf->sticky_secret, std::move(canary));
  route.action.function = &split_action;
  route.action.state = route.split.get();
}

}  // namespace gatehouse
