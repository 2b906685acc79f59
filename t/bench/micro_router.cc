// What routing costs: building a router of 10 and of 10,000 routes, and one match in each.
//
// Requests come in random order, so that the caches see what many different clients would ask.
// To build: the flags of t/bench/micro_parser.cc, linked with libgatehouse.a. Prints a line for
// each case; a request's own text is read in order, as if it had just been received.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "http/route.h"
#include "http/router.h"

using namespace gatehouse;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// How the routes differ from each other.
enum class Shape { kPrefixes, kHosts, kNames };

struct World {
  std::deque<RouteConf> confs;
  std::deque<Route> routes;
  std::vector<const Route*> pointers;
  std::vector<std::string> hosts;
  std::vector<std::string> paths;

  World(size_t count, Shape shape) {
    for (size_t i = 0; i < count; ++i) {
      const std::string n = std::to_string(i);
      const std::string host = shape == Shape::kHosts ? "host" + n + ".example.com" : "example.com";
      const std::string pattern = shape == Shape::kPrefixes ? "/service-" + n + "/v1/*"
                                  : shape == Shape::kNames  ? "/service-" + n + "/{id}/posts/{post}"
                                                            : "/*";
      RouteConf& conf = confs.emplace_back();
      conf.host.push_back(*ValueType<HostPattern>::parse(host));
      conf.path.push_back(*ValueType<PathPattern>::parse(pattern));
      Route& route = routes.emplace_back();
      route.name = "r" + n;
      route.conf = &conf;
      pointers.push_back(&route);
      hosts.push_back(host);
      paths.push_back(shape == Shape::kPrefixes ? "/service-" + n + "/v1/users/123456"
                      : shape == Shape::kNames  ? "/service-" + n + "/123456/posts/789"
                                                : "/v1/users/123456");
    }
  }
};

void measure(const char* what, size_t count, Shape shape) {
  const World world(count, shape);
  std::vector<RouterProblem> problems;
  const Clock::time_point build_start = Clock::now();
  const std::unique_ptr<Router> router = Router::build(world.pointers, problems);
  const double build_ms = seconds_since(build_start) * 1e3;

  std::mt19937 dice(1);
  std::vector<size_t> order(size_t{1} << 14);
  std::string texts;
  for (size_t& i : order) {
    i = dice() % count;
    texts += world.hosts[i] + world.paths[i];
  }
  Exchange exchange;
  exchange.request.head.method = "GET";
  exchange.request.head.method_id = Method::kGet;
  size_t wrong = problems.size();
  double best = 1e9;
  for (int round = 0; round < 30; ++round) {
    const Clock::time_point start = Clock::now();
    const char* at = texts.data();
    for (const size_t i : order) {
      exchange.request.authority.host = {at, world.hosts[i].size()};
      at += world.hosts[i].size();
      exchange.request.target.path = {at, world.paths[i].size()};
      at += world.paths[i].size();
      wrong += router->match(exchange) != world.pointers[i];
    }
    best = std::min(best, seconds_since(start) * 1e9 / static_cast<double>(order.size()));
  }
  std::printf("%-24s %6zu routes  build %7.2f ms  match %6.1f ns%s\n", what, count, build_ms, best,
              wrong == 0 ? "" : "  WRONG");
}

}  // namespace

int main() {
  for (const size_t count : {size_t{10}, size_t{1000}, size_t{10000}}) {
    measure("prefixes of one host", count, Shape::kPrefixes);
    measure("{name} patterns", count, Shape::kNames);
    measure("hosts", count, Shape::kHosts);
  }
  return 0;
}
