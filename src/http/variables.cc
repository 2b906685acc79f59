// The values of $variables; see variables.h.
#include "http/variables.h"

#include <ctime>
#include <vector>

#include "core/config_errors.h"
#include "core/format.h"
#include "core/tls_peer.h"
#include "http/client_connection.h"
#include "http/cookie.h"
#include "http/exchange.h"
#include "http/grpc.h"
#include "http/route.h"
#include "http/route_match.h"
#include "http/upstream.h"

namespace gatehouse {

namespace {

constexpr VariableInfo kVariables[] = {
#define GATEHOUSE_VARIABLE_INFO(id, name, meaning, number) {VariableId::id, name, meaning, number},
    GATEHOUSE_VARIABLES(GATEHOUSE_VARIABLE_INFO)
#undef GATEHOUSE_VARIABLE_INFO
};

struct WorkerName {
  std::string pool;
  std::string index;
};
WorkerName& worker_name() {
  static WorkerName name;
  return name;
}

void append_number(uint64_t number, TextBuffer& out) {
  const fmt::format_int text(number);
  out.append(text.data(), text.data() + text.size());
}

// Microseconds as seconds: "0.000412".
void append_seconds(int64_t us, TextBuffer& out) {
  const uint64_t whole = us < 0 ? 0 : static_cast<uint64_t>(us);
  append_number(whole / 1'000'000, out);
  char fraction[7] = {'.'};
  uint64_t rest = whole % 1'000'000;
  for (int i = 6; i > 0; --i, rest /= 10) fraction[i] = static_cast<char>('0' + rest % 10);
  out.append(fraction, fraction + sizeof fraction);
}

// Nothing where one of the moments has not come.
void append_span(Moment from, Moment to, TextBuffer& out) {
  if (from.us == 0 || to.us == 0) return;
  append_seconds((to - from).count(), out);
}

// The date's texts change once a second; strftime is too slow to run for each line.
struct Clock {
  time_t second = -1;
  char iso8601[32] = {};
  char combined[40] = {};
  size_t iso8601_size = 0;
  size_t combined_size = 0;
  unsigned ms = 0;

