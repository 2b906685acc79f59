// Body length, connection persistence and hop-by-hop fields; see the header for the policy.
#include "http/body_framing.h"

#include <algorithm>
#include <limits>

#include "http/chars.h"

namespace gatehouse {
namespace {

// Names that a Connection field may nominate beyond the known ones. Each costs a pass over the
// fields, so that an endless list would be an endless computation.
constexpr size_t kNominatedMax = 32;

constexpr uint64_t kLengthMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

// 1*DIGIT without sign, space or list, no zeros in front (some programs read those as octal).
bool parse_length(std::string_view text, uint64_t& length) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
  uint64_t value = 0;
  for (const char c : text) {
    if (!chars::is(c, chars::kDigit)) return false;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (value > (kLengthMax - digit) / 10) return false;
    value = value * 10 + digit;
  }
  length = value;
  return true;
}

// What Content-Length and Transfer-Encoding say, whether or not the message may have a body.
Reason declared_length(const FieldList& fields, uint8_t minor_version, BodyLength& out) {
  const Field* const length = fields.find(FieldId::kContentLength);
  const Field* const coding = fields.find(FieldId::kTransferEncoding);
  out = BodyLength();
  if (length == nullptr && coding == nullptr) return Reason::kNone;
  if (length != nullptr && coding != nullptr) return Reason::kBothLengths;
  if (coding != nullptr) {
    if (fields.repeated(FieldId::kTransferEncoding) || minor_version == 0 ||
        !equal_ignoring_case(coding->value, "chunked")) {
      return Reason::kBadTransferEncoding;
    }
    out.kind = BodyLength::Kind::kChunked;
    return Reason::kNone;
  }
  if (fields.repeated(FieldId::kContentLength)) return Reason::kRepeatedLength;
  if (!parse_length(length->value, out.length)) return Reason::kBadLength;
  out.kind = BodyLength::Kind::kLength;
  return Reason::kNone;
}

// Calls `element` for each non-empty element of a comma-separated list (RFC 9110 §5.6.1); stops
// and returns false where it does.
template <typename Function>
bool each_element(std::string_view list, Function&& element) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view text = chars::trim(list.substr(0, comma));
    if (!text.empty() && !element(text)) return false;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return true;
}

// What the Connection fields say (RFC 9110 §7.6.1).
struct ConnectionOptions {
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;
  bool malformed = false;  // an element that is no token
  bool forbidden = false;  // nominates a field that frames or routes the message, or too many
};

ConnectionOptions read_connection(FieldList& fields) {
  ConnectionOptions options;
  if (!fields.has(FieldId::kConnection)) return options;
  size_t nominated = 0;
  const auto element = [&](std::string_view name) {
    if (!chars::is_token(name)) {
      options.malformed = true;
      return false;
    }
    const FieldId id = field_id(name);
    if (id == FieldId::kKeepAlive) options.keep_alive = true;
    if (id == FieldId::kUpgrade) options.upgrade = true;
    if (id != FieldId::kOther) {
      if (field_kind(id) == FieldKind::kFraming) options.forbidden = true;
      return !options.forbidden;
    }
    if (equal_ignoring_case(name, "close")) {
      options.close = true;
      return true;
    }
    if (++nominated > kNominatedMax) options.forbidden = true;
    for (Field& field : fields) {
      if (field.id == FieldId::kOther && equal_ignoring_case(field.name, name)) {
        field.dropped = true;
      }
    }
    return !options.forbidden;
  };
  for (const Field& field : fields) {
    if (field.id == FieldId::kConnection && !each_element(field.value, element)) break;
  }
  return options;
}

bool keeps_alive(const ConnectionOptions& options, uint8_t minor_version) {
  return !options.close && (minor_version != 0 || options.keep_alive);
}

void drop_own_fields(FieldList& fields) {
  constexpr uint64_t kMask = [] {
    uint64_t mask = 0;
#define GATEHOUSE_FIELD_BIT(name, spelling, kind)                                          \
  if (FieldKind::kind == FieldKind::kHopByHop || FieldKind::kind == FieldKind::kFraming) { \
    mask |= uint64_t{1} << static_cast<unsigned>(FieldId::name);                           \
  }
    GATEHOUSE_FIELDS(GATEHOUSE_FIELD_BIT)
#undef GATEHOUSE_FIELD_BIT
    return mask;
  }();
  for (Field& field : fields) {
    if ((kMask >> static_cast<unsigned>(field.id) & 1) != 0) field.dropped = true;
  }
}

// The single protocol of an Upgrade field; empty where it is none that may be tunnelled. HTTP
// over an upgraded connection (h2c) would carry requests past every rule of the gateway.
std::string_view upgrade_protocol(const FieldList& fields) {
  const Field* const upgrade = fields.find(FieldId::kUpgrade);
  if (upgrade == nullptr || fields.repeated(FieldId::kUpgrade)) return {};
  const std::string_view name = upgrade->value.substr(0, upgrade->value.find('/'));
  const std::string_view version =
      upgrade->value.substr(std::min(name.size() + 1, upgrade->value.size()));
  if (!chars::is_token(name) || !chars::all_of(version, chars::kToken)) return {};
  for (const std::string_view refused : {"h2c", "h2", "h3", "http", "tls"}) {
    if (equal_ignoring_case(name, refused)) return {};
  }
  return upgrade->value;
}

