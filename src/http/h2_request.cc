// Judging the field sections of HTTP/2 requests; see h2_request.h.
#include "http/h2_request.h"

#include <cstring>

#include "http/body_framing.h"
#include "http/chars.h"
#include "http/field_names.h"
#include "http/h1_parser.h"
#include "http/target.h"

namespace gatehouse {
namespace {

// What a field costs besides its text (§6.5.2).
constexpr size_t kFieldOverhead = 32;

// tchar without upper-case letters (§8.2).
bool lower_case_token(std::string_view name) {
  for (const char c : name) {
    if (!chars::is(c, chars::kToken) || (c >= 'A' && c <= 'Z')) return false;
  }
  return !name.empty();
}

Reason check_value(std::string_view value) {
  const char* const end = value.data() + value.size();
  const char* const bad = chars::scan_value(value.data(), end);
  if (bad != end) {
    switch (*bad) {
      case '\0':
        return Reason::kNulByte;
      case '\r':
        return Reason::kBareCr;
      case '\n':
        return Reason::kBareLf;
      default:
        return Reason::kBadFieldValue;
    }
  }
  if (!value.empty() && chars::trim(value).size() != value.size()) return Reason::kBadFieldValue;
  return Reason::kNone;
}

// The text as the line it will be, and views of its parts.
Field copy_line(std::string_view name, std::string_view value, FieldId id, Arena& arena) {
  char* const line = arena.bytes(name.size() + value.size() + 4);
  char* at = line;
  std::memcpy(at, name.data(), name.size());
  at += name.size();
  *at++ = ':';
  *at++ = ' ';
  if (!value.empty()) std::memcpy(at, value.data(), value.size());
  char* const begin = at;
  at += value.size();
  *at++ = '\r';
  *at = '\n';
  return {{line, name.size()}, {begin, value.size()}, id, false, true};
}

// scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ); of them the gateway serves two.
bool known_scheme(std::string_view scheme) {
  return equal_ignoring_case(scheme, "https") || equal_ignoring_case(scheme, "http");
}

// Whether a program behind could take the name for a known one that it is not.
bool imitates(std::string_view name) {
  for (const char c : name) {
    if (!chars::is(c, chars::kPlain)) return field_name_imitates_known(name);
  }
  return false;
}

}  // namespace

Reason check_h2_field(std::string_view name, std::string_view value) {
  if (!lower_case_token(name)) return Reason::kBadFieldName;
  return check_value(value);
}

// ---- Requests -----------------------------------------------------------------------------------

void H2RequestReader::begin(const H2RequestLimits& limits) {
  *this = H2RequestReader();
  limits_ = limits;
}

// The first fault is the one that counts, but that a malformed request is never answered.
void H2RequestReader::fail(Reason reason, bool malformed) {
  if (fault_.reason != Reason::kNone && (fault_.malformed || !malformed)) return;
  fault_ = {reason, malformed};
}

void H2RequestReader::add(std::string_view name, std::string_view value, Exchange& exchange) {
  decoded_ += name.size() + value.size() + kFieldOverhead;
  ++count_;
  if (fault_.malformed) return;
  const bool pseudo = !name.empty() && name.front() == ':';
  if (!pseudo) {
    regular_ = true;
    const Reason why = check_h2_field(name, value);
    if (why != Reason::kNone) return fail(why, true);
  } else if (regular_) {
    return fail(Reason::kBadPseudoField, true);
  }
  if (decoded_ > limits_.head_max || name.size() > kFieldNameMax) {
    return fail(Reason::kHeadTooLarge, false);
  }
  if (pseudo) return add_pseudo(name, value, exchange.arena);
  if (fault_.reason != Reason::kNone) return;
  if (exchange.request.fields.size() >= limits_.fields_max) {
    return fail(Reason::kTooManyFields, false);
  }
  add_regular(name, value, exchange);
}

void H2RequestReader::add_pseudo(std::string_view name, std::string_view value, Arena& arena) {
  Pseudo which;
  std::string_view* slot = nullptr;
  if (name == ":method") {
    which = kMethod;
    slot = &method_;
  } else if (name == ":path") {
    which = kPath;
    slot = &path_;
  } else if (name == ":scheme") {
    which = kScheme;
    slot = &scheme_;
  } else if (name == ":authority") {
    which = kAuthority;
    slot = &authority_;
  } else if (name == ":protocol") {
    which = kProtocol;
    slot = &protocol_;
  } else {
    return fail(Reason::kBadPseudoField, true);
  }
  if ((seen_ & which) != 0) return fail(Reason::kBadPseudoField, true);
  seen_ |= which;
  const Reason why = check_value(value);
  if (why != Reason::kNone) return fail(why, true);
  *slot = arena.copy(value);
}

void H2RequestReader::add_regular(std::string_view name, std::string_view value,
                                  Exchange& exchange) {
  const FieldId id = field_id(name);
  check_known(id, value);
  if (fault_.malformed) return;
  Field& field = exchange.request.fields.push(copy_line(name, value, id, exchange.arena));
  if (id == FieldId::kOther) {
    if (name == "priority") priority_ = field.value;
    if (imitates(name)) field.dropped = true;
  }
}

// Fields that belong to a connection have no place in HTTP/2 (§8.2.2).
void H2RequestReader::check_known(FieldId id, std::string_view value) {
  switch (id) {
    case FieldId::kTransferEncoding:
      return fail(Reason::kBadTransferEncoding, true);
    case FieldId::kConnection:
    case FieldId::kKeepAlive:
    case FieldId::kProxyConnection:
    case FieldId::kUpgrade:
    case FieldId::kHttp2Settings:
      return fail(Reason::kBadConnection, true);
    case FieldId::kTe:
      if (!equal_ignoring_case(value, "trailers")) fail(Reason::kBadConnection, true);
      return;
    default:
      return;
  }
}

// HTTP/1 knows one Cookie field; HTTP/2 may split it, to compress it better.
void H2RequestReader::join_cookies(Exchange& exchange) {
  FieldList& fields = exchange.request.fields;
  if (!fields.repeated(FieldId::kCookie)) return;
  size_t size = 0;
  for (const Field& field : fields) {
    if (field.id == FieldId::kCookie) size += field.value.size() + 2;
  }
  char* const line = exchange.arena.bytes(size + 10);
  constexpr std::string_view kStart = "cookie: ";
  std::memcpy(line, kStart.data(), kStart.size());
  char* at = line + kStart.size();
  char* const value = at;
  Field* first = nullptr;
  size_t kept = 0;
  for (size_t i = 0; i < fields.size(); ++i) {
    Field& field = fields[i];
    if (field.id != FieldId::kCookie) {
      if (kept != i) fields[kept] = field;
      ++kept;
      continue;
    }
    if (first == nullptr) {
      first = &fields[kept++];
      *first = field;
    } else {
      *at++ = ';';
      *at++ = ' ';
    }
    std::memcpy(at, field.value.data(), field.value.size());
    at += field.value.size();
  }
  first->name = {line, 6};
  first->value = {value, static_cast<size_t>(at - value)};
  first->verbatim = true;
  *at++ = '\r';
  *at = '\n';
  fields.truncate(kept);
}

// §8.3.1. False where the request is malformed.
bool H2RequestReader::check_pseudo_fields() {
  if ((seen_ & kMethod) == 0) {
    fail(Reason::kBadPseudoField, true);
    return false;
  }
  if (!chars::is_token(method_)) {
    fail(Reason::kBadMethod, true);
    return false;
  }
  if (method_ == "CONNECT") {
    check_connect();
    return !fault_.malformed;
  }
  constexpr uint8_t kNeeded = kScheme | kPath;
  if ((seen_ & kNeeded) != kNeeded || (seen_ & kProtocol) != 0) {
    fail(Reason::kBadPseudoField, true);
    return false;
  }
  const bool whole_server = path_ == "*" && method_ == "OPTIONS";
  if (!whole_server && (path_.empty() || path_.front() != '/')) {
    fail(Reason::kBadTarget, true);
    return false;
  }
  if (!known_scheme(scheme_)) fail(Reason::kBadTarget, false);
  return true;
}

// §8.5, and RFC 8441 §4 where :protocol is there.
void H2RequestReader::check_connect() {
  if ((seen_ & kAuthority) == 0) return fail(Reason::kBadPseudoField, true);
  constexpr uint8_t kBoth = kScheme | kPath;
  if ((seen_ & kProtocol) == 0) {
    if ((seen_ & kBoth) != 0) return fail(Reason::kBadPseudoField, true);
    // A forward proxy's business.
    return fail(Reason::kMethodNotAllowed, false);
  }
  if ((seen_ & kBoth) != kBoth) return fail(Reason::kBadPseudoField, true);
  if (!chars::is_token(protocol_)) return fail(Reason::kBadPseudoField, true);
  if (path_.empty() || path_.front() != '/') return fail(Reason::kBadTarget, true);
  if (!known_scheme(scheme_)) fail(Reason::kBadTarget, false);
  // RFC 9220 §3: a protocol that is not known is not implemented.
  if (!equal_ignoring_case(protocol_, "websocket")) {
    return fail(Reason::kMethodNotImplemented, false);
  }
  websocket_ = true;
}

// What HTTP/1 calls Host: :authority, which a Host field must not contradict (§8.3.1).
void H2RequestReader::add_host(Exchange& exchange) {
  if ((seen_ & kAuthority) == 0) return;
  FieldList& fields = exchange.request.fields;
  const Field* const host = fields.find(FieldId::kHost);
  if (host == nullptr) {
    fields.push(copy_line("host", authority_, FieldId::kHost, exchange.arena));
    return;
  }
  if (fields.repeated(FieldId::kHost)) return fail(Reason::kRepeatedHost, true);
  if (equal_ignoring_case(host->value, authority_)) return;
  Authority a;
  Authority b;
  if (!parse_authority(host->value, exchange.arena, a) ||
      !parse_authority(authority_, exchange.arena, b) || a.text != b.text) {
    fail(Reason::kBadHost, true);
  }
}

void H2RequestReader::interpret(bool end_stream, Exchange& exchange) {
  Request& request = exchange.request;
  RequestHead& head = request.head;
  head.method = method_;
  head.method_id = method_id(method_);
  head.target = path_;
  head.major_version = 2;
  head.minor_version = 1;
  if (websocket_) {
    head.method = method_name(Method::kGet);
    head.method_id = Method::kGet;
  }
  if (head.method.size() > kMethodMax) return fail(Reason::kMethodNotImplemented, false);
  if (head.method_id == Method::kOther && misspelt_method(head.method)) {
    return fail(Reason::kBadMethod, false);
  }
  if (head.method_id == Method::kTrace) fail(Reason::kMethodNotAllowed, false);
  if (path_.size() > limits_.target_max) return fail(Reason::kTargetTooLong, false);
  Reason why = parse_target(path_, head.method_id, TargetOptions{}, exchange.arena, request.target);
  if (why != Reason::kNone) return fail(why, false);
  why = check_request(head, request.fields, request.target, exchange.arena, request.facts);
  RequestFacts& facts = request.facts;
  switch (why) {
    case Reason::kNone:
      break;
    case Reason::kRepeatedLength:  // §8.1.1
    case Reason::kBadLength:
      return fail(why, true);
    default:
      return fail(why, false);
  }
  facts.keep_alive = true;
  request.authority = facts.authority;
  if (websocket_) {
    // The stream carries the tunnel: nothing frames it (RFC 8441 §5).
    if (end_stream || facts.body.kind != BodyLength::Kind::kNone) {
      return fail(Reason::kBadLength, true);
    }
    facts.upgrade = "websocket";
    return;
  }
  if (end_stream) {
    if (!facts.body.empty()) return fail(Reason::kBadLength, true);
  } else if (facts.body.kind == BodyLength::Kind::kNone) {
    facts.body.kind = BodyLength::Kind::kChunked;
    facts.expect_continue = request.fields.has(FieldId::kExpect);
  }
}

H2Fault H2RequestReader::finish(bool end_stream, Exchange& exchange) {
  if (fault_.malformed) return fault_;
  // What was forgotten is not missing.
  if (fault_.reason == Reason::kNone && !check_pseudo_fields()) return fault_;
  join_cookies(exchange);
  add_host(exchange);
  if (fault_.reason == Reason::kNone) {
    interpret(end_stream, exchange);
  } else {
    // Named in the log line and in the reply's choice of a form; not understood any further.
    exchange.request.head.major_version = 2;
    exchange.request.head.method = method_;
    exchange.request.head.method_id = method_id(method_);
    exchange.request.head.target = path_;
  }
  return fault_;
}

// ---- Trailers -----------------------------------------------------------------------------------

void H2TrailerReader::begin(const H2RequestLimits& limits) {
  *this = H2TrailerReader();
  limits_ = limits;
}

void H2TrailerReader::add(std::string_view name, std::string_view value, Arena& arena,
                          FieldList& trailers) {
  decoded_ += name.size() + value.size() + kFieldOverhead;
  if (reason_ != Reason::kNone) return;
  if (!name.empty() && name.front() == ':') {
    reason_ = Reason::kBadPseudoField;
    return;
  }
  reason_ = check_h2_field(name, value);
  if (reason_ != Reason::kNone) return;
  if (decoded_ > limits_.head_max || trailers.size() >= limits_.fields_max ||
      name.size() > kFieldNameMax) {
    reason_ = Reason::kBadTrailer;
    return;
  }
  const FieldId id = field_id(name);
  if (field_kind(id) == FieldKind::kHopByHop || id == FieldId::kTransferEncoding) {
    reason_ = Reason::kBadConnection;
    return;
  }
  Field& field = trailers.push(copy_line(name, value, id, arena));
  if (!trailer_allowed(field) || imitates(name)) field.dropped = true;
}

}  // namespace gatehouse
