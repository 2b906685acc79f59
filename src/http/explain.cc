// Asking the real parser and the real router, and writing down what they say; see explain.h.
#include "http/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/process_conf.h"
#include "http/explain_report.h"
#include "http/h1_parser.h"
#include "http/health_conf.h"
#include "http/router.h"
#include "http/target_transport.h"
#include "http/text_template.h"
#include "http/upstream_tls.h"

namespace gatehouse {

namespace {

// How many routes that did not take the request are told of.
constexpr size_t kNearMisses = 8;

// A URL as far as explain must understand it; the rest is for the real parser.
struct Url {
  bool https = false;
  std::string authority;  // empty: the URL is a path alone
  std::string target;
  uint16_t port = 0;  // that the request would be sent to
};

Result<Url> split_url(std::string_view text) {
  Url url;
  text = text.substr(0, text.find('#'));
  if (text.starts_with("https://")) {
    url.https = true;
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
  } else if (text.starts_with('/') || text == "*") {
    url.target = text;
    return url;
  } else {
    return Error{"\"" + std::string(text) + "\" is neither http://…, https://… nor a path"};
  }
  const size_t end = std::min(text.find_first_of("/?"), text.size());
  url.authority = text.substr(0, end);
  url.target = text.substr(end);
  if (!url.target.starts_with('/')) url.target.insert(0, "/");
  url.port = url.https ? 443 : 80;
  const size_t colon = url.authority.rfind(':');
  if (colon != std::string::npos && url.authority.find(']', colon) == std::string::npos) {
    const Result<uint64_t> port =
        parse_unsigned(std::string_view(url.authority).substr(colon + 1), 65535);
    if (port) url.port = static_cast<uint16_t>(*port);
  }
  return url;
}

// The bytes that a client would send for the question.
std::string request_head(std::string_view method, const Url& url,
                         const std::vector<std::string>& fields) {
  std::string head = fmt::format("{} {} HTTP/1.1\r\n", method, url.target);
  const bool names_host = std::any_of(fields.begin(), fields.end(), [](std::string_view field) {
    return equal_ignoring_case(field.substr(0, field.find(':')), "host");
  });
  if (!names_host && !url.authority.empty()) head += "Host: " + url.authority + "\r\n";
  for (const std::string& field : fields) head += field + "\r\n";
  return head + "\r\n";
}

std::string listener_names(const Generation& generation) {
  std::string names;
  for (const auto& listener : generation.listeners()) {
    if (!names.empty()) names += ", ";
    names += listener->name;
  }
  return names;
}

struct Choice {
  const Listener* listener = nullptr;
  std::string why;
};

Result<Choice> choose_listener(const Generation& generation, const ExplainRequest& request,
                               const Url& url) {
  if (!request.listener.empty()) {
    const Listener* listener = generation.find_listener(request.listener);
    if (listener != nullptr) return Choice{listener, "as asked"};
    return Error{"there is no listener \"" + request.listener +
                 "\"; there are: " + listener_names(generation)};
  }
  if (url.port != 0) {
    for (const auto& listener : generation.listeners()) {
      const auto& conf = listener->section->get<ListenerSocketConf>(kListenerSocketTable);
      for (const SocketAddress& address : conf.address) {
        if (!address.is_unix() && address.port() == url.port) {
          return Choice{listener.get(), "listens at " + address.format()};
        }
      }
    }
  }
  if (generation.listeners().size() == 1) {
    const Listener* only = generation.listeners().front().get();
    return Choice{only, url.port == 0
                            ? "the only one"
                            : fmt::format("the only one, though not at port {}", url.port)};
  }
  const std::string problem = url.port == 0 ? std::string("a path alone names no listener")
                                            : fmt::format("no listener has port {}", url.port);
  return Error{problem + "; say --listener NAME, one of: " + listener_names(generation)};
}

// One explanation under way.
class Explanation {
 public:
  Explanation(const Generation& generation, const ExplainRequest& request)
      : generation_(generation), request_(request) {}

