// The field sections of HTTP/2 requests, and what they mean (RFC 9113 §8).
//
// A session hands over each field line as HPACK decodes it; the text is copied into the exchange's
// arena, since it has to live as long as the exchange. At the end of the section the pseudo-fields
// become what a request line would have been, and http/target.h and http/body_framing.h judge the
// rest as they do for HTTP/1: one meaning, whatever protocol brought the request.
//
// Two kinds of refusal. A *malformed* request (§8.1.1) is a stream error of type PROTOCOL_ERROR: it
// is never answered, nor handed on. A well-formed one that is refused all the same (too large, a
// path that nobody should see, a method that nobody implements) gets a reply with its status.
//
// What HTTP/1 behind the gateway could read differently cannot get through: names are lower-case
// tokens, values hold no CR, LF or NUL and no white space at their ends, no field belongs to a
// connection, Content-Length is what the DATA frames have. Fields are stored as the lines they will
// be ("name: value" CRLF), so that writing them to an upstream is one copy. Several Cookie fields
// become one (§8.2.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/arena.h"
#include "http/exchange.h"
#include "http/field.h"
#include "http/reason.h"

namespace gatehouse {

struct H2RequestLimits {
  size_t head_max = 32768;  // names, values and 32 bytes for each field (§6.5.2)
  size_t fields_max = 100;
  size_t target_max = 8192;
};

// What is wrong with a request; kNone: nothing.
struct H2Fault {
  Reason reason = Reason::kNone;
  bool malformed = false;  // a stream error; otherwise it gets a reply
};

class H2RequestReader {
 public:
  // A new field section. Cheap: nothing is borrowed before the first field.
  void begin(const H2RequestLimits& limits);

  // The next field line. After a fault the rest is counted and forgotten: HPACK needs it decoded.
  void add(std::string_view name, std::string_view value, Exchange& exchange);

  // The section is complete: fills exchange.request, or says what is wrong. `end_stream`: no body
  // comes. With a fault that is to be answered the request holds what could be understood.
  // A CONNECT for the protocol "websocket" (RFC 8441) becomes the GET with an Upgrade that it
  // means, and websocket() is true then.
  [[nodiscard]] H2Fault finish(bool end_stream, Exchange& exchange);
  bool websocket() const { return websocket_; }

  // Bytes of the section as counted for head_max, also of what was forgotten.
  size_t decoded() const { return decoded_; }
  // The value of the Priority field (RFC 9218), empty without one.
  std::string_view priority() const { return priority_; }

 private:
  enum Pseudo : uint8_t { kMethod = 1, kScheme = 2, kAuthority = 4, kPath = 8, kProtocol = 16 };

  void fail(Reason reason, bool malformed);
  void add_pseudo(std::string_view name, std::string_view value, Arena& arena);
  void add_regular(std::string_view name, std::string_view value, Exchange& exchange);
  void check_known(FieldId id, std::string_view value);
  void join_cookies(Exchange& exchange);
  bool check_pseudo_fields();
  void check_connect();
  void add_host(Exchange& exchange);
  void interpret(bool end_stream, Exchange& exchange);

  H2RequestLimits limits_;
  H2Fault fault_;
  size_t decoded_ = 0;
  size_t count_ = 0;
  uint8_t seen_ = 0;  // of Pseudo
  bool regular_ = false;
  bool websocket_ = false;
  std::string_view method_;
  std::string_view scheme_;
  std::string_view authority_;
  std::string_view path_;
  std::string_view protocol_;
  std::string_view priority_;
};

// The trailer section of a request (§8.1): no pseudo-fields, the rules for names and values above.
// Fields that may not stand in trailers are kept, but not handed on.
class H2TrailerReader {
 public:
  void begin(const H2RequestLimits& limits);
  void add(std::string_view name, std::string_view value, Arena& arena, FieldList& trailers);
  // kNone, or why the request is malformed.
  Reason reason() const { return reason_; }
  size_t decoded() const { return decoded_; }

 private:
  H2RequestLimits limits_;
  Reason reason_ = Reason::kNone;
  size_t decoded_ = 0;
};

// What is wrong with a field line in HTTP/2 whatever it means: kNone, kBadFieldName or what a value
// may not hold. `name` is no pseudo-field.
[[nodiscard]] Reason check_h2_field(std::string_view name, std::string_view value);

}  // namespace gatehouse