  void read() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    ms = static_cast<unsigned>(now.tv_nsec / 1'000'000);
    if (now.tv_sec == second) return;
    second = now.tv_sec;
    tm parts{};
    gmtime_r(&second, &parts);
    iso8601_size = strftime(iso8601, sizeof iso8601, "%Y-%m-%dT%H:%M:%S", &parts);
    // Not %b: months are English whatever the locale is.
    constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const std::string_view month = kMonths.substr(static_cast<size_t>(parts.tm_mon) * 3, 3);
    const auto end = fmt::format_to_n(
        combined, sizeof combined, "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000", parts.tm_mday, month,
        parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
    combined_size = std::min(end.size, sizeof combined);
  }
};

const Clock& read_clock() {
  thread_local Clock clock;
  clock.read();
  return clock;
}

void append_ms(unsigned ms, TextBuffer& out) {
  fmt::format_to(fmt::appender(out), ".{:03}", ms);
}

void append_address(const IpAddress& address, TextBuffer& out) {
  char text[IpAddress::kTextMax];
  append_text(out, address.write(text));
}

void append_field(const FieldList& fields, const Variable& variable, TextBuffer& out) {
  const Field* field =
      variable.field == FieldId::kOther ? fields.find(variable.name) : fields.find(variable.field);
  if (field != nullptr) append_text(out, field->value);
}

std::string_view protocol_text(const RequestHead& head) {
  if (head.major_version == 2) return "HTTP/2.0";
  return head.minor_version == 0 ? "HTTP/1.0" : "HTTP/1.1";
}

void append_request_line(const RequestHead& head, TextBuffer& out) {
  if (head.method.empty()) return;
  append_text(out, head.method);
  out.push_back(' ');
  append_text(out, head.target);
  append_text(out, " ");
  append_text(out, protocol_text(head));
}

// The name of a target is its upstream's, a slash and its address.
std::string_view upstream_name(const UpstreamTarget& target) {
  const size_t tail = target.address_text.size() + 1;
  if (target.name.size() <= tail) return target.name;
  return std::string_view(target.name).substr(0, target.name.size() - tail);
}

void append_status(const Exchange& exchange, TextBuffer& out) {
  // A client that went away got no status; logs say 499 then.
  const uint16_t status = exchange.response.status != 0 ? exchange.response.status
                                                        : reason_info(exchange.reason).status;
  if (status != 0) append_number(status, out);
}

void append_tls(VariableId id, const Exchange& exchange, TextBuffer& out) {
  const TlsLayer* tls =
      exchange.connection != nullptr ? exchange.connection->stream().tls() : nullptr;
  if (tls == nullptr) return;
  const auto append_peer = [&](TlsPeerFact fact) { append_text(out, tls_peer_text(*tls, fact)); };
  switch (id) {
    case VariableId::kTlsVersion:
      return append_text(out, tls->version());
    case VariableId::kTlsCipher:
      return append_text(out, tls->cipher());
    case VariableId::kTlsServerName:
      return append_text(out, tls->server_name());
    case VariableId::kTlsProtocol:
      return append_text(out, tls->alpn());
    case VariableId::kTlsResumed:
      return append_text(out, tls->resumed() ? "yes" : "no");
    case VariableId::kTlsEarlyData:
      return append_text(out, exchange.early_data ? "1" : "");
    case VariableId::kTlsClientVerified:
      return append_text(out, tls_peer_has_certificate(*tls) ? "yes" : "no");
    case VariableId::kTlsClientSubject:
      return append_peer(TlsPeerFact::kSubject);
    case VariableId::kTlsClientIssuer:
      return append_peer(TlsPeerFact::kIssuer);
    case VariableId::kTlsClientSerial:
      return append_peer(TlsPeerFact::kSerial);
    case VariableId::kTlsClientFingerprint:
      return append_peer(TlsPeerFact::kFingerprint);
    case VariableId::kTlsClientSan:
      return append_peer(TlsPeerFact::kNames);
    case VariableId::kTlsClientNotAfter:
      return append_peer(TlsPeerFact::kNotAfter);
    default:
      return;
  }
}

void append_proxy_variable(VariableId id, const Exchange& exchange, TextBuffer& out) {
  if (exchange.connection == nullptr || exchange.connection->proxy == nullptr) return;
  const ProxyHeader& header = *exchange.connection->proxy;
  if (id == VariableId::kProxyAuthority) {
    append_text(out, header.authority);
  } else if (id == VariableId::kProxyUniqueId) {
    append_text(out, header.unique_id);
  } else if (id == VariableId::kProxyTlsVersion) {
    append_text(out, header.tls.version);
  } else if (id == VariableId::kProxyTlsCipher) {
    append_text(out, header.tls.cipher);
  } else if (header.tls.verified) {
    append_text(out, header.tls.common_name);
  }
}

bool takes_name(VariableId id) {
  return kVariables[static_cast<size_t>(id)].name.ends_with('_');
}

}  // namespace

std::span<const VariableInfo> variable_list() {
  return kVariables;
}

Result<Variable> parse_variable(std::string_view name) {
  for (const VariableInfo& info : kVariables) {
    if (info.name == name && !takes_name(info.id)) return Variable{info.id, {}, FieldId::kOther};
  }
  for (const VariableInfo& info : kVariables) {
    if (!takes_name(info.id) || !name.starts_with(info.name)) continue;
    std::string rest(name.substr(info.name.size()));
    if (rest.empty()) return Error{"$" + std::string(name) + " needs a name after it"};
    Variable variable{info.id, std::move(rest), FieldId::kOther};
    if (info.id == VariableId::kHeader || info.id == VariableId::kResponseHeader) {
      for (char& c : variable.name) {
        if (c == '_') c = '-';
      }
      variable.field = field_id(variable.name);
    }
    return variable;
  }
  std::vector<std::string_view> names;
  for (const VariableInfo& info : kVariables) names.push_back(info.name);
  const std::string_view nearest = nearest_word(name, names);
  std::string problem = "unknown variable $" + std::string(name);
  if (!nearest.empty()) {
    problem += ", did you mean $" + std::string(nearest) + "?";
  } else {
    problem += " (a dollar is written $$)";
  }
  return Error{std::move(problem)};
}

void append_variable(const Variable& variable, const Exchange& exchange, TextBuffer& out) {
  const Request& request = exchange.request;
  const ExchangeTimes& times = exchange.times;
  switch (variable.id) {
    case VariableId::kClientAddress:
      if (exchange.client_text.empty()) {
        append_address(exchange.client_address, out);
      } else {
        append_text(out, exchange.client_text);
      }
      break;
    case VariableId::kClientPort:
      if (exchange.client_address == exchange.peer && exchange.peer_port != 0) {
        append_number(exchange.peer_port, out);
      }
      break;
    case VariableId::kPeerAddress:
      append_address(exchange.peer, out);
      break;
    case VariableId::kMethod:
      append_text(out, request.head.method);
      break;
    case VariableId::kHost:
      append_text(out, request.authority.host);
      break;
    case VariableId::kPath:
      append_text(out, request.target.path);
      break;
    case VariableId::kQuery:
      append_text(out, request.target.query);
      break;
    case VariableId::kUri:
      append_text(out, request.target.wire);
      break;
    case VariableId::kRawTarget:
      append_text(out, request.head.target);
      break;
    case VariableId::kScheme:
      append_text(out, exchange.client_https ? "https" : "http");
      break;
    case VariableId::kProtocol:
      append_text(out, protocol_text(request.head));
      break;
    case VariableId::kRequestLine:
      append_request_line(request.head, out);
      break;
    case VariableId::kStatus:
      append_status(exchange, out);
      break;
    case VariableId::kReason:
      append_text(out, reason_info(exchange.reason).code);
      break;
    case VariableId::kRequestId:
      append_text(out, exchange.request_id);
      break;
    case VariableId::kRoute:
      if (exchange.route != nullptr) append_text(out, exchange.route->name);
      break;
    case VariableId::kListener:
      if (exchange.listener != nullptr) append_text(out, exchange.listener->name);
      break;
    case VariableId::kPool:
      append_text(out, worker_name().pool);
      break;
    case VariableId::kWorker:
      append_text(out, worker_name().index);
      break;
    case VariableId::kUpstream:
      if (exchange.target != nullptr) append_text(out, upstream_name(*exchange.target));
      break;
    case VariableId::kTarget:
      if (exchange.target != nullptr) append_text(out, exchange.target->address_text);
      break;
    case VariableId::kTries:
      append_number(exchange.tries, out);
      break;
    case VariableId::kBytesIn:
      append_number(request.body_bytes, out);
      break;
    case VariableId::kBytesOut:
      append_number(exchange.response.body_bytes, out);
      break;
    case VariableId::kUpstreamBytesIn:
      append_number(exchange.upstream_bytes_in, out);
      break;
    case VariableId::kUpstreamBytesOut:
      append_number(exchange.upstream_bytes_out, out);
      break;
    case VariableId::kDuration:
      append_span(times.started, times.finished, out);
      break;
    case VariableId::kUpstreamDuration:
      append_span(times.upstream_started, times.finished, out);
      break;
    case VariableId::kUpstreamConnectDuration:
      append_span(times.upstream_started, times.upstream_connected, out);
      break;
    case VariableId::kUpstreamHeadDuration:
      append_span(times.upstream_started, times.upstream_head, out);
      break;
    case VariableId::kGrpcService:
      if (exchange.grpc_status != kGrpcStatusNone) {
        append_text(out, parse_grpc_path(request.target.path).service);
      }
      break;
    case VariableId::kGrpcMethod:
      if (exchange.grpc_status != kGrpcStatusNone) {
        append_text(out, parse_grpc_path(request.target.path).method);
      }
      break;
    case VariableId::kGrpcStatus:
      if (exchange.grpc_status >= 0)
        append_number(static_cast<uint64_t>(exchange.grpc_status), out);
      break;
    case VariableId::kProxyAuthority:
    case VariableId::kProxyUniqueId:
    case VariableId::kProxyTlsVersion:
    case VariableId::kProxyTlsCipher:
    case VariableId::kProxyClientName:
      append_proxy_variable(variable.id, exchange, out);
      break;
    case VariableId::kTimeIso8601: {
      const Clock& clock = read_clock();
      append_text(out, {clock.iso8601, clock.iso8601_size});
      append_ms(clock.ms, out);
      out.push_back('Z');
      break;
    }
    case VariableId::kTimeUnix: {
      const Clock& clock = read_clock();
      append_number(static_cast<uint64_t>(clock.second), out);
      append_ms(clock.ms, out);
      break;
    }
    case VariableId::kTimeCombined: {
      const Clock& clock = read_clock();
      append_text(out, {clock.combined, clock.combined_size});
      break;
    }
    case VariableId::kTlsVersion:
    case VariableId::kTlsCipher:
    case VariableId::kTlsServerName:
    case VariableId::kTlsProtocol:
    case VariableId::kTlsResumed:
    case VariableId::kTlsEarlyData:
    case VariableId::kTlsClientVerified:
    case VariableId::kTlsClientSubject:
    case VariableId::kTlsClientIssuer:
    case VariableId::kTlsClientSerial:
    case VariableId::kTlsClientFingerprint:
    case VariableId::kTlsClientSan:
    case VariableId::kTlsClientNotAfter:
      append_tls(variable.id, exchange, out);
      break;
    case VariableId::kHeader:
      append_field(request.fields, variable, out);
      break;
    case VariableId::kResponseHeader: {
      const size_t before = out.size();
      append_field(exchange.response.added, variable, out);
      if (out.size() == before) append_field(exchange.response.fields, variable, out);
      break;
    }
    case VariableId::kQueryParameter: {
      std::string_view value;
      if (find_query_parameter(request.target.query, variable.name, value)) {
        append_text(out, value);
      }
      break;
    }
    case VariableId::kCookie:
      append_text(out, find_cookie(request.fields, variable.name).value_or(std::string_view()));
      break;
    case VariableId::kCapture:
      for (size_t i = 0; i < exchange.capture_count; ++i) {
        if (exchange.captures[i].name == variable.name) {
          append_text(out, exchange.captures[i].value);
        }
      }
      break;
  }
}

void set_variable_worker(std::string_view pool, uint32_t index) {
  worker_name() = {std::string(pool), std::to_string(index)};
}

}  // namespace gatehouse
