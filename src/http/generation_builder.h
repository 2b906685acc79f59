// GenerationBuilder: compiling a configuration into a generation. What it does with listeners,
// routes and their modules is in generation_builder.cc, with upstreams and the routes' way to them
// in generation_upstreams.cc. Nobody else but generation.cc includes this.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/config_errors.h"
#include "core/resolver.h"
#include "http/generation.h"
#include "http/module.h"
#include "http/target_transport.h"

namespace gatehouse {

inline constexpr std::string_view kUpstreamExpected =
    "the name of an [upstream], http://ADDRESS:PORT or https://ADDRESS:PORT";

// The second line of an error about a name that nothing has.
std::string suggest_name(std::string_view name, const std::vector<std::string_view>& names,
                         std::string_view expected);

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
  struct TransportPair {
    std::shared_ptr<const TargetTransport> plain;
    std::shared_ptr<const TargetTransport> tls;
  };
  TransportPair make_transports(const Upstream& upstream, const std::vector<TargetConf>& targets,
                                const ConfigSection* section, Origin origin);
  void add_policy(Upstream& upstream, const ConfigSection& section);
  void link_fallbacks();
  const Upstream* find_upstream(std::string_view name) const;
  const Upstream* inline_upstream(const ConfigSection& section, const std::string& url);
  const Upstream* route_upstream(const ConfigSection& section, const std::string& name);
  void find_canaries();
  void add_upstream_action(Route& route);
  void add_listeners();
  void add_listener(const ConfigSection& section);
  void add_redirect(const Listener& listener);
  std::unique_ptr<Route> make_fallback(Listener& listener);
  void check_sockets();
  void check_proxy_protocol(const Listener& listener);
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

}  // namespace gatehouse
