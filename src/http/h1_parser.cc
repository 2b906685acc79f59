// Reading HTTP/1 heads line by line, each line in one pass; see the header for the contract.
//
// A line that is not complete is read again from its start when more bytes come. Two things keep
// that cheap: method, name and version are short by limit, and inside a target, a value or a
// phrase, which may be long, the new bytes alone are searched first for one that ends it.
#include "http/h1_parser.h"

#include <algorithm>
#include <cstring>

#include "http/chars.h"

namespace gatehouse {
namespace {

// What a byte that no rule allows tells about the sender, before the rule's own reason.
Reason fault(char c, Reason otherwise) {
  if (c == '\n') return Reason::kBareLf;
  if (c == '\0') return Reason::kNulByte;
  return otherwise;
}

// Moves a view from the buffer as it lay at the last call to where it lies now. Addresses are
// taken as numbers, for the old buffer may be gone.
void rebase(std::string_view& view, const char* from, const char* to) {
  const auto offset = reinterpret_cast<uintptr_t>(view.data()) - reinterpret_cast<uintptr_t>(from);
  view = {to + offset, view.size()};
}

// The outcome of reading one line, or a part of one.
enum class Part : uint8_t { kDone, kMore, kFault };

// "HTTP/" DIGIT "." DIGIT at p, which it moves behind; the byte that does not fit stays at p.
Part read_version(const char*& p, const char* end, char& major, char& minor) {
  if (end - p >= 8 && std::memcmp(p, "HTTP/1.1", 8) == 0) [[likely]] {
    p += 8;
    major = minor = '1';
    return Part::kDone;
  }
  constexpr std::string_view kPattern = "HTTP/0.0";
  for (const char wanted : kPattern) {
    if (p == end) return Part::kMore;
    if (wanted == '0' ? !chars::is(*p, chars::kDigit) : *p != wanted) return Part::kFault;
    ++p;
  }
  major = p[-3];
  minor = p[-1];
  return Part::kDone;
}

// What is wrong where no CRLF stands at p.
Part miss_crlf(const char* p, const char* end, Reason otherwise, Reason& reason) {
  if (p == end) return Part::kMore;
  if (*p != '\r') {
    reason = fault(*p, otherwise);
    return Part::kFault;
  }
  if (end - p < 2) return Part::kMore;
  reason = Reason::kBareCr;
  return Part::kFault;
}

// CRLF at p, which it moves behind.
[[gnu::always_inline]] inline Part read_crlf(const char*& p, const char* end, Reason otherwise,
                                             Reason& reason) {
  if (end - p >= 2 && std::memcmp(p, "\r\n", 2) == 0) [[likely]] {
    p += 2;
    return Part::kDone;
  }
  return miss_crlf(p, end, otherwise, reason);
}

}  // namespace

bool misspelt_method(std::string_view method) {
  for (size_t i = 1; i < static_cast<size_t>(Method::kCount); ++i) {
    if (equal_ignoring_case(method, method_name(static_cast<Method>(i)))) return true;
  }
  return false;
}

// ---- Field lines --------------------------------------------------------------------------------

void FieldSectionParser::reset(size_t start) {
  line_ = start;
  scanned_ = 0;
  base_ = nullptr;
  reason_ = Reason::kNone;
}

ParseStatus FieldSectionParser::refuse(Reason reason) {
  reason_ = reason;
  return ParseStatus::kRefused;
}

ParseStatus FieldSectionParser::parse(std::string_view bytes, size_t fields_max,
                                      FieldList& fields) {
  const char* const begin = bytes.data();
  const char* const end = begin + bytes.size();
  if (base_ != begin) {
    if (base_ != nullptr) {
      for (Field& field : fields) {
        rebase(field.name, base_, begin);
        rebase(field.value, base_, begin);
      }
    }
    base_ = begin;
  }
  if (scanned_ != 0) {
    if (chars::scan_value(begin + scanned_, end) == end) {
      scanned_ = bytes.size();
      return ParseStatus::kIncomplete;
    }
    scanned_ = 0;
  }

  for (const char* p = begin + line_;; line_ = static_cast<size_t>(p - begin)) {
    if (p == end) return ParseStatus::kIncomplete;

    const char* const name = p;
    p = chars::scan_plain(p, end);
    bool plain = true;
    if (p == end || *p != ':') [[unlikely]] {
      const char* const plain_end = p;
      while (p != end && chars::is(*p, chars::kToken)) ++p;
      plain = p == plain_end;
    }
    const auto name_size = static_cast<size_t>(p - name);

    if (name_size == 0) [[unlikely]] {
      if (*p == '\r') {
        Reason reason = Reason::kNone;
        const Part part = read_crlf(p, end, Reason::kBareCr, reason);
        if (part == Part::kMore) return ParseStatus::kIncomplete;
        if (part == Part::kFault) return refuse(reason);
        line_ = static_cast<size_t>(p - begin);
        return ParseStatus::kComplete;
      }
      if (*p == ' ' || *p == '\t') return refuse(Reason::kObsFold);
    }
    if (fields.size() >= fields_max) return refuse(Reason::kTooManyFields);
    if (name_size > kFieldNameMax) return refuse(Reason::kHeadTooLarge);
    if (p == end) return ParseStatus::kIncomplete;
    if (*p != ':' || name_size == 0) [[unlikely]] {
      if (name_size != 0 && (*p == ' ' || *p == '\t')) return refuse(Reason::kSpaceBeforeColon);
      return refuse(fault(*p, Reason::kBadFieldName));
    }

    ++p;
    while (p != end && (*p == ' ' || *p == '\t')) ++p;
    const char* const value = p;
    p = chars::scan_value(p, end);
    if (p == end) {
      scanned_ = bytes.size();
      return ParseStatus::kIncomplete;
    }
    const char* value_end = p;
    Reason reason = Reason::kNone;
    const Part part = read_crlf(p, end, Reason::kBadFieldValue, reason);
    if (part == Part::kMore) return ParseStatus::kIncomplete;
    if (part == Part::kFault) return refuse(reason);
    while (value_end != value && (value_end[-1] == ' ' || value_end[-1] == '\t')) --value_end;

    const std::string_view name_view(name, name_size);
    const bool verbatim = value == name + name_size + 2 && value[-1] == ' ' && value_end + 2 == p;
    Field& field =
        fields.push(name_view, {value, static_cast<size_t>(value_end - value)}, verbatim);
    if (!plain && field_name_imitates_known(name_view)) [[unlikely]]
      field.dropped = true;
  }
}

// ---- Heads --------------------------------------------------------------------------------------

void H1HeadParser::begin_fields(std::string_view bytes, size_t line_end) {
  in_fields_ = true;
  base_ = bytes.data();
  section_.reset(line_end);
}

ParseStatus H1HeadParser::parse_fields(ParseStatus first_line, std::string_view bytes,
                                       const H1Limits& limits, size_t& length, FieldList& fields) {
  ParseStatus status = first_line;
  if (status == ParseStatus::kComplete) {
    status = section_.parse(bytes.substr(0, limits.head_max), limits.fields_max, fields);
    if (status == ParseStatus::kRefused) return refuse(section_.reason());
    length = section_.end();
  }
  if (status == ParseStatus::kIncomplete && bytes.size() >= limits.head_max) {
    return refuse(Reason::kHeadTooLarge);
  }
  return status;
}

ParseStatus H1HeadParser::refuse(Reason reason) {
  reason_ = reason;
  return ParseStatus::kRefused;
}

// ---- Requests -----------------------------------------------------------------------------------

void H1RequestParser::reset() {
  *this = H1RequestParser();
}

ParseStatus H1RequestParser::parse(std::string_view bytes, const H1Limits& limits, RequestHead& out,
                                   FieldList& fields) {
  ParseStatus status = ParseStatus::kComplete;
  if (!in_fields_) {
    size_t end = 0;
    status = request_line(bytes.substr(0, limits.head_max), limits, out, end);
    if (status == ParseStatus::kComplete) begin_fields(bytes, end);
  } else if (base_ != bytes.data()) {
    rebase(out.method, base_, bytes.data());
    rebase(out.target, base_, bytes.data());
    base_ = bytes.data();
  }
  return parse_fields(status, bytes, limits, out.length, fields);
}

ParseStatus H1RequestParser::request_line(std::string_view bytes, const H1Limits& limits,
                                          RequestHead& out, size_t& line_end) {
  constexpr ParseStatus kMore = ParseStatus::kIncomplete;
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  Reason reason = Reason::kNone;

  if (p != end && *p == '\r') {
    const Part part = read_crlf(p, end, Reason::kBareCr, reason);
    if (part == Part::kMore) return kMore;
    if (part == Part::kFault) return refuse(reason);
  }
  if (p == end) return kMore;
  begun_ = true;

  const char* const method = p;
  while (p != end && chars::is(*p, chars::kToken)) ++p;
  if (p - method > static_cast<ptrdiff_t>(kMethodMax)) {
    return refuse(Reason::kMethodNotImplemented);
  }
  if (p == end) return kMore;
  if (*p != ' ' || p == method) {
    const bool space = *p == ' ' || *p == '\t' || *p == '\r';
    return refuse(fault(*p, space ? Reason::kBadRequestLine : Reason::kBadMethod));
  }
  out.method = {method, static_cast<size_t>(p - method)};
  out.method_id = method_id(out.method);
  if (out.method_id == Method::kOther && misspelt_method(out.method)) {
    return refuse(Reason::kBadMethod);
  }

  const char* const target = ++p;
  const char* const target_limit =
      target + std::min(limits.target_max, static_cast<size_t>(end - target));
  if (scanned_ != 0) p = bytes.data() + scanned_;
  p = chars::scan_target(p, target_limit);
  if (p == end) {
    scanned_ = bytes.size();
    return kMore;
  }
  if (*p != ' ' || p == target) {
    if (chars::is(*p, chars::kTarget)) return refuse(Reason::kTargetTooLong);
    if (*p == '\r') {  // what HTTP/0.9 would send, or a stray CR
      const Part part = read_crlf(p, end, Reason::kBareCr, reason);
      if (part == Part::kMore) return kMore;
      return refuse(part == Part::kFault ? reason : Reason::kBadVersion);
    }
    const bool space = *p == ' ' || *p == '\t';
    return refuse(fault(*p, space ? Reason::kBadRequestLine : Reason::kBadTarget));
  }
  out.target = {target, static_cast<size_t>(p - target)};
  ++p;

  constexpr std::string_view kUsual = "HTTP/1.1\r\n";
  if (end - p >= static_cast<ptrdiff_t>(kUsual.size()) &&
      std::memcmp(p, kUsual.data(), kUsual.size()) == 0) [[likely]] {
    out.minor_version = 1;
    line_end = static_cast<size_t>(p - bytes.data()) + kUsual.size();
    return ParseStatus::kComplete;
  }
  char major = 0;
  char minor = 0;
  const Part version = read_version(p, end, major, minor);
  if (version == Part::kMore) return kMore;
  if (version == Part::kFault) {
    return refuse(fault(*p, *p == ' ' ? Reason::kBadRequestLine : Reason::kBadVersion));
  }
  const Reason after = p != end && *p == ' ' ? Reason::kBadRequestLine : Reason::kBadVersion;
  const Part part = read_crlf(p, end, after, reason);
  if (part == Part::kMore) return kMore;
  if (part == Part::kFault) return refuse(reason);
  if (major != '1') return refuse(Reason::kUnsupportedVersion);
  out.minor_version = minor == '0' ? 0 : 1;
  line_end = static_cast<size_t>(p - bytes.data());
  return ParseStatus::kComplete;
}

// ---- Responses ----------------------------------------------------------------------------------

void H1ResponseParser::reset() {
  *this = H1ResponseParser();
}

ParseStatus H1ResponseParser::parse(std::string_view bytes, const H1Limits& limits,
                                    ResponseHead& out, FieldList& fields) {
  ParseStatus status = ParseStatus::kComplete;
  if (!in_fields_) {
    size_t end = 0;
    status = status_line(bytes.substr(0, limits.head_max), out, end);
    if (status == ParseStatus::kComplete) begin_fields(bytes, end);
  } else if (base_ != bytes.data()) {
    if (!out.phrase.empty()) rebase(out.phrase, base_, bytes.data());
    base_ = bytes.data();
  }
  return parse_fields(status, bytes, limits, out.length, fields);
}

ParseStatus H1ResponseParser::status_line(std::string_view bytes, ResponseHead& out,
                                          size_t& line_end) {
  constexpr ParseStatus kMore = ParseStatus::kIncomplete;
  const char* p = bytes.data();
  const char* const end = p + bytes.size();
  Reason reason = Reason::kNone;

  char major = 0;
  char minor = 0;
  const Part version = read_version(p, end, major, minor);
  if (version == Part::kMore) return kMore;
  if (version == Part::kFault) return refuse(fault(*p, Reason::kBadStatusLine));
  if (major != '1') return refuse(Reason::kUnsupportedVersion);
  out.minor_version = minor == '0' ? 0 : 1;

  if (p == end) return kMore;
  if (*p != ' ') return refuse(fault(*p, Reason::kBadStatusLine));
  ++p;
  unsigned status = 0;
  for (int i = 0; i < 3; ++i, ++p) {
    if (p == end) return kMore;
    if (!chars::is(*p, chars::kDigit)) return refuse(fault(*p, Reason::kBadStatusLine));
    status = status * 10 + static_cast<unsigned>(*p - '0');
  }
  if (status < 100 || status > 599) return refuse(Reason::kBadStatusLine);
  out.status = static_cast<uint16_t>(status);

  // The space after the code may be missing where the phrase is: many servers leave it out.
  if (p == end) return kMore;
  out.phrase = {};
  if (*p == ' ') {
    const char* const phrase = ++p;
    if (scanned_ != 0) p = bytes.data() + scanned_;
    p = chars::scan_value(p, end);
    if (p == end) {
      scanned_ = bytes.size();
      return kMore;
    }
    out.phrase = {phrase, static_cast<size_t>(p - phrase)};
  }
  const Part part = read_crlf(p, end, Reason::kBadStatusLine, reason);
  if (part == Part::kMore) return kMore;
  if (part == Part::kFault) return refuse(reason);
  line_end = static_cast<size_t>(p - bytes.data());
  return ParseStatus::kComplete;
}

}  // namespace gatehouse
