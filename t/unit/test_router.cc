// The router against its documented order: by example, and against a plain search through all
// routes sorted by that order, for random routes and requests.
#include <criterion/criterion.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "expect_text.h"
#include "http/route.h"
#include "http/router.h"

using namespace gatehouse;

namespace {

template <class T>
T value(std::string_view text) {
  Result<T> parsed = ValueType<T>::parse(text);
  cr_assert(parsed, "%s", std::string(text).c_str());
  return *parsed;
}

struct Setup {
  std::vector<std::string> host{};
  std::vector<std::string> path{};
  std::vector<std::string> method{};
  std::vector<std::string> header{};
  std::vector<std::string> query{};
};

// Routes named r0, r1, … and the router over them.
struct World {
  std::deque<RouteConf> confs;
  std::deque<Route> routes;
  std::vector<const Route*> pointers;
  std::vector<RouterProblem> problems;
  std::unique_ptr<Router> router;

  explicit World(const std::vector<Setup>& setups) {
    for (const Setup& setup : setups) {
      RouteConf& conf = confs.emplace_back();
      for (const std::string& text : setup.host) conf.host.push_back(value<HostPattern>(text));
      for (const std::string& text : setup.path) conf.path.push_back(value<PathPattern>(text));
      for (const std::string& text : setup.method) conf.method.push_back(value<MethodName>(text));
      for (const std::string& text : setup.header) {
        conf.header.push_back(value<FieldCondition>(text));
      }
      for (const std::string& text : setup.query) {
        conf.query.push_back(value<QueryCondition>(text));
      }
      Route& route = routes.emplace_back();
      route.name = "r" + std::to_string(routes.size() - 1);
      route.conf = &conf;
      pointers.push_back(&route);
    }
    router = Router::build(pointers, problems);
  }
};

// One request. Its texts must outlive the exchange.
struct Asked {
  std::string host{};
  std::string path{};
  std::string query{};
  std::string method = "GET";
  std::vector<std::pair<std::string, std::string>> fields{};
};

void fill(Exchange& exchange, const Asked& asked) {
  exchange.request.head.method = asked.method;
  exchange.request.head.method_id = method_id(asked.method);
  exchange.request.authority.host = asked.host;
  exchange.request.target.path = asked.path;
  exchange.request.target.query = asked.query;
  exchange.request.fields.clear();
  for (const auto& [name, text] : asked.fields) exchange.request.fields.push(name, text);
}

// "r3", or "none".
std::string taken(const World& world, const Asked& asked) {
  Exchange exchange;
  fill(exchange, asked);
  const Route* route = world.router->match(exchange);
  return route == nullptr ? "none" : route->name;
}

// "id=7 rest=a/b".
std::string captures(const World& world, const Asked& asked) {
  Exchange exchange;
  fill(exchange, asked);
  cr_assert(world.router->match(exchange) != nullptr);
  std::string text;
  for (uint8_t i = 0; i < exchange.capture_count; ++i) {
    if (i != 0) text += ' ';
    text += std::string(exchange.captures[i].name) + "=" + std::string(exchange.captures[i].value);
  }
  return text;
}

// ---- The model: every entry, sorted by the documented order, asked one after the other
// -----------

struct Entry {
  const Route* route;
  const HostPattern* host;
  const PathPattern* path;
  size_t order;
  // Where the host's first entry with this expression was written.
  std::pair<size_t, size_t> first{};
};

bool model_host(const HostPattern* pattern, const std::string& host) {
  if (pattern == nullptr || pattern->kind == HostPattern::Kind::kAny) return true;
  if (pattern->kind == HostPattern::Kind::kExact) return host == pattern->name;
  return host.size() > pattern->name.size() && host.ends_with(pattern->name);
}

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  size_t at = 1;
  while (true) {
    const size_t slash = path.find('/', at);
    parts.push_back(path.substr(at, slash - at));
    if (slash == std::string::npos) return parts;
    at = slash + 1;
  }
}

