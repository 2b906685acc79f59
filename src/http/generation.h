// Generation: one loaded config, compiled and immutable.
//
// Built from a ConfigSource by any thread of any process (start-up, -t, explain, later a reload's
// helper thread): build() touches nothing but its arguments. A worker then attaches it on its
// loop's thread, binding routes, listeners and targets to the worker's own counters, connection
// pools and log files by name, and publishes it behind one pointer. Exchanges hold the generation
// they began under; the last one to let go frees it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/config_errors.h"
#include "core/config_source.h"
#include "core/resolver.h"
#include "http/module.h"
#include "http/route.h"
#include "http/upstream.h"

namespace gatehouse {

class Generation {
 public:
  // All errors go to `errors`; null is returned then. A target whose name is not in `names` is
  // down. `schema` and `modules` must outlive the generation.
  static std::unique_ptr<Generation> build(std::shared_ptr<const ConfigSource> source,
                                           const Schema& schema,
                                           std::span<const Module* const> modules,
                                           const NameTable& names, ConfigErrors& errors);
  ~Generation();

  const Config& config() const { return *config_; }
  const ConfigSource& source() const { return *source_; }
  std::span<const std::unique_ptr<Listener>> listeners() const { return listeners_; }
  std::span<const std::unique_ptr<Route>> routes() const { return routes_; }
  std::span<const std::unique_ptr<Upstream>> upstreams() const { return upstreams_; }
  const Listener* find_listener(std::string_view name) const;
  // The host names of all targets, as resolve_names() takes them.
  std::vector<std::string> target_names() const;
  std::span<const Module* const> modules() const { return modules_; }

 private:
  friend class GenerationBuilder;
  friend class Worker;
  Generation() = default;

  std::shared_ptr<const ConfigSource> source_;
  std::unique_ptr<Config> config_;
  std::span<const Module* const> modules_;
  std::vector<std::unique_ptr<ModuleState>> states_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<std::unique_ptr<Route>> routes_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

// The schema of core, http and the given modules: what a config file may say.
Schema make_schema(std::span<const Module* const> modules);

}  // namespace gatehouse
