// Listeners, routes and their modules, compiled. See generation_builder.h.
#include "http/generation_builder.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/process_conf.h"
#include "http/redirect_http.h"
#include "http/router.h"
#include "http/tls_conf.h"

namespace gatehouse {

std::string suggest_name(std::string_view name, const std::vector<std::string_view>& names,
                         std::string_view expected) {
  const std::string_view near = nearest_word(name, names);
  return near.empty() ? "expected: " + std::string(expected)
                      : "did you mean \"" + std::string(near) + "\"?";
}

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

void GenerationBuilder::add_listeners() {
  for (const ConfigSection& section : config().sections("listener")) add_listener(section);
  // Without any [listener] there is one on port 80.
  if (generation_.listeners_.empty()) add_listener(config().defaults("listener"));
  check_sockets();
}

void GenerationBuilder::add_listener(const ConfigSection& section) {
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
  listener->h2 = &section.get<H2Conf>(kH2Table);
  listener->addresses = listener_addresses(section);
  if (section.get<ListenerTlsConf>(kListenerTlsTable).tls && !section.is_broken()) {
    listener->tls = ListenerTls::compile(section, config(), *generation_.source_,
                                         listener->conf->http2, generation_.certificates_, errors_);
  }
  listener->fallback = make_fallback(*listener);
  listeners_.emplace(listener->name, listener.get());
  generation_.listeners_.push_back(std::move(listener));
  add_redirect(*generation_.listeners_.back());
}

std::unique_ptr<Route> GenerationBuilder::make_fallback(Listener& listener) {
  auto fallback = std::make_unique<Route>();
  fallback->name = "(none)";  // no section can have this name, so the series is its own
  fallback->fallback = true;
  fallback->section = &config().defaults("route");
  fallback->conf = &fallback->section->get<RouteConf>(kRouteTable);
  Compile(*this, *fallback, &listener).run_modules();
  return fallback;
}

// redirect_http: a listener beside this one with a single route.
void GenerationBuilder::add_redirect(const Listener& listener) {
  std::vector<SocketAddress> addresses = redirect_addresses(*listener.section);
  if (addresses.empty()) return;
  auto redirect = std::make_unique<Listener>();
  redirect->name = listener.name + "/redirect_http";
  redirect->origin = listener.section->origin_of(kListenerTlsTable, "redirect_http");
  redirect->section = listener.section;
  redirect->conf = listener.conf;
  redirect->h2 = listener.h2;
  redirect->addresses = std::move(addresses);
  redirect->redirects_to = &listener;
  redirect->fallback = make_fallback(*redirect);
  auto route = std::make_unique<Route>();
  route->name = "(redirect_http)";
  route->origin = redirect->origin;
  route->section = &config().defaults("route");
  route->conf = &route->section->get<RouteConf>(kRouteTable);
  route->fallback = true;  // of its section it has the defaults
  Compile(*this, *route, nullptr).run_modules();
  const uint16_t port =
      listener.addresses.front().is_unix() ? uint16_t{443} : listener.addresses.front().port();
  route->action = redirect_to_https(port, generation_.states_);
  route->action.origin = redirect->origin;
  routes_of_[redirect.get()].push_back(route.get());
  generation_.routes_.push_back(std::move(route));
  listeners_.emplace(redirect->name, redirect.get());
  generation_.listeners_.push_back(std::move(redirect));
}

// The master would refuse both when it binds, but knows no lines, and -t would not have said so.
void GenerationBuilder::check_sockets() {
  struct Taker {
    const Listener* listener;
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
                     suggest_name(conf.pool, names, "the name of a [workers] section, or default"));
    }
    if (section.is_broken()) continue;
    if (listener->redirects_to == nullptr) check_proxy_protocol(*listener);
    const DirectiveTable& table =
        listener->redirects_to != nullptr ? kListenerTlsTable : kListenerSocketTable;
    const std::string_view key = listener->redirects_to != nullptr ? "redirect_http"
                                 : conf.address.empty()            ? ""
                                                                   : "address";
    const std::vector<SocketAddress>& addresses = listener->addresses;
    for (size_t i = 0; i < addresses.size(); ++i) {
      // Port 0 lets the kernel pick, so that giving it twice means two ports.
      if (!addresses[i].is_unix() && addresses[i].port() == 0) continue;
      const Origin origin =
          key.empty() ? section.origin()
                      : section.origin_of(table, key, &table == &kListenerTlsTable ? 0 : i);
      const auto [other, is_new] = taken.emplace(addresses[i], Taker{listener.get(), origin});
      // A section that repeats itself was told so when it was bound.
      if (is_new || other->second.listener == listener.get()) continue;
      section.report(errors_, table, key,
                     other->second.listener->section->label() + " has the address " +
                         addresses[i].format() + " already",
                     "first: " + section.where(other->second.origin),
                     &table == &kListenerTlsTable ? 0 : i);
    }
  }
}

// Over a unix socket its permissions say who may speak for clients.
void GenerationBuilder::check_proxy_protocol(const Listener& listener) {
  if (!listener.conf->proxy_protocol || !listener.conf->trusted_proxy.empty()) return;
  for (const SocketAddress& address :
       addresses_of(listener.section->get<ListenerSocketConf>(kListenerSocketTable))) {
    if (address.is_unix()) continue;
    listener.section->report(errors_, kListenerTable, "proxy_protocol",
                             "nobody is trusted to say who the client is",
                             "expected: trusted_proxy = NETWORK, with the proxies in front", 0);
    return;
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
    if (!route->conf->grpc.empty()) {
      route->grpc_conf = std::make_unique<RouteConf>(grpc_route_conf(*route->conf, section));
      route->conf = route->grpc_conf.get();
    }
    compile(*route);
    if (route->conf->listener.empty()) {
      for (const auto& listener : generation_.listeners_) {
        if (listener->redirects_to == nullptr) routes_of_[listener.get()].push_back(route.get());
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
                     suggest_name(name, names, "the names of [listener] sections"), i);
    }
    generation_.routes_.push_back(std::move(route));
  }
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

}  // namespace gatehouse