bool model_path(const PathPattern* pattern, const std::string& path) {
  if (pattern == nullptr) return true;
  if (!path.starts_with("/")) return false;
  if (pattern->kind == PathPattern::Kind::kRegex) {
    return pattern->regex->match(path) == RegexOutcome::kMatch;
  }
  const std::vector<std::string> parts = split(path);
  const auto& segments = pattern->segments;
  if (parts.size() < segments.size()) return false;
  if (pattern->kind == PathPattern::Kind::kExact && parts.size() != segments.size()) return false;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].capture ? parts[i].empty() : parts[i] != segments[i].text) return false;
  }
  return true;
}

bool model_conditions(const RouteConf& conf, const Asked& asked) {
  if (!conf.method.empty()) {
    const bool fits =
        std::any_of(conf.method.begin(), conf.method.end(), [&](const MethodName& method) {
          return method.name == asked.method || (method.name == "GET" && asked.method == "HEAD");
        });
    if (!fits) return false;
  }
  FieldList fields;
  for (const auto& [name, text] : asked.fields) fields.push(name, text);
  for (const FieldCondition& condition : conf.header) {
    if (!condition.holds(fields)) return false;
  }
  for (const QueryCondition& condition : conf.query) {
    if (!condition.holds(asked.query)) return false;
  }
  return true;
}

bool model_matches(const Entry& entry, const Asked& asked) {
  return model_host(entry.host, asked.host) && model_path(entry.path, asked.path) &&
         model_conditions(*entry.route->conf, asked);
}

std::tuple<int, size_t> host_rank(const HostPattern* host) {
  if (host == nullptr || host->kind == HostPattern::Kind::kAny) return {2, 0};
  if (host->kind == HostPattern::Kind::kExact) return {0, 0};
  return {1, 1000 - host->name.size()};
}

// One character per segment, so that texts compare as the order wants it.
std::tuple<int, std::string, size_t> path_rank(const PathPattern* path) {
  if (path == nullptr) return {2, "", 0};
  if (path->kind == PathPattern::Kind::kRegex)
    return {1, "", 10000 - path->regex->pattern().size()};
  std::string rank;
  for (const PathSegment& segment : path->segments) rank += segment.capture ? 'b' : 'a';
  if (path->kind == PathPattern::Kind::kPrefix) rank += 'c';
  return {0, rank, 0};
}

std::tuple<int, int> condition_rank(const RouteConf& conf) {
  int count = static_cast<int>(conf.header.size() + conf.query.size());
  int exact = 0;
  for (const auto& condition : conf.header) exact += condition.kind == ConditionKind::kEquals;
  for (const auto& condition : conf.query) exact += condition.kind == ConditionKind::kEquals;
  if (!conf.method.empty()) {
    ++count;
    ++exact;
  }
  return {-count, -exact};
}

struct Model {
  std::vector<Entry> entries;

  explicit Model(const World& world) {
    for (size_t i = 0; i < world.pointers.size(); ++i) {
      const Route* route = world.pointers[i];
      std::vector<const HostPattern*> hosts;
      for (const HostPattern& host : route->conf->host) hosts.push_back(&host);
      if (hosts.empty()) hosts.push_back(nullptr);
      std::vector<const PathPattern*> paths;
      for (const PathPattern& path : route->conf->path) paths.push_back(&path);
      if (paths.empty()) paths.push_back(nullptr);
      for (const HostPattern* host : hosts) {
        for (const PathPattern* path : paths) entries.push_back({route, host, path, i, {}});
      }
    }
    for (Entry& entry : entries) entry.first = first_of(entry);
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tuple(host_rank(a.host), path_rank(a.path), a.first, rank(a), a.order) <
             std::tuple(host_rank(b.host), path_rank(b.path), b.first, rank(b), b.order);
    });
  }

  static std::tuple<int, int> rank(const Entry& entry) {
    return condition_rank(*entry.route->conf);
  }

  // Expressions of one length stand in the order of their first use for that host.
  std::pair<size_t, size_t> first_of(const Entry& entry) const {
    if (entry.path == nullptr || entry.path->kind != PathPattern::Kind::kRegex) return {0, 0};
    for (size_t i = 0; i < entries.size(); ++i) {
      const Entry& other = entries[i];
      if (same_host(other, entry) && same_path(other, entry)) return {other.order, i};
    }
    return {0, 0};
  }

  static bool same_host(const Entry& a, const Entry& b) {
    const HostPattern any;
    return (a.host == nullptr ? any : *a.host) == (b.host == nullptr ? any : *b.host);
  }
  static bool same_path(const Entry& a, const Entry& b) {
    if (a.path == nullptr || b.path == nullptr) return a.path == b.path;
    return a.path->shape() == b.path->shape();
  }

  std::string taken(const Asked& asked) const {
    for (const Entry& entry : entries) {
      if (model_matches(entry, asked)) return entry.route->name;
    }
    return "none";
  }

  bool has_tie(const std::vector<Asked>& requests) const {
    for (size_t i = 0; i < entries.size(); ++i) {
      for (size_t j = i + 1; j < entries.size(); ++j) {
        const Entry& a = entries[i];
        const Entry& b = entries[j];
        if (a.route == b.route || !same_host(a, b) || !same_path(a, b) || rank(a) != rank(b)) {
          continue;
        }
        for (const Asked& asked : requests) {
          if (model_conditions(*a.route->conf, asked) && model_conditions(*b.route->conf, asked)) {
            return true;
          }
        }
      }
    }
    return false;
  }
};

