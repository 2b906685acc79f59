// Compiling a configuration into a generation; see generation.h.
#include "http/generation.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <unordered_map>
#include <utility>

#include "core/log_conf.h"
#include "core/process_conf.h"
#include "http/canary_conf.h"
#include "http/health_conf.h"
#include "http/proxy.h"
#include "http/router.h"
#include "http/traffic_plan.h"

namespace gatehouse {

namespace {

constexpr std::string_view kUpstreamExpected = "the name of an [upstream] or http://ADDRESS:PORT";

// The second line of an error about a name that nothing has.
std::string suggestion(std::string_view name, const std::vector<std::string_view>& names,
                       std::string_view expected) {
  const std::string_view near = nearest_word(name, names);
  return near.empty() ? "expected: " + std::string(expected)
                      : "did you mean \"" + std::string(near) + "\"?";
}

using UpstreamKey = std::pair<std::string_view, bool>;
UpstreamKey upstream_key(const Upstream& upstream) {
  return {upstream.name, upstream.is_inline};
}

}  // namespace

class GenerationBuilder {
 public:
  GenerationBuilder(Generation& generation, const NameTable& names, ConfigErrors& errors)
      : generation_(generation), names_(names), errors_(errors), bound_(errors.empty()) {}

  void build() {
    for (const Module* module : generation_.modules_) {
      if (module->check != nullptr) module->check(config(), errors_);
    }
    add_upstreams();
    add_listeners();
    find_canaries();
    add_routes();
    link_fallbacks();
    build_routers();
    sort_names();
  }

 private:
  class Compile;

  const Config& config() const { return *generation_.config_; }

  void add_upstreams();
  void add_targets(Upstream& upstream, const std::vector<TargetConf>& targets,
                   const ConfigSection* section, Origin origin);
  void add_policy(Upstream& upstream, const ConfigSection& section);
  void link_fallbacks();
  const Upstream* find_upstream(std::string_view name) const;
  const Upstream* inline_upstream(const ConfigSection& section, const std::string& url);
  const Upstream* route_upstream(const ConfigSection& section, const std::string& name);
  void find_canaries();
  void add_upstream_action(Route& route);
  void add_listeners();
  void check_sockets();
  void add_routes();
  void compile(Route& route);
  void build_routers();
  void sort_names();

  Generation& generation_;
  const NameTable& names_;
  ConfigErrors& errors_;
  const bool bound_;  // every value was legal: what is missing now was never there
  std::unordered_map<std::string_view, Upstream*> upstreams_;
  std::map<std::string, const Upstream*, std::less<>> inline_upstreams_;
  struct Fallback {
    Upstream* upstream;
    const ConfigSection* section;
    std::string name;
  };
  std::vector<Fallback> fallbacks_;
  std::unordered_map<std::string_view, const ConfigSection*> canaries_;  // by route
  std::unordered_map<std::string_view, Listener*> listeners_;
  std::unordered_map<const Listener*, std::vector<const Route*>> routes_of_;
};

// What a module sees of a route while it is compiled.
class GenerationBuilder::Compile final : public RouteBuilder {
 public:
  Compile(GenerationBuilder& owner, Route& route, Listener* listener)
      : owner_(owner), route_(route), listener_(listener) {}

  const ConfigSection& section() const override { return *route_.section; }
  const Config& config() const override { return owner_.config(); }
  bool is_fallback() const override { return route_.fallback; }
  const ConfigSource& source() const override { return *owner_.generation_.source_; }
  const Listener* listener() const override { return listener_; }

  void add_hook(Phase phase, HookFunction function, const void* state, const DirectiveTable& table,
                std::string_view key, std::string_view detail) override {
    const Hook hook{function,
                    state,
                    module_->name,
                    key,
                    key.empty() ? Origin{} : section().origin_of(table, key),
                    detail};
    switch (phase) {
      case Phase::kIdentify:
        if (listener_ != nullptr) listener_->identify.push_back(hook);
        break;
      case Phase::kAuthenticate:
      case Phase::kAdmit:
      case Phase::kRewrite: {
        // Phases run in order; inside one, hooks keep the order of the modules.
        const auto place =
            std::upper_bound(route_.before_phases.begin(), route_.before_phases.end(), phase);
        route_.before.insert(route_.before.begin() + (place - route_.before_phases.begin()), hook);
        route_.before_phases.insert(place, phase);
        break;
      }
      case Phase::kRespond:
        route_.respond.push_back(hook);
        break;
      case Phase::kLog:
        route_.log.push_back(hook);
        break;
    }
  }

