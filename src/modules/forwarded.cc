// Forwarded: who the client is, and what upstreams are told about it.
//
//   [listener public]
//   trusted_proxy = 10.0.0.0/8
//   [route app]
//   forwarded = x rfc7239
//
// The trusted-proxy rule: a connection from an address in trusted_proxy may say for whom it asks.
// X-Forwarded-For is walked from the right, past trusted addresses, and the first address that is
// not trusted is the client; everything to its left was written by strangers. From any other peer
// such fields are a claim of the client about itself: they are dropped and never reach an
// upstream. X-Forwarded-Proto and -Host are believed of a trusted peer and nobody else.
//
// Upstreams are told in the X-Forwarded-* fields, in Forwarded (RFC 7239), in both or not at all,
// and by Via (RFC 9110 §7.6.3) that the request came through a gateway.
//
// Nothing is shared and nothing can fill up. Names in Forwarded ("_hidden", "unknown") are not
// addresses: the walk ends before them.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "http/module.h"
#include "http/route.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

enum class ForwardedStyle : uint8_t { kOff, kX, kRfc7239 };

}  // namespace

constexpr EnumName<ForwardedStyle> kForwardedStyles[] = {
    {ForwardedStyle::kOff, "off"},
    {ForwardedStyle::kX, "x"},
    {ForwardedStyle::kRfc7239, "rfc7239"},
};
template <>
struct ValueType<ForwardedStyle> : EnumValueType<ForwardedStyle, kForwardedStyles> {
  static constexpr bool kWord = true;
};

namespace {

struct ForwardedConf {
  std::vector<ForwardedStyle> forwarded = {ForwardedStyle::kX};
  bool via = true;
};

bool is_trusted(const std::vector<NetworkPrefix>& trusted, const IpAddress& address) {
  for (const NetworkPrefix& prefix : trusted) {
    if (prefix.contains(address)) return true;
  }
  return false;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The address of one X-Forwarded-For element or `for=` value: plain, with a port, in brackets or
// quotes. None where it is not an address.
IpAddress element_address(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return {};
    return IpAddress::parse(text.substr(1, end - 1)).value_or(IpAddress());
  }
  // One colon is IPv4 with a port, more are IPv6.
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos) {
    text = text.substr(0, colon);
  }
  return IpAddress::parse(text).value_or(IpAddress());
}

// The last element before `end` of a list; moves `end` to before it.
std::string_view last_element(std::string_view list, size_t& end) {
  const size_t comma = end == 0 ? std::string_view::npos : list.rfind(',', end - 1);
  const size_t begin = comma == std::string_view::npos ? 0 : comma + 1;
  const std::string_view element = list.substr(begin, end - begin);
  end = comma == std::string_view::npos ? std::string_view::npos : comma;
  return element;
}

// Walks the X-Forwarded-For fields from the right. `client` begins as the peer.
IpAddress walk_forwarded_for(const FieldList& fields, const std::vector<NetworkPrefix>& trusted,
                             IpAddress client) {
  for (size_t i = fields.size(); i-- > 0;) {
    const Field& field = fields[i];
    if (field.id != FieldId::kXForwardedFor) continue;
    size_t end = field.value.size();
    while (end != std::string_view::npos) {
      const IpAddress address = element_address(last_element(field.value, end));
      if (address.is_none()) return client;
      client = address;
      if (!is_trusted(trusted, client)) return client;
    }
  }
  return client;
}

constexpr FieldId kClaims[] = {FieldId::kForwarded,       FieldId::kXForwardedFor,
                               FieldId::kXForwardedProto, FieldId::kXForwardedHost,
                               FieldId::kXForwardedPort,  FieldId::kXForwardedPrefix,
                               FieldId::kXForwardedSsl,   FieldId::kXRealIp};

constexpr uint64_t kAnyClaim = [] {
  uint64_t bits = 0;
  for (const FieldId claim : kClaims) bits |= uint64_t{1} << static_cast<unsigned>(claim);
  return bits;
}();

Verdict identify(Exchange& exchange, const void*) {
  const std::vector<NetworkPrefix>& trusted = exchange.listener->conf->trusted_proxy;
  FieldList& fields = exchange.request.fields;
  if (!trusted.empty() && is_trusted(trusted, exchange.peer)) {
    exchange.peer_trusted = true;
    exchange.client_address = walk_forwarded_for(fields, trusted, exchange.peer);
    const Field* proto = fields.find(FieldId::kXForwardedProto);
    if (proto != nullptr) exchange.client_https = equal_ignoring_case(proto->value, "https");
  } else if (fields.has_any(kAnyClaim)) {
    for (const FieldId claim : kClaims) fields.drop(claim);
  }
  char* text = exchange.arena.bytes(IpAddress::kTextMax);
  exchange.client_text = exchange.client_address.write(
      std::span<char, IpAddress::kTextMax>(text, IpAddress::kTextMax));
  return Verdict::kContinue;
}

// Joins what earlier trusted proxies wrote under that name with `own`; drops their fields.
std::string_view append_to_list(Exchange& exchange, FieldId id, std::string_view own) {
  std::string_view list;
  for (Field& field : exchange.request.fields) {
    if (field.id != id || field.dropped) continue;
    list = list.empty() ? field.value : exchange.arena.concat(list, ", ", field.value);
    field.dropped = true;
  }
  return list.empty() ? own : exchange.arena.concat(list, ", ", own);
}

