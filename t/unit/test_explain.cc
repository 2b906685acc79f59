// explain: what it says of requests that are taken, refused and not matched.
#include <criterion/criterion.h>

#include <memory>
#include <string>

#include "core/config_errors.h"
#include "http/explain.h"
#include "http/explain_report.h"
#include "http/generation.h"
#include "modules/registry.h"

using namespace gatehouse;

namespace {

constexpr const char* kConfig = R"([listener public]
address = 127.0.0.1:8080
[listener inner]
address = 127.0.0.1:9090
[upstream users]
target = http://127.0.0.1:3000 weight 2
target = http://127.0.0.1:3001
[route users]
listener = public
host = api.example.com
path = /v1/users/{id}/*
upstream = users
[route beta]
listener = public
host = api.example.com
path = /v1/users/{id}/*
header = X-Beta: 1
reply = 200
[route inner]
listener = inner
upstream = http://127.0.0.1:4000
[upstream users_next]
target = http://127.0.0.1:3002
[route split]
listener = public
path = /split
upstream = users 95%, users_next 5%, users_next if header X-Beta: 1 sticky cookie side
[listener third]
address = 127.0.0.1:7070
[upstream careful]
target = http://127.0.0.1:5000
retry = 1 on 503
[route careful]
listener = third
upstream = careful
[defaults]
panic = 40%
[upstream chosen]
target = http://127.0.0.1:5001
balance = least_conn
health = tcp every 3s
[route chosen]
listener = third
path = /chosen
upstream = chosen
)";

struct Asking {
  Schema schema = make_schema(all_modules());
  ConfigErrors errors;
  std::unique_ptr<Generation> generation;

  Asking() {
    generation = Generation::build(
        std::make_shared<const ConfigSource>(ConfigSource::from_text("g.conf", kConfig)), schema,
        all_modules(), NameTable(), errors);
    cr_assert(generation != nullptr, "%s", errors.text().c_str());
  }

  // With runs of blanks as one.
  std::string ask(ExplainRequest request) const {
    Result<std::string> told = explain(*generation, request);
    if (!told) return "error: " + told.error().message;
    std::string text;
    for (const char c : *told) {
      if (c == ' ' && (text.empty() || text.back() == ' ' || text.back() == '\n')) continue;
      text += c;
    }
    return text;
  }
};

void expect_in(const std::string& text, const std::string& part) {
  cr_expect(text.find(part) != std::string::npos, "%s is not in\n%s", part.c_str(), text.c_str());
}

ExplainRequest request(std::string text, std::vector<std::string> fields = {}) {
  ExplainRequest made;
  made.request = std::move(text);
  made.fields = std::move(fields);
  return made;
}

}  // namespace

Test(explain, names_every_line_that_decides) {
  const Asking asking;
  const std::string text = asking.ask(request("GET http://api.example.com:8080/v1/users/7/x/y?q"));
  expect_in(text, "listener public (listens at 127.0.0.1:8080) g.conf:1\n");
  expect_in(text, "route users g.conf:8\n");
  expect_in(text, "host api.example.com g.conf:10\n");
  expect_in(text, "path /v1/users/{id}/* g.conf:11\n");
  expect_in(text, "capture id = 7\n");
  expect_in(text, "capture rest = x/y\n");
  expect_in(text, "action upstream users g.conf:12\n");
  expect_in(text, "upstream users g.conf:5\n");
  expect_in(text, "target 127.0.0.1:3000 weight 2 g.conf:6\n");
  expect_in(text, "target 127.0.0.1:3001 g.conf:7\n");
  expect_in(text, "not taken beta: header X-Beta: 1 does not hold g.conf:13\n");
}

Test(explain, asks_the_router_with_the_fields_given) {
  const Asking asking;
  const std::string text =
      asking.ask(request("http://api.example.com:8080/v1/users/7/x", {"x-beta: 1"}));
  expect_in(text, "request GET ");
  expect_in(text, "route beta g.conf:13\n");
  expect_in(text, "header X-Beta: 1 g.conf:17\n");
  expect_in(text, "action reply 200");
}

Test(explain, a_host_field_wins_over_the_url) {
  const Asking asking;
  const std::string text =
      asking.ask(request("http://127.0.0.1:8080/v1/users/7/", {"Host: API.example.com"}));
  expect_in(text, "route users");
}

Test(explain, normalises_as_a_session_does) {
  const Asking asking;
  const std::string text =
      asking.ask(request("http://api.example.com:8080/v1//x/../users/%37/#part"));
  expect_in(text, "path /v1/users/7/ (normalised)\n");
  expect_in(text, "route users");
}

Test(explain, refusals_have_their_reason) {
  const Asking asking;
  expect_in(asking.ask(request("GET http://api.example.com:8080/%00")), "refused 400 bad_target:");
  expect_in(asking.ask(request("G@T http://api.example.com:8080/")), "refused 400 bad_method:");
  expect_in(asking.ask(request("GET http://api.example.com:8080/", {"Content-Length: x"})),
            "refused 400 ");
  expect_in(asking.ask(request("TRACE http://api.example.com:8080/")),
            "refused 405 method_not_allowed:");
  expect_in(asking.ask(request("GET http://a..b:8080/")), "refused 400 bad_host:");
  expect_in(asking.ask(request("POST http://api.example.com:8080/v1/users/7/",
                               {"Content-Length: 99999999"})),
            "refused 413 ");
  // A line break in a field is no way to write another one.
  expect_in(asking.ask(request("GET http://api.example.com:8080/", {"A: b\r\n\r\nGET / HTTP/1.1"})),
            "refused 400 ");
}

Test(explain, tells_why_nothing_matched) {
  const Asking asking;
  const std::string text = asking.ask(request("GET http://x.example:8080/v1/users/7/"));
  expect_in(text, "refused 404 no_route:");
  expect_in(text, "not taken users: host api.example.com does not match g.conf:8\n");
  const std::string other = asking.ask(request("GET http://api.example.com:8080/v2"));
  expect_in(other, "not taken users: path /v1/users/{id}/* does not match g.conf:8\n");
}

Test(explain, listeners_are_found_by_port_or_name) {
  const Asking asking;
  expect_in(asking.ask(request("http://any:9090/")), "route inner");
  expect_in(asking.ask(request("http://any/")),
            "error: no listener has port 80; say --listener "
            "NAME, one of: public, inner, third");
  expect_in(asking.ask(request("/path")), "error: a path alone names no listener");
  ExplainRequest named = request("https://any/");
  named.listener = "inner";
  expect_in(asking.ask(named), "listener inner (as asked) g.conf:3\n");
  named.listener = "none";
  expect_in(asking.ask(named), "error: there is no listener \"none\"");
}

Test(explain, questions_that_make_no_sense) {
  const Asking asking;
  expect_in(asking.ask(request("ftp://x/")), "error: ");
  expect_in(asking.ask(request("")), "error: ");
  expect_in(asking.ask(request("http://any:9090/", {"nonsense"})), "error: ");
  ExplainRequest client = request("http://any:9090/");
  client.client = "nobody";
  expect_in(asking.ask(client), "error: \"nobody\" is not an IP address");
}

Test(explain, speaks_json) {
  const Asking asking;
  ExplainRequest asked = request("http://api.example.com:8080/v1/users/%22/");
  asked.json = true;
  const std::string text = asking.ask(asked);
  cr_expect(text.starts_with("{\"route\":\"users\",\"action\":\"upstream\",\"lines\":["));
  expect_in(text, "{\"level\":0,\"what\":\"route\",\"text\":\"users\",\"where\":\"g.conf:8\"}");
  asked.request = "http://api.example.com:8080/none";
  expect_in(asking.ask(asked), "{\"reason\":\"no_route\",\"status\":404,\"lines\":[");
}

Test(explain, a_report_does_not_move_the_terminal) {
  ExplainReport report;
  report.add(0, "what", "a\x1B[2J\"", "f:1");
  cr_expect(report.text() == "what        a\\x1B[2J\"  f:1\n");
  cr_expect(report.json() ==
            "{\"lines\":[\n{\"level\":0,\"what\":\"what\",\"text\":\"a\\u001B[2J\\\"\",\"where\":"
            "\"f:1\"}]}\n");
}

Test(explain, shows_the_sides_of_a_split) {
  const Asking asking;
  const std::string dealt = asking.ask(request("GET http://a.example:8080/split"));
  expect_in(dealt,
            "action upstream users 95%, users_next 5%, users_next if header X-Beta: 1 sticky "
            "cookie side g.conf:27\n");
  expect_in(dealt, "side users 95% g.conf:27\n");
  expect_in(dealt, "side users_next 5% g.conf:27\n");
  expect_in(dealt, "side users_next if header X-Beta: 1 g.conf:27\n");
  expect_in(dealt, "sticky cookie side\n");
  expect_in(dealt, "upstream users g.conf:5\n");
  expect_in(dealt, "upstream users_next g.conf:22\n");
  const std::string beta = asking.ask(request("GET http://a.example:8080/split", {"X-Beta: 1"}));
  expect_in(beta, "side users 95% (not asked) g.conf:27\n");
  expect_in(beta, "side users_next if header X-Beta: 1 (holds: takes the request) g.conf:27\n");
}

Test(explain, tells_what_an_upstream_does_about_failures) {
  const Asking asking;
  const std::string told = asking.ask(request("http://a.example.com:7070/"));
  cr_assert(told.find("retry 1 on 503 budget 20% min 3 g.conf:32") != std::string::npos, "%s",
            told.c_str());
  cr_assert(told.find("breaker") == std::string::npos, "%s", told.c_str());
}

Test(explain, tells_how_a_target_is_chosen_and_checked) {
  const Asking asking;
  const std::string told = asking.ask(request("http://a.example.com:7070/chosen"));
  expect_in(told, "balance least_conn g.conf:40\n");
  expect_in(told, "panic 40% g.conf:37\n");
  cr_assert(told.find("health tcp every 3s") != std::string::npos, "%s", told.c_str());
  cr_assert(told.find("queue") == std::string::npos, "%s", told.c_str());
}