  void keep_response_fields() override { route_.keeps_response_fields = true; }

  Result<void> set_action(Action action, const DirectiveTable& table,
                          std::string_view key) override {
    action.origin = section().origin_of(table, key);
    if (!route_.action.name.empty()) {
      blame(table, key,
            "a route has one; " + std::string(route_.action.name) + " stands at " +
                section().where(route_.action.origin),
            0);
      return Error{"a second action"};
    }
    route_.action = std::move(action);
    return {};
  }

  void blame(const DirectiveTable& table, std::string_view key, std::string expected,
             size_t entry) override {
    blamed_ = {&table, key, std::move(expected), entry};
  }

  // Lets every module add what the section asks of it, and reports what it refuses; false where
  // one did.
  bool run_modules() {
    bool all_done = true;
    for (const Module* module : owner_.generation_.modules_) {
      if (module->compile_route == nullptr) continue;
      module_ = module;
      blamed_ = {};
      const Result<void> done = module->compile_route(*this);
      if (done) continue;
      all_done = false;
      section().report(owner_.errors_, *blamed_.table, blamed_.key, done.error().message,
                       std::move(blamed_.expected), blamed_.entry);
    }
    return all_done;
  }

 private:
  void keep(std::unique_ptr<ModuleState> state) override {
    owner_.generation_.states_.push_back(std::move(state));
  }

  GenerationBuilder& owner_;
  Route& route_;
  Listener* listener_;
  const Module* module_ = nullptr;
  struct Blamed {
    const DirectiveTable* table = &kRouteTable;
    std::string_view key;
    std::string expected;
    size_t entry = 0;
  };
  Blamed blamed_;
};

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
    if (!conf.resolved) {
      upstream.has_members = true;
      const auto found = names_.find(conf.text);
      if (found != names_.end()) {
        target.address = found->second;
        target.resolved = true;
      }
    }
    for (const UpstreamTarget& other : upstream.configured.targets) {
      if (other.address_text != target.address_text) continue;
      section->report(errors_, kUpstreamTable, "target",
                      "the same target as at " + section->where(other.origin),
                      "expected: one line for each target; a weight gives it a larger share", i);
    }
    upstream.configured.targets.push_back(std::move(target));
  }
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
             suggestion(fallback.name, names, ValueType<FallbackConf>::expected()));
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
  const auto known = inline_upstreams_.find(target->text);
  if (known != inline_upstreams_.end()) return known->second;
  auto upstream = std::make_unique<Upstream>();
  upstream->name = target->text;
  upstream->origin = section.origin_of(kRouteTable, "upstream");
  upstream->conf = &config().defaults("upstream").get<UpstreamConf>(kUpstreamTable);
  upstream->is_inline = true;
  upstream->plain = !upstream->conf->needs_rows();
  add_targets(*upstream, {*target}, nullptr, upstream->origin);
  add_policy(*upstream, config().defaults("upstream"));
  const Upstream* made = upstream.get();
  inline_upstreams_.emplace(target->text, made);
  generation_.upstreams_.push_back(std::move(upstream));
  return made;
}

void GenerationBuilder::add_listeners() {
  const auto add = [this](const ConfigSection& section) {
    auto listener = std::make_unique<Listener>();
    listener->name = section.name().empty() ? "default" : section.name();
    listener->origin = section.origin();
    const auto other = listeners_.find(listener->name);
    if (other != listeners_.end()) {
      section.report(errors_, kListenerTable, {},
                     "the [listener] without a name is called default, and so is this one",
                     "first: " + section.where(other->second->origin));
    }
    listener->section = &section;
    listener->conf = &section.get<ListenerConf>(kListenerTable);
    auto fallback = std::make_unique<Route>();
    fallback->name = "(none)";  // no section can have this name, so the series is its own
    fallback->fallback = true;
    fallback->section = &config().defaults("route");
    fallback->conf = &fallback->section->get<RouteConf>(kRouteTable);
    Compile(*this, *fallback, listener.get()).run_modules();
    listener->fallback = std::move(fallback);
    listeners_.emplace(listener->name, listener.get());
    generation_.listeners_.push_back(std::move(listener));
  };
  for (const ConfigSection& section : config().sections("listener")) add(section);
  // Without any [listener] there is one on port 80.
  if (generation_.listeners_.empty()) add(config().defaults("listener"));
  check_sockets();
}

