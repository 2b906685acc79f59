// A compiled configuration; see generation.h. The compiling is in generation_builder.
#include "http/generation.h"

#include <algorithm>
#include <utility>

#include "core/certificate_conf.h"
#include "core/log_conf.h"
#include "core/process_conf.h"
#include "core/tls_profile.h"
#include "http/canary_conf.h"
#include "http/generation_builder.h"
#include "http/h2_conf.h"
#include "http/health_conf.h"
#include "http/router.h"
#include "http/tls_conf.h"
#include "http/upstream_tls.h"

namespace gatehouse {

namespace {

using UpstreamKey = std::pair<std::string_view, bool>;
UpstreamKey upstream_key(const Upstream& upstream) {
  return {upstream.name, upstream.is_inline};
}

}  // namespace

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
  schema.add_table(&kH2Table);
  schema.add_table(&kListenerTlsTable);
  schema.add_table(&kListenerTlsProfileTable);
  schema.add_section("upstream", NameRule::kRequired,
                     "A group of servers that requests are handed to.");
  schema.add_table(&kUpstreamTable);
  schema.add_table(&kUpstreamTlsTable);
  schema.add_table(&kUpstreamTlsProfileTable);
  schema.add_table(&kUpstreamPolicyTable);
  schema.add_table(&kUpstreamHealthTable);
  schema.add_section("route", NameRule::kRequired,
                     "Which requests are meant, and what is done with them.");
  schema.add_table(&kRouteTable);
  schema.add_section("canary", NameRule::kRequired,
                     "A new upstream that gets a growing share of a route's requests.");
  schema.add_table(&kCanaryTable);
  add_certificate_section(schema);
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