struct Dice {
  std::mt19937 engine;
  size_t below(size_t n) { return engine() % n; }
  bool one_in(size_t n) { return below(n) == 0; }
  const std::string& of(const std::vector<std::string>& choices) {
    return choices[below(choices.size())];
  }
};

std::string random_path(Dice& dice, bool pattern) {
  if (pattern && dice.one_in(8)) {
    return dice.of({"~ ^/a", "~ a$", "~ b", "~ ^/(?<x>[ab]+)/b", "~ ^/.*/a/?$", "~ c"});
  }
  std::string path;
  const size_t depth = dice.below(4);
  for (size_t i = 0; i < depth; ++i) {
    path += pattern && dice.one_in(4) ? "/{n" + std::to_string(i) + "}" : "/" + dice.of({"a", "b"});
  }
  if (pattern && dice.one_in(3)) return path + "/*";
  if (path.empty() || dice.one_in(6)) path += "/";
  return path;
}

Setup random_route(Dice& dice, bool with_expressions) {
  Setup setup;
  const std::vector<std::string> hosts = {"x.test",     "a.x.test", "*.x.test",
                                          "*.a.x.test", "*",        "y.test"};
  for (size_t n = dice.below(3); n > 0; --n) setup.host.push_back(dice.of(hosts));
  for (size_t n = dice.below(3); n > 0; --n) setup.path.push_back(random_path(dice, true));
  if (dice.one_in(4)) setup.method.push_back(dice.of({"GET", "POST", "PURGE", "HEAD"}));
  if (dice.one_in(8)) setup.method.push_back(dice.of({"PUT", "GET", "LIST"}));
  if (dice.one_in(3)) setup.header.push_back(dice.of({"X: 1", "X: 2", "X", "!X"}));
  if (dice.one_in(6)) setup.header.push_back(dice.of({"Accept: 1", "!Accept"}));
  if (dice.one_in(4)) setup.query.push_back(dice.of({"q=1", "q=2", "q", "!q"}));
  if (with_expressions && dice.one_in(8)) setup.header.push_back("X: ~[12]");
  return setup;
}

// Every combination of what conditions look at.
std::vector<Asked> all_conditions() {
  std::vector<Asked> all;
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "PURGE", "LIST", "DELETE"}) {
    for (const char* x : {"", "1", "2", "3"}) {
      for (const char* accept : {"", "1"}) {
        for (const char* query : {"", "q=1", "q=2", "q=3"}) {
          Asked asked;
          asked.method = method;
          asked.query = query;
          if (*x != 0) asked.fields.emplace_back("X", x);
          if (*accept != 0) asked.fields.emplace_back("Accept", accept);
          all.push_back(asked);
        }
      }
    }
  }
  return all;
}

}  // namespace

Test(router, exact_host_before_wildcard_before_any) {
  const World world({{.host = {"*"}},
                     {.host = {"*.example.com"}},
                     {.host = {"*.b.example.com"}},
                     {.host = {"a.example.com"}}});
  cr_assert(world.problems.empty());
  expect(taken(world, {"a.example.com", "/"}), "r3");
  expect(taken(world, {"c.example.com", "/"}), "r1");
  expect(taken(world, {"c.b.example.com", "/"}), "r2");
  expect(taken(world, {"d.c.b.example.com", "/"}), "r2");
  expect(taken(world, {"b.example.com", "/"}), "r1");
  expect(taken(world, {"example.com", "/"}), "r0");
  expect(taken(world, {"", "/"}), "r0");
}

