// Generation: one loaded config, compiled and immutable.
//
// Built from a ConfigSource by any thread of any process (start-up, -t, explain, a reload's helper
// thread): build() touches nothing but its arguments. A worker then binds it to its own counters,
// connection pools and log files (http/bound_generation), and publishes it behind one pointer.
//
// Exchanges hold the generation they began under, and so do the acceptors and the worker. Holders
// are counted on the loop's thread alone, by a plain counter: an exchange pays for it with one
// increment and one decrement. When the last one lets go the worker is told, which has the
// generation freed by its helper thread: that of 10,000 routes takes a while.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificates.h"
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
  const Route* find_route(std::string_view name) const;
  // `is_inline`: made by a route's `upstream = http://…`; else an [upstream] section.
  const Upstream* find_upstream(std::string_view name, bool is_inline) const;
  // The log hooks for an exchange whose own generation may be gone: those of the route of that
  // name; where there is none now, those for what no route takes.
  std::span<const Hook> log_hooks(std::string_view route) const;
  // The host names of all targets, as resolve_names() takes them.
  std::vector<std::string> target_names() const;
  std::span<const Module* const> modules() const { return modules_; }
  // The certificates that serve; the worker puts them in, and exchanges them when they are swapped
  // alone.
  const CertificateHolder& certificates() const { return certificates_; }
  CertificateHolder& certificates() { return certificates_; }

  // Calls `unheld(owner, *this)` whenever the last holder lets go.
  using UnheldCallback = void (*)(void* owner, const Generation& generation);
  void watch_holders(UnheldCallback unheld, void* owner) {
    unheld_ = unheld;
    owner_ = owner;
  }
  void hold() const { ++holders_; }
  void release() const {
    if (--holders_ == 0) [[unlikely]]
      unheld_(owner_, *this);
  }
  uint32_t holders() const { return holders_; }

 private:
  friend class GenerationBuilder;
  Generation() = default;

  std::shared_ptr<const ConfigSource> source_;
  std::unique_ptr<Config> config_;
  std::span<const Module* const> modules_;
  std::vector<std::unique_ptr<ModuleState>> states_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<std::unique_ptr<Route>> routes_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  // By name, for what is looked up while traffic flows.
  std::vector<const Route*> routes_by_name_;
  std::vector<const Upstream*> upstreams_by_name_;
  CertificateHolder certificates_;
  mutable uint32_t holders_ = 0;
  UnheldCallback unheld_ = nullptr;
  void* owner_ = nullptr;
};

// The schema of core, http and the given modules: what a config file may say.
Schema make_schema(std::span<const Module* const> modules);

}  // namespace gatehouse
