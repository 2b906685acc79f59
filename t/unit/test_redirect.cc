// The action redirect, compiled from a configuration and run on an exchange.
#include <criterion/criterion.h>

#include <memory>
#include <string>

#include "core/config_errors.h"
#include "http/generation.h"
#include "modules/registry.h"

using namespace gatehouse;

namespace {

struct Built {
  Schema schema = make_schema(all_modules());
  ConfigErrors errors;
  std::unique_ptr<Generation> generation;

  explicit Built(const std::string& route) {
    const std::string text = "[listener l]\naddress = 127.0.0.1:8080\n[route r]\n" + route;
    generation = Generation::build(
        std::make_shared<const ConfigSource>(ConfigSource::from_text("test.conf", text)), schema,
        all_modules(), NameTable(), errors);
  }

  const Action& action() const {
    cr_assert(generation != nullptr, "%s", errors.text().c_str());
    return generation->routes()[0]->action;
  }
};

// An exchange with views into literals only.
void fill(Exchange& exchange) {
  exchange.request.head.method = "GET";
  exchange.request.authority.host = "a.example";
  exchange.request.target.path = "/p";
  exchange.request.target.wire = "/p?q=1";
  exchange.request.fields.push("User-Agent", "<b>\"x\"\r\nX-Evil: 1");
}

void run(const Built& built, Exchange& exchange) {
  const Action& action = built.action();
  cr_assert(action.instant != nullptr);
  action.instant(exchange, action.state);
}

std::string field_of(const Exchange& exchange, std::string_view name) {
  const Field* field = exchange.response.fields.find(name);
  return field == nullptr ? "(absent)" : std::string(field->value);
}

void expect(const std::string& got, const std::string& wanted) {
  cr_expect(got == wanted, "got %s, wanted %s", got.c_str(), wanted.c_str());
}

// A redirect's Location for the exchange of fill().
std::string location(const std::string& value) {
  const Built built("redirect = " + value + "\n");
  Exchange exchange;
  fill(exchange);
  run(built, exchange);
  return std::to_string(exchange.response.status) + " " + field_of(exchange, "Location");
}

}  // namespace

Test(redirect, statuses_and_urls) {
  expect(location("https://b.example/"), "302 https://b.example/");
  expect(location("301 https://$host$uri"), "301 https://a.example/p?q=1");
  expect(location("308 /new$path"), "308 /new/p");
  expect(location("303 /?a=$header_user_agent"), "303 /?a=%3Cb%3E%22x%22%0D%0AX-Evil:%201");
}

Test(redirect, without_a_host_there_is_nowhere_to_go) {
  const Built built("redirect = https://$host$uri\n");
  Exchange exchange;
  fill(exchange);
  exchange.request.authority.host = {};
  run(built, exchange);
  cr_expect_eq(exchange.response.status, 400);
  cr_expect(exchange.reason == Reason::kMissingHost);
  expect(field_of(exchange, "Location"), "(absent)");
}

Test(redirect, is_told_to_explain) {
  const Built built("redirect = /x\n");
  cr_expect(built.action().name == "redirect");
  expect(built.action().detail, "302 /x");
}
