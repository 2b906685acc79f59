// The directive tables of [listener] and [route] as far as HTTP itself goes.
#include "http/route_conf.h"

#include <algorithm>

namespace gatehouse {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Directive kListenerDirectives[] = {
    directive<&ListenerConf::trusted_proxy>(
        "trusted_proxy",
        "Addresses of proxies in front of the gateway, whose X-Forwarded-* and Forwarded fields "
        "are believed; the client is found by walking them from the right.",
        "10.0.0.0/8 2001:db8::/32"),
    directive<&ListenerConf::header_timeout>("header_timeout",
                                             "Time a client has to send a whole request head.",
                                             "10s", range(milliseconds(1), hours(1))),
    directive<&ListenerConf::keepalive_timeout>(
        "keepalive_timeout", "How long a client connection may rest between two requests.", "75s",
        range(milliseconds(1), hours(24))),
    directive<&ListenerConf::keepalive_requests>(
        "keepalive_requests", "Requests served over one client connection; 0 means no cap.",
        "10000", expects("a number; 0 means no cap")),
    directive<&ListenerConf::write_timeout>("write_timeout",
                                            "How long a client may take no byte of a response.",
                                            "30s", range(milliseconds(1), hours(24))),
    directive<&ListenerConf::half_close_timeout>(
        "half_close_timeout",
        "How long a request whose client has ended its sending side goes on while nothing is "
        "sent to it; then the client counts as gone.",
        "1s", range(milliseconds(1), hours(1))),
    directive<&ListenerConf::linger_timeout>(
        "linger_timeout",
        "How long a connection that is being closed waits for the client's end while unread bytes "
        "arrive.",
        "2s", range(milliseconds(1), seconds(60))),
    directive<&ListenerConf::head_max>("head_max", "Largest request head.", "32k",
                                       range(1_KiB, 60_KiB)),
    directive<&ListenerConf::fields_max>("fields_max", "Most field lines in a request head.", "100",
                                         range(1, 1000)),
    directive<&ListenerConf::target_max>("target_max", "Longest request target.", "8k",
                                         range(Bytes{64}, 60_KiB)),
    directive<&ListenerConf::http2>(
        "http2",
        "Whether clients may speak HTTP/2: over TLS where they agree on it (ALPN), otherwise where "
        "they begin with it.",
        "off"),
    directive<&ListenerConf::proxy_protocol>(
        "proxy_protocol",
        "Connections begin with a PROXY header, version 1 or 2, by which a proxy in front says who "
        "its client is. Only addresses in trusted_proxy are let in then.",
        "on"),
};

constexpr Directive kRouteDirectives[] = {
    directive<&RouteConf::listener>(
        "listener", "Listeners the route belongs to; all of them where none is named.", "public",
        DirectiveFlag::kWords, expects("the names of [listener] sections")),
    directive<&RouteConf::host>("host", "Hosts the route answers for.", "example.com *.example.com",
                                DirectiveFlag::kNotInherited),
    directive<&RouteConf::path>("path", "Paths the route answers for; one pattern a line.",
                                "/v1/users/{id}", DirectiveFlag::kNotInherited),
    directive<&RouteConf::method>("method", "Methods the route answers for.", "GET HEAD",
                                  DirectiveFlag::kNotInherited),
    directive<&RouteConf::header>("header", "A field that the request must have.", "X-Version: 2",
                                  DirectiveFlag::kNotInherited),
    directive<&RouteConf::query>("query", "A query parameter that the request must have.",
                                 "debug=1", DirectiveFlag::kNotInherited),
    directive<&RouteConf::grpc>(
        "grpc",
        "gRPC calls the route answers for, in the place of path and method. Their deadlines "
        "(grpc-timeout) are kept, and their status is counted. Unless said otherwise here or in "
        "[defaults], their bodies have no largest size (body_max) and may rest for idle_timeout "
        "(body_timeout).",
        "helloworld.Greeter users.v1.Users/Find", DirectiveFlag::kNotInherited),
    directive<&RouteConf::upstream>(
        "upstream",
        "Where the request goes: the name of an [upstream], or the URL of one server. Several "
        "stand between commas, each with its share (together 100%), or with a condition: if "
        "header NAME, if header NAME: VALUE, if cookie NAME, if cookie NAME=VALUE; conditions "
        "are looked at first, in their order. Each request is dealt anew; with sticky cookie "
        "NAME at the end a client stays where it is, by a cookie of the gateway, and moves only "
        "to an upstream whose share has grown. Where the chosen one has no target, no other is "
        "asked, save as its fallback says.",
        "users 95%, users_next 5%, users_next if header X-Beta: 1 sticky cookie side",
        DirectiveFlag::kNotInherited),
    directive<&RouteConf::sticky_secret>(
        "sticky_secret",
        "What the values of the cookie of sticky are made with: the same in several gateways, they "
        "know each other's. At least 16 random bytes are hard to guess. Without one they are good "
        "until the next restart (not reload).",
        "3f0a91c7e5d24b8860aa", DirectiveFlag::kSecret),
    directive<&RouteConf::body_max>("body_max", "Largest request body.", "8m",
                                    range(Bytes{0}, Bytes{uint64_t{1} << 50})),
    directive<&RouteConf::body_timeout>("body_timeout",
                                        "How long a client may send no byte of a body.", "30s",
                                        range(milliseconds(1), hours(24))),
    directive<&RouteConf::idle_timeout>(
        "idle_timeout", "How long a tunnel (WebSocket) may move no byte either way.", "1h",
        range(milliseconds(1), hours(24 * 30))),
};

constexpr DirectiveTable kListenerHttp =
    directive_table<ListenerConf>("listener", kListenerDirectives);
void check_route(const RouteConf& conf, SectionErrors& errors) {
  if (conf.grpc.empty()) return;
  constexpr std::string_view kProblem = "grpc says already which requests are meant";
  if (!conf.path.empty()) errors.add("path", std::string(kProblem), "expected: one of both");
  if (!conf.method.empty()) errors.add("method", std::string(kProblem), "expected: one of both");
}

constexpr DirectiveTable kRoute =
    directive_table<RouteConf, &check_route>("route", kRouteDirectives);

}  // namespace

constinit const DirectiveTable kListenerTable = kListenerHttp;
constinit const DirectiveTable kRouteTable = kRoute;

Result<NetworkPrefix> ValueType<NetworkPrefix>::parse(std::string_view text) {
  Result<NetworkPrefix> parsed = NetworkPrefix::parse(text);
  if (parsed) return parsed;
  // What was expected is said by whoever reports the error, too.
  std::string message = unquoted(parsed.error(), text);
  message.resize(std::min(message.size(), message.find(": expected")));
  return Error{std::move(message)};
}
std::string ValueType<NetworkPrefix>::format(const NetworkPrefix& prefix) {
  return prefix.format();
}
std::string ValueType<NetworkPrefix>::expected() {
  return "an address or a network such as 10.0.0.0/8";
}

}  // namespace gatehouse