// The master would refuse both when it binds, but knows no lines, and -t would not have said so.
void GenerationBuilder::check_sockets() {
  struct Taker {
    const ConfigSection* section;
    Origin origin;
  };
  std::map<SocketAddress, Taker> taken;
  for (const auto& listener : generation_.listeners_) {
    const ConfigSection& section = *listener->section;
    const auto& conf = section.get<ListenerSocketConf>(kListenerSocketTable);
    if (conf.pool != kDefaultPool && config().find("workers", conf.pool) == nullptr) {
      std::vector<std::string_view> names{kDefaultPool};
      for (const ConfigSection& pool : config().sections("workers")) names.push_back(pool.name());
      section.report(errors_, kListenerSocketTable, "pool",
                     "there is no [workers " + conf.pool + "]",
                     suggestion(conf.pool, names, "the name of a [workers] section, or default"));
    }
    if (section.is_broken()) continue;
    const std::string_view key = conf.address.empty() ? "" : "address";
    const std::vector<SocketAddress> addresses = addresses_of(conf);
    for (size_t i = 0; i < addresses.size(); ++i) {
      // Port 0 lets the kernel pick, so that giving it twice means two ports.
      if (!addresses[i].is_unix() && addresses[i].port() == 0) continue;
      const Origin origin =
          key.empty() ? section.origin() : section.origin_of(kListenerSocketTable, key, i);
      const auto [other, is_new] = taken.emplace(addresses[i], Taker{&section, origin});
      // A section that repeats itself was told so when it was bound.
      if (is_new || other->second.section == &section) continue;
      section.report(
          errors_, kListenerSocketTable, key,
          other->second.section->label() + " has the address " + addresses[i].format() + " already",
          "first: " + section.where(other->second.origin), i);
    }
  }
}