Test(router, a_less_specific_host_helps_out) {
  const World world({{.host = {"a.test"}, .path = {"/only"}},
                     {.host = {"*.test"}, .path = {"/wild"}},
                     {.path = {"/any"}}});
  expect(taken(world, {"a.test", "/only"}), "r0");
  expect(taken(world, {"a.test", "/wild"}), "r1");
  expect(taken(world, {"a.test", "/any"}), "r2");
  expect(taken(world, {"a.test", "/none"}), "none");
}

Test(router, paths_from_the_left_literal_before_name_before_star) {
  const World world({{.path = {"/v1/users/*"}},
                     {.path = {"/v1/users/{id}"}},
                     {.path = {"/v1/users/me"}},
                     {.path = {"/v1/{kind}/me"}},
                     {.path = {"/v1/*"}},
                     {.path = {"/{any}/*"}},
                     {}});
  cr_assert(world.problems.empty());
  expect(taken(world, {"h", "/v1/users/me"}), "r2");
  expect(taken(world, {"h", "/v1/users/7"}), "r1");
  expect(taken(world, {"h", "/v1/users/7/posts"}), "r0");
  expect(taken(world, {"h", "/v1/users"}), "r0");
  expect(taken(world, {"h", "/v1/users/"}), "r0");
  expect(taken(world, {"h", "/v1/users-old"}), "r4");
  expect(taken(world, {"h", "/v1/groups/me"}), "r3");
  expect(taken(world, {"h", "/v1"}), "r4");
  expect(taken(world, {"h", "/v2"}), "r5");
  expect(taken(world, {"h", "/v2/x/y"}), "r5");
  expect(taken(world, {"h", "/"}), "r6");
  expect(taken(world, {"h", "*"}), "r6");
  expect(taken(world, {"h", ""}), "r6");
}

Test(router, expressions_after_prefixes_and_before_no_path) {
  const World world(
      {{.path = {"~ \\.php$"}}, {.path = {"/admin/*"}}, {.path = {"~ ^/x.*\\.php$"}}, {}});
  cr_assert(world.problems.empty());
  expect(taken(world, {"h", "/a.php"}), "r0");
  expect(taken(world, {"h", "/admin/a.php"}), "r1");
  expect(taken(world, {"h", "/x/a.php"}), "r2");
  expect(taken(world, {"h", "/a.txt"}), "r3");
}

Test(router, an_expression_that_reaches_its_limit_does_not_match) {
  const World world({{.path = {"~ ^/(a+)+$"}}, {}});
  expect(taken(world, {"h", "/aaaa"}), "r0");
  const Asked bad{"h", "/" + std::string(60, 'a') + "b"};
  expect(taken(world, bad), "r1");
  Exchange exchange;
  fill(exchange, bad);
  std::vector<RouteCandidate> tried;
  cr_expect(world.router->match(exchange, tried) == world.pointers[1]);
  cr_assert(tried.size() == 2);
  cr_expect(tried[0].outcome == RouteCandidate::Outcome::kRegexLimit);
}

Test(router, more_conditions_before_fewer) {
  const World world({{.path = {"/a"}},
                     {.path = {"/a"}, .method = {"GET"}},
                     {.path = {"/a"}, .method = {"GET"}, .header = {"X: 1"}},
                     {.path = {"/a"}, .header = {"X: ~1"}},
                     {.path = {"/a"}, .method = {"GET"}, .query = {"q"}}});
  cr_assert(world.problems.empty());
  expect(taken(world, {"h", "/a", "", "POST"}), "r0");
  expect(taken(world, {"h", "/a"}), "r1");
  expect(taken(world, {"h", "/a", "", "HEAD"}), "r1");
  expect(taken(world, {"h", "/a", "", "GET", {{"x", "1"}}}), "r2");
  expect(taken(world, {"h", "/a", "", "POST", {{"x", "1"}}}), "r3");
  expect(taken(world, {"h", "/a", "q=5", "GET", {{"x", "2"}}}), "r4");
}

