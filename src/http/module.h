// Module: what a feature is made of, and the phases in which it may act on an exchange.
//
// A module contributes directives to sections and, when a route is compiled, looks at its own
// settings there and adds only what they ask for: hooks, or the route's action. A feature that a
// route does not use is not on its list at all. The ordered list of modules is
// src/modules/registry.cc; inside one phase hooks run in that order.
//
//   phase          contract
//   kIdentify      who asks: client address, request id. Per listener, before routing.
//   kAuthenticate  proves who the client is, or answers 401.
//   kAdmit         limits, access rules: lets pass or answers.
//   kRewrite       changes the request towards the upstream.
//   (action)       exactly one per route: answers, or proxies to an upstream.
//   kRespond       changes the response's head before it is sent.
//   kLog           after the exchange; cannot change anything.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/config_source.h"
#include "core/directive.h"
#include "core/result.h"
#include "core/task.h"
#include "http/exchange.h"

namespace gatehouse {

class RouteBuilder;
struct BoundGeneration;

enum class Phase : uint8_t { kIdentify, kAuthenticate, kAdmit, kRewrite, kRespond, kLog };
inline constexpr unsigned kPhases = 6;

enum class Verdict : uint8_t {
  kContinue,
  kAnswered,  // exchange.answer() or refuse() was called; the action is skipped
};

// A hook runs to its end without waiting. `state` is what the module gave to add_hook.
using HookFunction = Verdict (*)(Exchange& exchange, const void* state);
// The action of a route. May wait. Leaves a response in the exchange, or has sent one.
using ActionFunction = Task<void> (*)(Exchange& exchange, const void* state);
// An action that answers at once, without a coroutine: `reply`, `redirect`.
using InstantAction = void (*)(Exchange& exchange, const void* state);

// One compiled hook of a route.
struct Hook {
  HookFunction function = nullptr;
  const void* state = nullptr;
  std::string_view name;         // the module's
  std::string_view key;          // the directive that switched it on; empty: on by default
  Origin origin;                 // the line that switched it on
  std::string_view detail = {};  // for explain; lives as long as the generation
};

// A kind of sections that a module brings in.
struct ModuleSection {
  std::string_view kind;
  NameRule rule;
  std::string_view help;
};

// The compiled action of a route. Exactly one of `function` and `instant` is set.
struct Action {
  ActionFunction function = nullptr;
  InstantAction instant = nullptr;
  const void* state = nullptr;
  std::string_view name;  // "upstream", "reply", …
  std::string detail;     // for explain: the upstream's name, the status, the location
  Origin origin;
};

// The smallest piece a module keeps compiled for a route; owned by the generation.
class ModuleState {
 public:
  virtual ~ModuleState() = default;
};

struct Module {
  const char* name;
  // Directives, each table for one kind of section.
  std::span<const DirectiveTable* const> tables;
  // Looks at one route's settings and adds hooks or the action. May be null.
  // An error is reported with the route's file:line.
  Result<void> (*compile_route)(RouteBuilder& builder) = nullptr;
  // Called once per worker and generation after it is compiled, by the thread that compiles, while
  // the one before serves: binds compiled state to what the worker has (log files, shared zones).
  // A failure refuses the generation; once it serves nothing can fail any more. May be null.
  Result<void> (*attach)(BoundGeneration& bound) = nullptr;
  // The directive that makes this module a route's action; null where it is none.
  const char* action = nullptr;
  // Kinds of sections of its own.
  std::span<const ModuleSection> sections = {};
  // Looks at the configuration as a whole, before any route: what no route uses is checked, too.
  // May be null.
  void (*check)(const Config& config, ConfigErrors& errors) = nullptr;
  // The generation begins to serve in this worker: called on the loop's thread, cannot fail. Where
  // a worker waits for others, only when all of them are ready. May be null.
  void (*serve)(BoundGeneration& bound) = nullptr;
};

// What compile_route is given.
class RouteBuilder {
 public:
  virtual ~RouteBuilder() = default;
  // The route's section; settings already inherited. For requests that match no route this is
  // the section of [defaults] alone and is_fallback() is true: only identify, respond and log
  // hooks are of use there.
  virtual const ConfigSection& section() const = 0;
  virtual const Config& config() const = 0;
  virtual bool is_fallback() const = 0;
  // Where the section was read from; for files that directives name.
  virtual const ConfigSource& source() const = 0;
  // The listener whose fallback is compiled; null for a route.
  virtual const Listener* listener() const = 0;

  // `key` is the directive that switched it on (for its origin); empty: on by default.
  // `detail`: what explain says of it; lives as long as the state.
  virtual void add_hook(Phase phase, HookFunction function, const void* state,
                        const DirectiveTable& table, std::string_view key,
                        std::string_view detail = {}) = 0;
  // A log hook of the route reads response.fields, whose text is otherwise gone when it runs.
  virtual void keep_response_fields() = 0;
  // A route has exactly one action; a second one is an error that names both lines.
  virtual Result<void> set_action(Action action, const DirectiveTable& table,
                                  std::string_view key) = 0;
  // The error that compile_route is about to return is about this key (its entry number `entry`,
  // where it is a list): its line and value are shown, and `expected` below them. Without it the
  // error names the section alone.
  virtual void blame(const DirectiveTable& table, std::string_view key, std::string expected = {},
                     size_t entry = 0) = 0;
  // Keeps `state` alive as long as the generation. Returns it.
  template <typename T>
  T* own(std::unique_ptr<T> state) {
    T* raw = state.get();
    keep(std::move(state));
    return raw;
  }

 protected:
  virtual void keep(std::unique_ptr<ModuleState> state) = 0;
};

}  // namespace gatehouse