void GenerationBuilder::add_routes() {
  const auto sections = config().sections("route");
  generation_.routes_.reserve(sections.size());
  for (const ConfigSection& section : sections) {
    auto route = std::make_unique<Route>();
    route->name = section.name();
    route->origin = section.origin();
    route->section = &section;
    route->conf = &section.get<RouteConf>(kRouteTable);
    compile(*route);
    if (route->conf->listener.empty()) {
      for (const auto& listener : generation_.listeners_) {
        routes_of_[listener.get()].push_back(route.get());
      }
    }
    for (size_t i = 0; i < route->conf->listener.size(); ++i) {
      const std::string& name = route->conf->listener[i];
      const auto found = listeners_.find(name);
      const auto here = route->conf->listener.begin() + static_cast<std::ptrdiff_t>(i);
      if (std::find(route->conf->listener.begin(), here, name) != here) {
        section.report(errors_, kRouteTable, "listener", "given twice", {}, i);
        continue;
      }
      if (found != listeners_.end()) {
        routes_of_[found->second].push_back(route.get());
        continue;
      }
      std::vector<std::string_view> names;
      for (const auto& listener : generation_.listeners_) names.push_back(listener->name);
      section.report(errors_, kRouteTable, "listener", "there is no [listener " + name + "]",
                     suggestion(name, names, "the names of [listener] sections"), i);
    }
    generation_.routes_.push_back(std::move(route));
  }
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
                            : suggestion(name, names, kUpstreamExpected));
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
                     suggestion(conf.route, routes, "the name of a [route]"));
    }
    const Upstream* fresh = find_upstream(conf.upstream);
    if (fresh == nullptr) {
      section.report(errors_, kCanaryTable, "upstream",
                     "there is no [upstream " + conf.upstream + "]",
                     suggestion(conf.upstream, upstreams, "the name of an [upstream]"));
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

void GenerationBuilder::compile(Route& route) {
  const ConfigSection& section = *route.section;
  Compile compile(*this, route, nullptr);
  const bool has_upstream = !route.conf->upstream.empty();
  if (has_upstream) add_upstream_action(route);
  // What modules would say of a section with errors may only follow from them.
  if (section.is_broken()) return;
  const bool all_done = compile.run_modules();
  if (all_done && route.action.name.empty() && !has_upstream) {
    std::string expected = "expected: one of upstream";
    for (const Module* module : generation_.modules_) {
      if (module->action != nullptr) expected += std::string(", ") + module->action;
    }
    section.report(errors_, kRouteTable, {}, "the route has no action", expected);
  }
}

void GenerationBuilder::build_routers() {
  std::vector<RouterProblem> problems;
  for (const auto& listener : generation_.listeners_) {
    listener->router = Router::build(routes_of_[listener.get()], problems);
  }
  // Without a path that was wrong, a route would seem to tie with others.
  if (bound_) report_router_problems(problems, kRouteTable, errors_);
}

void GenerationBuilder::sort_names() {
  for (const auto& route : generation_.routes_) generation_.routes_by_name_.push_back(route.get());
  for (const auto& upstream : generation_.upstreams_) {
    generation_.upstreams_by_name_.push_back(upstream.get());
  }
  std::sort(generation_.routes_by_name_.begin(), generation_.routes_by_name_.end(),
            [](const Route* a, const Route* b) { return a->name < b->name; });
  std::sort(
      generation_.upstreams_by_name_.begin(), generation_.upstreams_by_name_.end(),
      [](const Upstream* a, const Upstream* b) { return upstream_key(*a) < upstream_key(*b); });
}

std::unique_ptr<Generation> Generation::build(std::shared_ptr<const ConfigSource> source,
                                              const Schema& schema,
                                              std::span<const Module* const> modules,
                                              const NameTable& names, ConfigErrors& errors) {
  std::unique_ptr<Generation> generation(new Generation());
  generation->source_ = std::move(source);
  generation->modules_ = modules;
  generation->config_ =
      std::make_unique<Config>(Config::bind(*generation->source_, schema, errors));
  // A config that does not bind has defaults where it was wrong; compiling it finds the rest.
  GenerationBuilder builder(*generation, names, errors);
  builder.build();
  if (!errors.empty()) return nullptr;
  return generation;
}

Generation::~Generation() = default;

const Listener* Generation::find_listener(std::string_view name) const {
  for (const auto& listener : listeners_) {
    if (listener->name == name) return listener.get();
  }
  return nullptr;
}

const Route* Generation::find_route(std::string_view name) const {
  const auto found =
      std::lower_bound(routes_by_name_.begin(), routes_by_name_.end(), name,
                       [](const Route* route, std::string_view key) { return route->name < key; });
  return found != routes_by_name_.end() && (*found)->name == name ? *found : nullptr;
}

const Upstream* Generation::find_upstream(std::string_view name, bool is_inline) const {
  const UpstreamKey key{name, is_inline};
  const auto found = std::lower_bound(upstreams_by_name_.begin(), upstreams_by_name_.end(), key,
                                      [](const Upstream* upstream, const UpstreamKey& wanted) {
                                        return upstream_key(*upstream) < wanted;
                                      });
  return found != upstreams_by_name_.end() && upstream_key(**found) == key ? *found : nullptr;
}

std::span<const Hook> Generation::log_hooks(std::string_view route) const {
  if (const Route* named = find_route(route)) return named->log;
  // Each listener has a fallback, and all of them have the log hooks of [defaults].
  return listeners_.empty() ? std::span<const Hook>() : listeners_.front()->fallback->log;
}

std::vector<std::string> Generation::target_names() const {
  std::vector<std::string> names;
  for (const auto& upstream : upstreams_) {
    const ConfigSection* section =
        upstream->is_inline ? nullptr : config_->find("upstream", upstream->name);
    // The names of SRV records are no names of hosts: the agent looks them up.
    if (section != nullptr &&
        section->get<UpstreamHealthConf>(kUpstreamHealthTable).discover.kind ==
            Discovery::Kind::kSrv) {
      continue;
    }
    for (const UpstreamTarget& target : upstream->configured.targets) {
      if (!target.resolved) names.push_back(target.address_text);
    }
  }
  return names;
}

Schema make_schema(std::span<const Module* const> modules) {
  Schema schema;
  add_process_sections(schema);
  schema.add_table(&kListenerTable);
  schema.add_section("upstream", NameRule::kRequired,
                     "A group of servers that requests are handed to.");
  schema.add_table(&kUpstreamTable);
  schema.add_table(&kUpstreamPolicyTable);
  schema.add_table(&kUpstreamHealthTable);
  schema.add_section("route", NameRule::kRequired,
                     "Which requests are meant, and what is done with them.");
  schema.add_table(&kRouteTable);
  schema.add_section("canary", NameRule::kRequired,
                     "A new upstream that gets a growing share of a route's requests.");
  schema.add_table(&kCanaryTable);
  schema.add_section("log", NameRule::kRequired,
                     "A file that gets a line for each exchange of the routes that name it.");
  schema.add_table(&kLogTable);
  for (const Module* module : modules) {
    for (const ModuleSection& section : module->sections) {
      schema.add_section(section.kind, section.rule, section.help);
    }
    for (const DirectiveTable* table : module->tables) schema.add_table(table);
  }
  return schema;
}

}  // namespace gatehouse