  Result<std::string> run() {
    std::string_view text = request_.request;
    const std::string_view first = take_word(text);
    const std::string method = text.empty() ? "GET" : std::string(first);
    Result<Url> url = split_url(text.empty() ? first : text);
    if (!url) return url.error();
    for (const std::string& field : request_.fields) {
      if (field.find(':') == std::string::npos) {
        return Error{"\"" + field + "\" is not a header field: Name: value"};
      }
    }
    Result<Choice> choice = choose_listener(generation_, request_, *url);
    if (!choice) return choice.error();
    const Listener& listener = *choice->listener;
    exchange_.generation = &generation_;
    exchange_.listener = &listener;
    exchange_.route = listener.fallback.get();
    exchange_.client_https = url->https;
    const Result<void> client = set_client();
    if (!client) return client.error();
    report_.add(0, "request", method + " " + std::string(text.empty() ? first : text));
    report_.add(0, "listener", listener.name + " (" + choice->why + ")",
                place(*listener.section, listener.origin));

    const std::string head = request_head(method, *url, request_.fields);
    const Reason refusal = interpret(head, *listener.conf);
    for (const Hook& hook : listener.identify) {
      hook.function(exchange_, hook.state);
      add_hook("identify", hook, *listener.section);
    }
    if (refusal != Reason::kNone) {
      add_refusal(refusal);
    } else {
      if (exchange_.request.target.path != url->target.substr(0, url->target.find('?'))) {
        report_.add(0, "path", std::string(exchange_.request.target.path) + " (normalised)");
      }
      explain_route(listener);
    }
    return request_.json ? report_.json() : report_.text();
  }

 private:
  static std::string place(const ConfigSection& section, Origin origin) {
    return section.where(origin);
  }

  Result<void> set_client() {
    const std::string& text = request_.client.empty() ? "127.0.0.1" : request_.client;
    const std::optional<IpAddress> address = IpAddress::parse(text);
    if (!address) return Error{"\"" + text + "\" is not an IP address"};
    exchange_.peer = exchange_.client_address = *address;
    return {};
  }

  // What a session does with a head before it routes.
  Reason interpret(const std::string& head, const ListenerConf& conf) {
    Request& request = exchange_.request;
    H1RequestParser parser;
    parser.reset();
    const H1Limits limits{conf.head_max.count, conf.fields_max, conf.target_max.count};
    const ParseStatus status = parser.parse(head, limits, request.head, request.fields);
    if (status == ParseStatus::kRefused) return parser.reason();
    // An end of the head inside the question ("-H" with a line break) leaves the parser waiting or
    // done early; neither is a request.
    if (status != ParseStatus::kComplete || request.head.length != head.size()) {
      return Reason::kBadRequestLine;
    }
    Reason why = parse_target(request.head.target, request.head.method_id, TargetOptions{},
                              exchange_.arena, request.target);
    if (why != Reason::kNone) return why;
    why =
        check_request(request.head, request.fields, request.target, exchange_.arena, request.facts);
    if (why != Reason::kNone) return why;
    const Method method = request.head.method_id;
    if (method == Method::kConnect || method == Method::kTrace) return Reason::kMethodNotAllowed;
    request.authority = request.facts.authority;
    return Reason::kNone;
  }

  void add_refusal(Reason why) {
    const ReasonInfo& info = reason_info(why);
    report_.add(0, "refused", fmt::format("{} {}: {}", info.status, info.code, info.text));
    report_.set_outcome(info.code, info.status);
  }

  void explain_route(const Listener& listener) {
    std::vector<RouteCandidate> tried;
    const Route* route = listener.router->match(exchange_, tried);
    if (route == nullptr) {
      add_refusal(Reason::kNoRoute);
    } else {
      exchange_.route = route;
      report_.set_route(route->name);
      report_.add(0, "route", route->name, place(*route->section, route->origin));
      add_match(tried.back());
      const BodyLength& body = exchange_.request.facts.body;
      if (body.kind == BodyLength::Kind::kLength && body.length > route->conf->body_max.count) {
        add_refusal(Reason::kBodyTooLarge);
      } else {
        add_handling(*route);
      }
    }
    add_near_misses(listener, route, tried);
  }

  // By what the route was found.
  void add_match(const RouteCandidate& taken) {
    const ConfigSection& section = *taken.route->section;
    const RouteConf& conf = *taken.route->conf;
    add_host(taken);
    if (taken.path == nullptr) {
      report_.add(1, "path", "any");
    } else {
      const auto entry = static_cast<size_t>(taken.path - conf.path.data());
      report_.add(1, "path", ValueType<PathPattern>::format(*taken.path),
                  place(section, section.origin_of(kRouteTable, "path", entry)));
    }
    for (size_t i = 0; i < exchange_.capture_count; ++i) {
      const PathCapture& capture = exchange_.captures[i];
      report_.add(2, "capture", fmt::format("{} = {}", capture.name, capture.value));
    }
    if (!conf.method.empty()) {
      std::string names;
      for (const MethodName& method : conf.method)
        names += (names.empty() ? "" : " ") + method.name;
      report_.add(1, "method", names, place(section, section.origin_of(kRouteTable, "method")));
    }
    for (size_t i = 0; i < conf.header.size(); ++i) {
      report_.add(1, "header", ValueType<FieldCondition>::format(conf.header[i]),
                  place(section, section.origin_of(kRouteTable, "header", i)));
    }
    for (size_t i = 0; i < conf.query.size(); ++i) {
      report_.add(1, "query", ValueType<QueryCondition>::format(conf.query[i]),
                  place(section, section.origin_of(kRouteTable, "query", i)));
    }
  }

