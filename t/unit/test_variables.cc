// $variables: each name and what it says.
#include <criterion/criterion.h>

#include <regex.h>

#include <string>

#include "expect_text.h"
#include "http/exchange.h"
#include "http/route.h"
#include "http/router.h"
#include "http/text_template.h"
#include "http/upstream.h"
#include "http/variables.h"
#include "rendered.h"

using namespace gatehouse;

namespace {

// An exchange that has something to say for every variable.
struct Filled {
  Exchange exchange;
  Route route;
  Listener listener;
  UpstreamTarget target;

  Filled() {
    Request& request = exchange.request;
    request.head.method = "GET";
    request.head.method_id = Method::kGet;
    request.head.target = "/a%2e/../b?q=a%20b&flag";
    request.target.path = "/b";
    request.target.query = "q=a%20b&flag";
    request.target.wire = "/b?q=a%20b&flag";
    request.authority.host = "a.example";
    request.fields.push("User-Agent", "test \"1\"");
    request.fields.push("X-Own-Field", "own");
    request.body_bytes = 12;
    exchange.response.status = 201;
    exchange.response.body_bytes = 34;
    exchange.response.fields.push("Content-Type", "text/plain");
    exchange.response.fields.push("X-Both", "upstream");
    exchange.response.added.push("X-Both", "hook");
    exchange.peer = *IpAddress::parse("192.0.2.1");
    exchange.peer_port = 4711;
    exchange.client_address = exchange.peer;
    exchange.client_text = "192.0.2.1";
    exchange.client_https = true;
    exchange.request_id = "id-1";
    exchange.reason = Reason::kNone;
    route.name = "users";
    listener.name = "public";
    exchange.route = &route;
    exchange.listener = &listener;
    target.name = "up/unix:/run/x.sock";
    target.address_text = "unix:/run/x.sock";
    exchange.target = &target;
    exchange.tries = 2;
    exchange.upstream_bytes_in = 56;
    exchange.upstream_bytes_out = 78;
    exchange.times = {{1'000'000}, {1'100'000}, {1'101'500}, {1'250'999}, {3'042'000}};
    exchange.captures[0] = {"id", "7"};
    exchange.captures[1] = {"rest", "x/y"};
    exchange.capture_count = 2;
  }
};

std::string problem_of(std::string_view text) {
  Result<TextTemplate> parsed = TextTemplate::parse(text);
  return parsed ? "" : parsed.error().message;
}

bool matches(const std::string& text, const char* expression) {
  regex_t compiled;
  cr_assert(regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) == 0);
  const bool found = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return found;
}

}  // namespace

Test(variables, each_has_its_value) {
  const Filled filled;
  const Exchange& exchange = filled.exchange;
  set_variable_worker("default", 3);
  const struct {
    const char* text;
    const char* value;
  } cases[] = {
      {"$client_address", "192.0.2.1"},
      {"$client_port", "4711"},
      {"$peer_address", "192.0.2.1"},
      {"$method", "GET"},
      {"$host", "a.example"},
      {"$path", "/b"},
      {"$query", "q=a%20b&flag"},
      {"$uri", "/b?q=a%20b&flag"},
      {"$raw_target", "/a%2e/../b?q=a%20b&flag"},
      {"$scheme", "https"},
      {"$protocol", "HTTP/1.1"},
      {"$request_line", "GET /a%2e/../b?q=a%20b&flag HTTP/1.1"},
      {"$status", "201"},
      {"$reason", "none"},
      {"$request_id", "id-1"},
      {"$route", "users"},
      {"$listener", "public"},
      {"$pool", "default"},
      {"$worker", "3"},
      {"$upstream", "up"},
      {"$target", "unix:/run/x.sock"},
      {"$tries", "2"},
      {"$bytes_in", "12"},
      {"$bytes_out", "34"},
      {"$upstream_bytes_in", "56"},
      {"$upstream_bytes_out", "78"},
      {"$duration", "2.042000"},
      {"$upstream_duration", "1.942000"},
      {"$upstream_connect_duration", "0.001500"},
      {"$upstream_head_duration", "0.150999"},
      {"$header_user_agent", "test \"1\""},
      {"$header_x_own_field", "own"},
      {"$header_absent", ""},
      {"$response_header_content_type", "text/plain"},
      {"$response_header_x_both", "hook"},
      {"$query_q", "a%20b"},
      {"$query_flag", ""},
      {"$query_absent", ""},
      {"$capture_id", "7"},
      {"$capture_rest", "x/y"},
      {"$capture_absent", ""},
  };
  for (const auto& one : cases) expect(rendered(one.text, exchange), one.value);
  cr_expect(matches(rendered("$time_iso8601", exchange),
                    "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}\\.[0-9]{3}Z$"));
  cr_expect(matches(rendered("$time_combined", exchange),
                    "^[0-3][0-9]/[A-Z][a-z]{2}/20[0-9]{2}:[0-9:]{8} \\+0000$"));
  cr_expect(matches(rendered("$time_unix", exchange), "^[0-9]{10}\\.[0-9]{3}$"));
}

Test(variables, an_empty_exchange_has_no_values) {
  Exchange exchange;
  for (const VariableInfo& info : variable_list()) {
    const std::string name(info.name);
    const bool always = name.starts_with("time_") || name == "scheme" || name == "protocol" ||
                        name == "reason" || name == "pool" || name == "worker" || name == "tries" ||
                        name.find("bytes") != std::string::npos;
    if (always) continue;
    const std::string suffix = name.ends_with('_') ? "x" : "";
    expect(rendered("$" + name + suffix, exchange), "");
    expect(rendered("$" + name + suffix, exchange, TextEscape::kLog), "-");
  }
  exchange.reason = Reason::kClientGone;
  expect(rendered("$status", exchange), "499");
}

Test(variables, a_proxied_client_has_no_port) {
  Filled filled;
  filled.exchange.client_address = *IpAddress::parse("198.51.100.7");
  filled.exchange.client_text = "198.51.100.7";
  expect(rendered("$client_address $client_port $peer_address", filled.exchange),
         "198.51.100.7  192.0.2.1");
}

Test(variables, unknown_names_are_told_with_what_may_be_meant) {
  expect(problem_of("$cleint_address"),
         "unknown variable $cleint_address, did you mean $client_address?");
  cr_expect(problem_of("$5").find("a dollar is written $$") != std::string::npos);
  cr_expect(problem_of("$header_").find("needs a name") != std::string::npos);
  cr_expect(problem_of("$query_").find("needs a name") != std::string::npos);
  cr_expect(problem_of("a $").find("$$") != std::string::npos);
  cr_expect(problem_of("a $ b").find("$$") != std::string::npos);
  cr_expect(problem_of("$Host").find("$$") != std::string::npos);
}

Test(variables, the_list_is_in_the_order_of_the_numbers) {
  for (size_t i = 0; i < variable_list().size(); ++i) {
    cr_expect_eq(static_cast<size_t>(variable_list()[i].id), i);
  }
}