Reason read_host(const RequestHead& head, const FieldList& fields, const RequestTarget& target,
                 std::pmr::memory_resource& arena, RequestFacts& out) {
  const Field* const host = fields.find(FieldId::kHost);
  if (host == nullptr) {
    if (head.minor_version != 0) return Reason::kMissingHost;
  } else {
    if (fields.repeated(FieldId::kHost)) return Reason::kRepeatedHost;
    if (!parse_authority(host->value, arena, out.authority)) return Reason::kBadHost;
    out.has_authority = true;
  }
  if (target.has_authority) {  // RFC 9112 §3.2.2: the Host field counts no more
    out.authority = target.authority;
    out.has_authority = true;
  }
  return Reason::kNone;
}

// RFC 9110 §10.1.1
Reason read_expect(const RequestHead& head, FieldList& fields, RequestFacts& out) {
  Field* const expect = fields.find(FieldId::kExpect);
  if (expect == nullptr) return Reason::kNone;
  if (fields.repeated(FieldId::kExpect) || !equal_ignoring_case(expect->value, "100-continue")) {
    return Reason::kUnsupportedExpectation;
  }
  // Without a body there is nothing to wait for, and HTTP/1.0 knows no interim response.
  if (head.minor_version == 0 || out.body.empty()) {
    expect->dropped = true;
  } else {
    out.expect_continue = true;
  }
  return Reason::kNone;
}

bool wants_trailers(const FieldList& fields) {
  if (!fields.has(FieldId::kTe)) return false;
  for (const Field& field : fields) {
    if (field.id != FieldId::kTe) continue;
    const auto other = [](std::string_view text) { return !equal_ignoring_case(text, "trailers"); };
    if (!each_element(field.value, other)) return true;
  }
  return false;
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return equal_ignoring_case(text.substr(0, prefix.size()), prefix);
}

}  // namespace

Reason check_request(const RequestHead& head, FieldList& fields, const RequestTarget& target,
                     std::pmr::memory_resource& arena, RequestFacts& out) {
  out = RequestFacts();
  Reason reason = declared_length(fields, head.minor_version, out.body);
  if (reason != Reason::kNone) return reason;
  if (head.method_id == Method::kConnect || head.method_id == Method::kTrace) {
    // RFC 9110 §9.3.6, §9.3.8: neither has a body, and programs disagree about one that comes.
    if (out.body.kind == BodyLength::Kind::kChunked) return Reason::kBadTransferEncoding;
    if (!out.body.empty()) return Reason::kBadLength;
    out.body = BodyLength();
    if (head.method_id == Method::kConnect) out.body.kind = BodyLength::Kind::kTunnel;
  }
  reason = read_host(head, fields, target, arena, out);
  if (reason != Reason::kNone) return reason;

  const ConnectionOptions connection = read_connection(fields);
  if (connection.malformed || connection.forbidden) return Reason::kBadConnection;
  out.keep_alive = keeps_alive(connection, head.minor_version);

  reason = read_expect(head, fields, out);
  if (reason != Reason::kNone) return reason;

  if (head.minor_version != 0) {
    out.te_trailers = wants_trailers(fields);
    if (connection.upgrade && out.body.empty()) out.upgrade = upgrade_protocol(fields);
  }
  drop_own_fields(fields);
  return Reason::kNone;
}

Reason check_response(const ResponseHead& head, FieldList& fields, Method method,
                      ResponseFacts& out) {
  out = ResponseFacts();
  BodyLength declared;
  const Reason reason = declared_length(fields, head.minor_version, declared);
  if (reason != Reason::kNone) return reason;

  const ConnectionOptions connection = read_connection(fields);
  if (connection.forbidden) return Reason::kBadConnection;
  out.keep_alive = !connection.malformed && keeps_alive(connection, head.minor_version);
  drop_own_fields(fields);

  const bool interim = head.status < 200;
  if (interim && !declared.empty()) {
    // An upstream that frames a body here means one, and its bytes would be the next response.
    return declared.kind == BodyLength::Kind::kChunked ? Reason::kBadTransferEncoding
                                                       : Reason::kBadLength;
  }
  if (head.status == 101 || head.status == 426) out.upgrade = upgrade_protocol(fields);
  if (head.status == 101 || (method == Method::kConnect && head.status / 100 == 2)) {
    out.body.kind = BodyLength::Kind::kTunnel;
    out.keep_alive = false;
    return Reason::kNone;
  }
  if (interim) return Reason::kNone;
  if (head.status == 204) {
    // Never a body (RFC 9112 §6.3); one that is announced may follow all the same.
    if (!declared.empty()) out.keep_alive = false;
    return Reason::kNone;
  }
  if (head.status == 304 || method == Method::kHead) {
    Field* const length = fields.find(FieldId::kContentLength);
    if (length != nullptr) length->dropped = false;
    return Reason::kNone;
  }
  out.body = declared;
  if (declared.kind == BodyLength::Kind::kNone) {
    out.body.kind = BodyLength::Kind::kUntilClose;
    out.keep_alive = false;
  }
  return Reason::kNone;
}

bool trailer_allowed(const Field& field) {
  if (field.dropped) return false;
  if (field.id != FieldId::kOther) return field.id == FieldId::kEtag;
  if (equal_ignoring_case(field.name, "Content-Digest")) return true;
  for (const std::string_view prefix :
       {"content-", "if-", "proxy-", "sec-", "x-forwarded-", "access-control-"}) {
    if (starts_with_ignoring_case(field.name, prefix)) return false;
  }
  return true;
}

}  // namespace gatehouse
