// What the tests of actions that answer at once share: a route compiled from a configuration, and
// its action run on an exchange.
#pragma once

#include <criterion/criterion.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/config_errors.h"
#include "http/generation.h"
#include "modules/registry.h"

namespace gatehouse::route_action {

// A configuration with one route, of which `route` is the keys.
struct Built {
  Schema schema = make_schema(all_modules());
  ConfigErrors errors;
  std::unique_ptr<Generation> generation;

  explicit Built(const std::string& route, const std::string& name = "test.conf") {
    const std::string text = "[listener l]\naddress = 127.0.0.1:8080\n[route r]\n" + route;
    generation =
        Generation::build(std::make_shared<const ConfigSource>(ConfigSource::from_text(name, text)),
                          schema, all_modules(), NameTable(), errors);
  }

  const Action& action() const {
    cr_assert(generation != nullptr, "%s", errors.text().c_str());
    return generation->routes()[0]->action;
  }
};

// A request with views into literals only.
inline void fill(Exchange& exchange) {
  exchange.request.head.method = "GET";
  exchange.request.authority.host = "a.example";
  exchange.request.target.path = "/p";
  exchange.request.target.wire = "/p?q=1";
  exchange.request.fields.push("User-Agent", "<b>\"x\"\r\nX-Evil: 1");
}

// Runs the action; returns the content of the response.
inline std::string run(const Built& built, Exchange& exchange) {
  const Action& action = built.action();
  cr_assert(action.instant != nullptr);
  action.instant(exchange, action.state);
  return std::string(exchange.response.content);
}

inline std::string field_of(const Exchange& exchange, std::string_view name) {
  const Field* field = exchange.response.fields.find(name);
  return field == nullptr ? "(absent)" : std::string(field->value);
}

}  // namespace gatehouse::route_action
