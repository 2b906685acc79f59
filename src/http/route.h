// Route and Listener as compiled into a generation.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/metrics.h"
#include "core/sockets.h"
#include "http/h2_conf.h"
#include "http/listener_tls.h"
#include "http/module.h"
#include "http/route_conf.h"
#include "http/upstream_split.h"

namespace gatehouse {

class Router;

// One compiled route: its settings, its hooks by phase, its action.
struct Route {
  std::string name;
  Origin origin;
  const RouteConf* conf = nullptr;       // inside the generation's Config, or grpc_conf
  std::unique_ptr<RouteConf> grpc_conf;  // of a route with grpc
  const ConfigSection* section = nullptr;
  std::vector<Hook> before;  // authenticate, admit, rewrite: in running order
  std::vector<Hook> respond;
  std::vector<Hook> log;
  std::vector<Phase> before_phases;  // the phase of each of `before`, for explain
  Action action;
  std::unique_ptr<UpstreamSplit> split;  // where the action deals among several upstreams
  // Log hooks read the response's fields: they are kept as long as the exchange.
  bool keeps_response_fields = false;
  bool fallback = false;         // the listener's stand-in where no route matches
  SeriesCells* cells = nullptr;  // this worker's counters; bound when attached
};

// One compiled listener.
struct Listener {
  std::string name;
  Origin origin;
  const ListenerConf* conf = nullptr;
  const H2Conf* h2 = nullptr;
  const ConfigSection* section = nullptr;
  std::vector<SocketAddress> addresses;
  std::unique_ptr<ListenerTls> tls;  // null: clients speak without it
  // The TLS listener whose redirect_http this is; null otherwise.
  const Listener* redirects_to = nullptr;
  std::vector<Hook> identify;
  std::unique_ptr<Route> fallback;  // hooks for requests that match no route
  std::unique_ptr<Router> router;   // over the routes of this listener
  SeriesCells* cells = nullptr;
};

}  // namespace gatehouse