Test(router, captures_are_set) {
  const World world({{.path = {"/u/{id}/p/{post}"}},
                     {.path = {"/f/{name}/*"}},
                     {.path = {"/s/*"}},
                     {.path = {"~ ^/v(?<major>\\d+)(\\.(?<minor>\\d+))?/"}},
                     {.path = {"/lit"}},
                     {.path = {"/u/{id}/p/{number}"}, .header = {"X"}}});
  cr_assert(world.problems.empty());
  expect(captures(world, {"h", "/u/7/p/8"}), "id=7 post=8");
  expect(captures(world, {"h", "/u/7/p/8", "", "GET", {{"X", ""}}}), "id=7 number=8");
  expect(captures(world, {"h", "/f/a/b/c"}), "name=a rest=b/c");
  expect(captures(world, {"h", "/f/a"}), "name=a rest=");
  expect(captures(world, {"h", "/s"}), "rest=");
  expect(captures(world, {"h", "/s/"}), "rest=");
  expect(captures(world, {"h", "/s/x%2Fy/z"}), "rest=x%2Fy/z");
  expect(captures(world, {"h", "/v2.1/"}), "major=2 minor=1");
  expect(captures(world, {"h", "/v2/"}), "major=2 minor=");
  expect(captures(world, {"h", "/lit"}), "");
}

Test(router, a_failed_attempt_leaves_no_captures) {
  const World world({{.path = {"/{a}/{b}/x"}}, {.path = {"/{c}/*"}}});
  expect(captures(world, {"h", "/1/2/y"}), "c=1 rest=2/y");
}

Test(router, ties_are_told) {
  const auto ties = [](const std::vector<Setup>& setups) { return World(setups).problems.size(); };
  cr_expect_eq(ties({{.path = {"/a"}}, {.path = {"/a"}}}), 1);
  cr_expect_eq(ties({{.path = {"/{a}"}}, {.path = {"/{b}"}}}), 1);
  cr_expect_eq(ties({{.path = {"/%61"}}, {.path = {"/a"}}}), 1);
  cr_expect_eq(ties({{.host = {"*"}}, {}}), 1);
  cr_expect_eq(ties({{.path = {"~ a"}}, {.path = {"~ a"}}}), 1);
  cr_expect_eq(ties({{.path = {"/a"}, .method = {"GET"}}, {.path = {"/a"}, .header = {"X: 1"}}}),
               1);
  cr_expect_eq(ties({{.path = {"/a"}, .method = {"GET"}}, {.path = {"/a"}, .method = {"HEAD"}}}),
               1);
  cr_expect_eq(ties({{.method = {"LIST"}}, {.method = {"PUT", "LIST"}}}), 1);
  // No tie: another place, or conditions that exclude each other.
  cr_expect_eq(ties({{.path = {"/a", "/a"}, .method = {"GET"}}}), 0);
  cr_expect_eq(ties({{.path = {"/a"}, .method = {"GET"}}, {.path = {"/a"}, .method = {"POST"}}}),
               0);
  cr_expect_eq(ties({{.header = {"X: 1"}}, {.header = {"X: 2"}}, {.header = {"!X"}}}), 0);
  cr_expect_eq(ties({{.query = {"q=1"}}, {.query = {"q=2"}}, {}}), 0);
  cr_expect_eq(ties({{.path = {"~ a"}}, {.path = {"~ b"}}}), 0);
  cr_expect_eq(ties({{.path = {"/a"}}, {.path = {"/a/*"}}, {.path = {"/a/"}}}), 0);
  cr_expect_eq(ties({{.host = {"a.test"}}, {.host = {"*.test"}}, {}}), 0);
}

Test(router, a_tie_names_both_routes) {
  const World world({{.host = {"a.test"}, .path = {"/x", "/y"}},
                     {.host = {"b.test", "a.test"}, .path = {"/z", "/y"}}});
  cr_assert_eq(world.problems.size(), 1);
  const RouterProblem& problem = world.problems[0];
  cr_expect(problem.route == world.pointers[1]);
  cr_expect(problem.key == "path");
  cr_expect_eq(problem.entry, 1);
  cr_expect(problem.problem.find("[route r0]") != std::string::npos);
  cr_expect(problem.problem.find("host a.test, path /y") != std::string::npos);
}