std::string_view peer_text(Exchange& exchange) {
  if (!exchange.peer_trusted) return exchange.client_text;
  char* text = exchange.arena.bytes(IpAddress::kTextMax);
  return exchange.peer.write(std::span<char, IpAddress::kTextMax>(text, IpAddress::kTextMax));
}

Verdict tell_in_x(Exchange& exchange, const void*) {
  Request& request = exchange.request;
  const std::string_view peer = peer_text(exchange);
  if (!peer.empty()) {
    request.added.push(Field{"X-Forwarded-For",
                             append_to_list(exchange, FieldId::kXForwardedFor, peer),
                             FieldId::kXForwardedFor, false});
  }
  // A trusted proxy's word about scheme and host stands.
  if (!exchange.peer_trusted || !request.fields.has(FieldId::kXForwardedProto)) {
    static constexpr Field kHttp =
        literal_field(FieldId::kXForwardedProto, "X-Forwarded-Proto: http\r\n");
    static constexpr Field kHttps =
        literal_field(FieldId::kXForwardedProto, "X-Forwarded-Proto: https\r\n");
    request.added.push(exchange.client_https ? kHttps : kHttp);
  }
  if (!request.authority.text.empty() &&
      (!exchange.peer_trusted || !request.fields.has(FieldId::kXForwardedHost))) {
    request.added.push(
        Field{"X-Forwarded-Host", request.authority.text, FieldId::kXForwardedHost, false});
  }
  return Verdict::kContinue;
}

// for=192.0.2.1;host="example.com:8080";proto=http (RFC 7239 §4): IPv6 and whatever holds a colon
// is quoted.
Verdict tell_in_rfc7239(Exchange& exchange, const void*) {
  Request& request = exchange.request;
  const std::string_view peer = peer_text(exchange);
  std::string text = "for=";
  if (peer.empty()) {
    text += "unknown";
  } else if (exchange.peer.is_v6()) {
    text.append("\"[").append(peer).append("]\"");
  } else {
    text += peer;
  }
  if (!request.authority.text.empty()) {
    text.append(";host=\"").append(request.authority.text).append("\"");
  }
  text.append(";proto=").append(exchange.client_https ? "https" : "http");
  const std::string_view own = exchange.arena.copy(text);
  request.added.push(Field{"Forwarded", append_to_list(exchange, FieldId::kForwarded, own),
                           FieldId::kForwarded, false});
  return Verdict::kContinue;
}

Verdict tell_via(Exchange& exchange, const void*) {
  // A list field: one more line is one more element, after those that came.
  static constexpr Field kOld = literal_field(FieldId::kVia, "Via: 1.0 gatehouse\r\n");
  static constexpr Field kNow = literal_field(FieldId::kVia, "Via: 1.1 gatehouse\r\n");
  static constexpr Field kTwo = literal_field(FieldId::kVia, "Via: 2.0 gatehouse\r\n");
  const RequestHead& head = exchange.request.head;
  exchange.request.added.push(head.major_version == 2   ? kTwo
                              : head.minor_version == 0 ? kOld
                                                        : kNow);
  return Verdict::kContinue;
}

constexpr Directive kDirectives[] = {
    directive<&ForwardedConf::forwarded>(
        "forwarded",
        "How upstreams are told about the client: x for the X-Forwarded-* fields, rfc7239 for "
        "Forwarded, both, or off.",
        "x rfc7239"),
    directive<&ForwardedConf::via>(
        "via", "Adds a Via field to requests, as RFC 9110 asks of every gateway.", "off"),
};

void check(const ForwardedConf& conf, SectionErrors& errors) {
  for (size_t i = 0; i < conf.forwarded.size(); ++i) {
    const auto before = conf.forwarded.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(conf.forwarded.begin(), before, conf.forwarded[i]) != before) {
      errors.add("forwarded", "given twice", {}, i);
    } else if (conf.forwarded[i] == ForwardedStyle::kOff && conf.forwarded.size() > 1) {
      errors.add("forwarded", "off stands beside another word", "expected: off alone, or x rfc7239",
                 i);
    }
  }
}

constexpr DirectiveTable kTable = directive_table<ForwardedConf, &check>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  const ForwardedConf& conf = builder.section().get<ForwardedConf>(kTable);
  builder.add_hook(Phase::kIdentify, &identify, nullptr, kTable, {});
  for (const ForwardedStyle style : conf.forwarded) {
    if (style == ForwardedStyle::kX) {
      builder.add_hook(Phase::kRewrite, &tell_in_x, nullptr, kTable, "forwarded");
    } else if (style == ForwardedStyle::kRfc7239) {
      builder.add_hook(Phase::kRewrite, &tell_in_rfc7239, nullptr, kTable, "forwarded");
    }
  }
  if (conf.via) builder.add_hook(Phase::kRewrite, &tell_via, nullptr, kTable, "via");
  return {};
}

}  // namespace

constinit const Module kForwardedModule = {"forwarded", kTables, &compile};

}  // namespace gatehouse