  void add_host(const RouteCandidate& taken) {
    if (taken.host == nullptr) {
      report_.add(1, "host", "any");
      return;
    }
    const ConfigSection& section = *taken.route->section;
    const auto entry = static_cast<size_t>(taken.host - taken.route->conf->host.data());
    report_.add(1, "host", ValueType<HostPattern>::format(*taken.host),
                place(section, section.origin_of(kRouteTable, "host", entry)));
  }

  void add_hook(std::string_view phase, const Hook& hook, const ConfigSection& section) {
    // A module may add several: the directive tells which.
    std::string what = fmt::format("{} {}", phase, hook.name);
    if (!hook.key.empty() && hook.key != hook.name) what += fmt::format(" ({})", hook.key);
    if (!hook.detail.empty()) what += fmt::format(": {}", hook.detail);
    report_.add(0, "hook", what, place(section, hook.origin));
  }

  void add_handling(const Route& route) {
    const ConfigSection& section = *route.section;
    for (size_t i = 0; i < route.before.size(); ++i) {
      add_hook(phase_name(route.before_phases[i]), route.before[i], section);
    }
    report_.add(0, "action",
                fmt::format("{}{}{}", route.action.name, route.action.detail.empty() ? "" : " ",
                            route.action.detail),
                place(section, route.action.origin));
    report_.set_action(route.action.name);
    if (route.split != nullptr) add_split(*route.split, section);
    for (const auto& upstream : generation_.upstreams()) {
      if (upstream.get() == route.action.state) add_upstream(*upstream, section);
    }
    for (const Hook& hook : route.respond) add_hook("respond", hook, section);
    for (const Hook& hook : route.log) add_hook("log", hook, section);
  }

  // Each side with what sends requests there, and then its targets.
  void add_split(const UpstreamSplit& split, const ConfigSection& section) {
    const SplitSide* const taker = split.side_by_condition(exchange_.request.fields);
    const auto& sides = split.conf().sides;
    for (size_t i = 0; i < sides.size(); ++i) {
      std::string text = sides[i].upstream;
      if (sides[i].condition) {
        text += " if " + ValueType<SplitCondition>::format(*sides[i].condition);
        text += &sides[i] == taker ? " (holds: takes the request)" : "";
      } else {
        text += sides[i].share ? " " + ValueType<Percent>::format(*sides[i].share) : " the rest";
        text += taker != nullptr ? " (not asked)" : "";
      }
      report_.add(1, "side", text, place(section, section.origin_of(kRouteTable, "upstream")));
    }
    if (!split.conf().cookie.empty()) report_.add(1, "sticky", "cookie " + split.conf().cookie);
    if (const SplitCanary* canary = split.canary()) {
      report_.add(1, "canary",
                  fmt::format("{}: the agent sets the share of {} (gatehouse canary list)",
                              canary->section->name(), canary->fresh->name),
                  place(*canary->section, canary->section->origin()));
    }
    std::vector<const Upstream*> shown;
    for (const Upstream* upstream : split.upstreams()) {
      if (std::find(shown.begin(), shown.end(), upstream) != shown.end()) continue;
      shown.push_back(upstream);
      add_upstream(*upstream, section);
    }
  }

  void add_upstream(const Upstream& upstream, const ConfigSection& section) {
    if (!upstream.is_inline) {
      report_.add(1, "upstream", upstream.name, place(section, upstream.origin));
    }
    for (const UpstreamTarget& target : upstream.configured.targets) {
      std::string text = target.address_text;
      if (target.transport != nullptr && target.transport->tls != nullptr) text = "https://" + text;
      if (target.weight != 1) text += fmt::format(" weight {}", target.weight);
      if (!target.resolved) text += " (its name is resolved when the gateway starts)";
      report_.add(2, "target", text, place(section, target.origin));
    }
    add_settings(upstream);
  }