Test(router, an_expression_that_is_never_asked_is_told) {
  const World shadowed({{.path = {"/*"}}, {.path = {"~ a"}}});
  cr_assert_eq(shadowed.problems.size(), 1);
  cr_expect(shadowed.problems[0].route == shadowed.pointers[1]);
  cr_expect(World({{.path = {"/*"}, .method = {"GET"}}, {.path = {"~ a"}}}).problems.empty());
  cr_expect(World({{.host = {"a.test"}, .path = {"/*"}}, {.path = {"~ a"}}}).problems.empty());
}

Test(router, explain_sees_every_route_that_was_tried) {
  const World world({{.path = {"/a"}, .method = {"POST"}},
                     {.path = {"/a"}, .header = {"X", "Accept: 1"}},
                     {
                         .path = {"/a"},
                         .query = {"q=1", "!z"},
                     },
                     {.path = {"~ b"}},
                     {.path = {"/{x}"}},
                     {}});
  Exchange exchange;
  const Asked asked{"h", "/a", "q=1&z", "GET", {{"X", "1"}}};
  fill(exchange, asked);
  std::vector<RouteCandidate> tried;
  const Route* route = world.router->match(exchange, tried);
  cr_expect(route == world.pointers[4]);
  cr_assert_eq(tried.size(), 4);
  using Outcome = RouteCandidate::Outcome;
  cr_expect(tried[0].route == world.pointers[1] || tried[0].route == world.pointers[2]);
  for (const RouteCandidate& candidate : tried) {
    if (candidate.route == world.pointers[0]) cr_expect(candidate.outcome == Outcome::kMethod);
    if (candidate.route == world.pointers[1]) {
      cr_expect(candidate.outcome == Outcome::kHeader && candidate.index == 1);
    }
    if (candidate.route == world.pointers[2]) {
      cr_expect(candidate.outcome == Outcome::kQuery && candidate.index == 1);
    }
  }
  cr_expect(tried.back().outcome == Outcome::kTaken);
}

Test(router, no_routes_match_nothing) {
  const World world({});
  expect(taken(world, {"h", "/"}), "none");
}

Test(router, matches_like_a_search_through_all_routes) {
  const std::vector<std::string> hosts = {"x.test", "a.x.test", "b.x.test", "c.a.x.test",
                                          "y.test", "test",     ""};
  const std::vector<Asked> conditions = all_conditions();
  size_t matched = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    Dice dice{std::mt19937(seed)};
    std::vector<Setup> setups;
    for (size_t n = 1 + dice.below(seed % 10 == 0 ? 60 : 12); n > 0; --n) {
      setups.push_back(random_route(dice, true));
    }
    const World world(setups);
    const Model model(world);
    for (int i = 0; i < 300; ++i) {
      Asked asked = conditions[dice.below(conditions.size())];
      asked.host = dice.of(hosts);
      asked.path = dice.one_in(30) ? "*" : random_path(dice, false);
      const std::string wanted = model.taken(asked);
      const std::string got = taken(world, asked);
      matched += wanted != "none";
      cr_assert(got == wanted, "seed %u: %s %s%s?%s went to %s, should go to %s", seed,
                asked.method.c_str(), asked.host.c_str(), asked.path.c_str(), asked.query.c_str(),
                got.c_str(), wanted.c_str());
    }
  }
  cr_expect(matched > 30000, "only %zu of 90000 requests matched a route", matched);
}

Test(router, finds_the_ties_that_requests_can_show) {
  const std::vector<Asked> conditions = all_conditions();
  size_t tied = 0;
  for (unsigned seed = 0; seed < 1000; ++seed) {
    Dice dice{std::mt19937(seed)};
    std::vector<Setup> setups;
    for (size_t n = 2 + dice.below(10); n > 0; --n) setups.push_back(random_route(dice, false));
    const World world(setups);
    const bool wanted = Model(world).has_tie(conditions);
    const bool got = std::any_of(
        world.problems.begin(), world.problems.end(),
        [](const RouterProblem& problem) { return problem.problem.starts_with("ties with"); });
    tied += wanted;
    cr_assert(got == wanted, "seed %u: tie %d, reported %d", seed, wanted, got);
  }
  cr_expect(tied > 50 && tied < 950, "%zu of 1000 tied", tied);
}
