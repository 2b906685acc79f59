// Router: which of a listener's routes takes a request.
//
// The order, most specific first; the first route whose every part matches takes the request:
//   1. host    exact, then wildcards (longer first), then `*` and routes without a host
//   2. path    compared segment by segment from the left: a literal segment before {name} before
//              `*`; so an exact path is before everything, and /a/b/* before /a/*
//              then expressions, the longer text first, then in the order written
//              then routes without a path
//   3. more conditions before fewer: a list of methods, each header and each query line count one
//   4. of as many conditions, more exact ones (method, `Name: value`, `name=value`) before fewer
// A route with several hosts or paths stands in that order once for each. Routes of a less
// specific host are tried where none of the more specific host matches. Expressions come after the
// prefixes on purpose: a route that guards /admin/* cannot be undermined by one for \.php$.
//
// Two routes that are equal in all of this and could both match one request are an error, with
// both places named. Conditions that exclude each other (GET and POST, one field with two values)
// are no tie; a request that repeats the field goes to the route written first.
//
// A match costs one hash of the host, one of the path and one step per segment, however many
// routes there are; expressions cost a try each. It allocates nothing. An expression that reaches
// its limit counts as not matching, and the error log says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_errors.h"
#include "core/directive.h"
#include "http/exchange.h"
#include "http/route_match.h"

namespace gatehouse {

struct Route;

// What is wrong with the routes of a listener as a whole.
struct RouterProblem {
  const Route* route = nullptr;
  std::string_view key;  // "host", "path", …; empty: the route itself
  size_t entry = 0;      // of the key
  std::string problem;
  std::string expected;
};

// Reports the problems of all listeners, each once, however many listeners found it. `table` is
// the one that the routes' sections have the keys from. REQUIRES: every route has its section.
void report_router_problems(std::span<const RouterProblem> problems, const DirectiveTable& table,
                            ConfigErrors& errors);

// One route that was tried for a request, for explain: host and path matched (or an expression was
// run), and this came of it.
struct RouteCandidate {
  enum class Outcome : uint8_t { kTaken, kMethod, kHeader, kQuery, kRegex, kRegexLimit };
  const Route* route = nullptr;
  const HostPattern* host = nullptr;  // null: the route names no host
  const PathPattern* path = nullptr;  // null: the route names no path
  Outcome outcome = Outcome::kTaken;
  size_t index = 0;  // kHeader, kQuery: which of the route's conditions does not hold
};

class Router {
 public:
  // `routes`: those of the listener, in the order written, each with its conf; they must outlive
  // the router. Problems are added to `problems`; a router is returned all the same.
  static std::unique_ptr<Router> build(std::span<const Route* const> routes,
                                       std::vector<RouterProblem>& problems);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // The route that takes the request, or null (Reason::kNoRoute). Reads request.method, target
  // and fields; sets captures and capture_count. Does not set exchange.route.
  const Route* match(Exchange& exchange) const;
  // The same, and notes every route that was tried, in order.
  const Route* match(Exchange& exchange, std::vector<RouteCandidate>& tried) const;

  // The routes it was built from.
  std::span<const Route* const> routes() const { return routes_; }

 private:
  struct Tables;
  friend class RouterBuilder;
  Router();

  std::vector<const Route*> routes_;
  std::unique_ptr<Tables> tables_;
};

}  // namespace gatehouse