  // How the upstream chooses, checks, and what it does about failures, as far as somebody said so.
  void add_settings(const Upstream& upstream) {
    const Config& config = generation_.config();
    const ConfigSection* own = config.find("upstream", upstream.name);
    const ConfigSection& section =
        upstream.is_inline || own == nullptr ? config.defaults("upstream") : *own;
    constexpr std::string_view kChoice[] = {"protocol", "balance",       "max_connections",
                                            "queue",    "queue_timeout", "slow_start",
                                            "eject",    "panic"};
    for (const std::string_view key : kChoice) {
      add_setting(section, kUpstreamTable, key, upstream.conf);
    }
    const auto& tls = section.get<UpstreamTlsConf>(kUpstreamTlsTable);
    for (const Directive& directive : kUpstreamTlsTable.directives) {
      add_setting(section, kUpstreamTlsTable, directive.name, &tls);
    }
    const auto& health = section.get<UpstreamHealthConf>(kUpstreamHealthTable);
    for (const Directive& directive : kUpstreamHealthTable.directives) {
      add_setting(section, kUpstreamHealthTable, directive.name, &health);
    }
    if (upstream.policy == nullptr) return;
    for (const Directive& directive : kUpstreamPolicyTable.directives) {
      add_setting(section, kUpstreamPolicyTable, directive.name, upstream.policy->conf);
    }
  }

  void add_setting(const ConfigSection& section, const DirectiveTable& table, std::string_view key,
                   const void* conf) {
    for (const Directive& directive : table.directives) {
      if (directive.name != key || !section.is_set(table, key)) continue;
      for (const std::string& text : directive.show(conf)) {
        report_.add(2, key, text, place(section, section.origin_of(table, key)));
      }
    }
  }

  static std::string_view phase_name(Phase phase) {
    constexpr std::string_view kNames[] = {"identify", "authenticate", "admit",
                                           "rewrite",  "respond",      "log"};
    static_assert(sizeof kNames / sizeof kNames[0] == kPhases);
    return kNames[static_cast<size_t>(phase)];
  }

  void add_near_misses(const Listener& listener, const Route* taken,
                       const std::vector<RouteCandidate>& tried) {
    size_t left = kNearMisses;
    for (const RouteCandidate& candidate : tried) {
      if (candidate.outcome == RouteCandidate::Outcome::kTaken) continue;
      if (left == 0) break;
      --left;
      add_miss(*candidate.route, why_not(candidate));
    }
    if (taken != nullptr) return;
    // Nothing took the request: which routes there are helps to see why.
    for (const Route* route : listener.router->routes()) {
      const bool was_tried =
          std::any_of(tried.begin(), tried.end(),
                      [route](const auto& candidate) { return candidate.route == route; });
      if (was_tried) continue;
      if (left == 0) break;
      --left;
      add_miss(*route, why_never_tried(*route));
    }
  }

  void add_miss(const Route& route, const std::string& why) {
    report_.add(0, "not taken", route.name + ": " + why, place(*route.section, route.origin));
  }

  static std::string why_not(const RouteCandidate& candidate) {
    using Outcome = RouteCandidate::Outcome;
    const RouteConf& conf = *candidate.route->conf;
    switch (candidate.outcome) {
      case Outcome::kTaken:
        break;
      case Outcome::kMethod:
        return "another method";
      case Outcome::kHeader:
        return "header " + ValueType<FieldCondition>::format(conf.header[candidate.index]) +
               " does not hold";
      case Outcome::kQuery:
        return "query " + ValueType<QueryCondition>::format(conf.query[candidate.index]) +
               " does not hold";
      case Outcome::kRegex:
        return "path " + ValueType<PathPattern>::format(*candidate.path) + " does not match";
      case Outcome::kRegexLimit:
        return "path " + ValueType<PathPattern>::format(*candidate.path) +
               " gave up: too many steps";
    }
    return {};
  }

  // The router has ruled out host or path; which of them, the patterns themselves tell.
  std::string why_never_tried(const Route& route) const {
    const RouteConf& conf = *route.conf;
    const std::string_view host = exchange_.request.authority.host;
    const bool host_fits =
        conf.host.empty() || std::any_of(conf.host.begin(), conf.host.end(),
                                         [host](const HostPattern& p) { return p.matches(host); });
    std::string patterns;
    if (!host_fits) {
      for (const HostPattern& pattern : conf.host) {
        patterns += " " + ValueType<HostPattern>::format(pattern);
      }
      return "host" + patterns + " does not match";
    }
    for (const PathPattern& pattern : conf.path) {
      patterns += " " + ValueType<PathPattern>::format(pattern);
    }
    return "path" + patterns + " does not match";
  }

  const Generation& generation_;
  const ExplainRequest& request_;
  Exchange exchange_;
  ExplainReport report_;
};

}  // namespace

Result<std::string> explain(const Generation& generation, const ExplainRequest& request) {
  return Explanation(generation, request).run();
}

}  // namespace gatehouse
