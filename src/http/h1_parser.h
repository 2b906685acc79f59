// The heads of HTTP/1.0 and HTTP/1.1 messages (RFC 9112 §2 to §5), read incrementally.
//
// parse() is given all bytes of the head received so far, each time from its first byte, and says
// kIncomplete, kComplete or kRefused. Lines that are complete are read once and never again, the
// last, incomplete one is only searched for its end in the bytes that are new. The buffer may have
// moved between two calls; views handed out are into the buffer of the last call.
//
// The grammar is the strict one: exactly one space between the parts of the first line, CRLF and
// nothing else at a line's end, no folding, no white space before the colon, no control bytes but
// HTAB in values. Whatever two parsers could read differently is refused. The verdict, including
// its reason, depends on the bytes alone, not on how they were split into reads: a message that
// goes wrong twice is refused for what comes first. One liberty of RFC 9112 §2.2 is taken: one
// empty line before a request is skipped.
//
// Names that programs behind us could take for another one (Content_Length) are marked dropped.
// What the fields mean together, and how long the body is, decides http/body_framing.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/field.h"
#include "http/method.h"
#include "http/reason.h"

namespace gatehouse {

struct H1Limits {
  size_t head_max = 32768;   // bytes of first line, fields and the empty line: kHeadTooLarge
  size_t fields_max = 100;   // field lines: kTooManyFields
  size_t target_max = 8192;  // bytes of the request target: kTargetTooLong
};

// A method longer than this is refused with kMethodNotImplemented (RFC 9110 §9.1, §15.6.2).
inline constexpr size_t kMethodMax = 32;

// A field name longer than this is refused with kHeadTooLarge.
inline constexpr size_t kFieldNameMax = 256;

// Whether the token is a known method in another case (see http/method.h).
bool misspelt_method(std::string_view method);

struct RequestHead {
  std::string_view method;
  std::string_view target;  // as it came; http/target.h gives it its one meaning
  Method method_id = Method::kOther;
  uint8_t major_version = 1;  // 2: HTTP/2, which is minor_version 1 here: it can all that 1.1 can
  uint8_t minor_version = 1;  // 0 or 1; HTTP/1.2 and up are treated as 1 (RFC 9110 §2.5)
  size_t length = 0;          // bytes of the head; the body begins there
};

struct ResponseHead {
  uint16_t status = 0;  // 100 to 599
  uint8_t minor_version = 1;
  std::string_view phrase;  // may be empty
  size_t length = 0;
};

enum class ParseStatus : uint8_t { kIncomplete, kComplete, kRefused };

// Field lines up to and with the empty line that ends them: a part of each parser here, and the
// trailer section of a chunked body.
class FieldSectionParser {
 public:
  // The section begins at offset `start` of the bytes that parse() will be given.
  void reset(size_t start);

  // `bytes` as above, no more than the limit allows. On kComplete end() is the offset after the
  // empty line. Fields are appended as their lines are completed.
  ParseStatus parse(std::string_view bytes, size_t fields_max, FieldList& fields);

  size_t end() const { return line_; }
  Reason reason() const { return reason_; }

 private:
  ParseStatus refuse(Reason reason);

  size_t line_ = 0;             // offset of the line that is not complete yet
  size_t scanned_ = 0;          // that line's value holds no control byte up to here; 0: unknown
  const char* base_ = nullptr;  // where `bytes` lay in the last call
  Reason reason_ = Reason::kNone;
};

// What requests and responses have in common: one line, then fields, within the limit of the head.
class H1HeadParser {
 public:
  Reason reason() const { return reason_; }

 protected:
  // The first line is complete and ends at offset `line_end` of `bytes`.
  void begin_fields(std::string_view bytes, size_t line_end);

  // How far the first line has come decides whether the fields are read. `length` is the head's.
  ParseStatus parse_fields(ParseStatus first_line, std::string_view bytes, const H1Limits& limits,
                           size_t& length, FieldList& fields);

  ParseStatus refuse(Reason reason);

  size_t scanned_ = 0;  // the last part of the first line (target, phrase) holds no byte that ends
                        // it up to here; 0: unknown
  const char* base_ = nullptr;
  bool in_fields_ = false;

 private:
  FieldSectionParser section_;
  Reason reason_ = Reason::kNone;
};

class H1RequestParser : public H1HeadParser {
 public:
  void reset();

  // The caller clears `fields` before the first call for a message and leaves it and `out` alone
  // until the verdict. After kRefused only reason() has a meaning.
  ParseStatus parse(std::string_view bytes, const H1Limits& limits, RequestHead& out,
                    FieldList& fields);

  // True once a byte that belongs to a request has been seen: tells a connection that is idle
  // (nothing, or the one empty line) from one that is waiting for the rest of a head.
  bool begun() const { return begun_; }

 private:
  ParseStatus request_line(std::string_view bytes, const H1Limits& limits, RequestHead& out,
                           size_t& end);

  bool begun_ = false;
};

// The same for responses; no empty line before the status line. Its reasons speak of the
// response: the caller answers the client with kUpstreamBadResponse or kUpstreamHeadTooLarge.
class H1ResponseParser : public H1HeadParser {
 public:
  void reset();
  ParseStatus parse(std::string_view bytes, const H1Limits& limits, ResponseHead& out,
                    FieldList& fields);

 private:
  ParseStatus status_line(std::string_view bytes, ResponseHead& out, size_t& end);
};

}  // namespace gatehouse
