// Request targets; see the header for the rules.
//
// normal_path() finds out in one scan whether a path may stay as it is; what is not evidently
// normal goes through rewrite_path(), which is the definition of "normal" and also the one place
// that refuses a path.
#include "http/target.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "http/chars.h"
#include "http/field_names.h"

namespace gatehouse {
namespace {

enum PathByte : uint8_t {
  kRefused,     // controls, space, '#', '\', DEL, above
  kPlain,       // pchar without '%' (RFC 3986 §3.3)
  kUnreserved,  // a pchar too; an escape of it is decoded
  kEscaped,     // not allowed raw, but browsers send it: gets an escape
  kPercent,
  kSlash,
};

constexpr std::array<uint8_t, 256> make_path_bytes() {
  std::array<uint8_t, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    const bool plain_name = chars::is(static_cast<char>(c), chars::kPlain);
    if (plain_name) table[c] = kUnreserved;
  }
  for (const char c : std::string_view("._~")) table[static_cast<unsigned char>(c)] = kUnreserved;
  for (const char c : std::string_view("!$&'()*+,;=:@")) {
    table[static_cast<unsigned char>(c)] = kPlain;
  }
  for (const char c : std::string_view("{}|^`\"<>[]")) {
    table[static_cast<unsigned char>(c)] = kEscaped;
  }
  table['%'] = kPercent;
  table['/'] = kSlash;
  return table;
}

constexpr std::array<uint8_t, 256> kPathBytes = make_path_bytes();

uint8_t path_byte(char c) {
  return kPathBytes[static_cast<unsigned char>(c)];
}

constexpr char kUpperDigits[] = "0123456789ABCDEF";

// Whether the escape at text[at] is a valid one; gives the byte that it stands for.
bool read_escape(std::string_view text, size_t at, unsigned char& byte) {
  if (text.size() - at < 3 || !chars::is(text[at + 1], chars::kHex) ||
      !chars::is(text[at + 2], chars::kHex)) {
    return false;
  }
  byte = static_cast<unsigned char>(chars::hex_value(text[at + 1]) << 4 |
                                    chars::hex_value(text[at + 2]));
  return true;
}

// Whether the segment after the slash at `slash` needs a closer look: it may be a dot segment, or
// be taken for one.
bool suspicious_segment(std::string_view path, size_t slash, bool merge_slashes) {
  size_t i = slash + 1;
  if (i == path.size()) return false;
  if (path[i] == '/') return merge_slashes;
  if (path[i] != '.') return false;
  if (++i < path.size() && path[i] == '.') ++i;
  return i == path.size() || path[i] == '/' || path[i] == ';' || path[i] == '%';
}

// Whether `path`, which begins with '/', is evidently normal already.
bool normal_path(std::string_view path, bool merge_slashes) {
  for (size_t i = 0; i < path.size(); ++i) {
    switch (path_byte(path[i])) {
      case kUnreserved:
      case kPlain:
        break;
      case kSlash:
        if (suspicious_segment(path, i, merge_slashes)) return false;
        break;
      case kPercent: {
        unsigned char byte = 0;
        if (!read_escape(path, i, byte)) return false;
        if (byte == 0 || byte == '/' || byte == '\\') return false;
        if (path_byte(static_cast<char>(byte)) == kUnreserved) return false;
        if (path[i + 1] != kUpperDigits[byte >> 4] || path[i + 2] != kUpperDigits[byte & 15]) {
          return false;
        }
        i += 2;
        break;
      }
      default:
        return false;
    }
  }
  return true;
}

// "." and "..", alone or before parameters: some servers cut those off before they look for dot
// segments.
bool dot_segment(std::string_view segment) {
  const std::string_view name = segment.substr(0, segment.find(';'));
  return name == "." || name == "..";
}

// Whether a server that decodes %2F or %5C too early would find a dot segment in this one.
bool hides_dot_segment(std::string_view segment) {
  size_t begin = 0;
  for (size_t i = 0; i + 3 <= segment.size(); ++i) {
    const std::string_view escape = segment.substr(i, 3);
    if (escape != "%2F" && escape != "%5C") continue;
    if (dot_segment(segment.substr(begin, i - begin))) return true;
    begin = i + 3;
  }
  return begin != 0 && dot_segment(segment.substr(begin));
}

// Writes a segment with its escapes put right. Null where it holds a byte that is refused.
char* write_segment(std::string_view segment, char* out) {
  const auto escape = [&out](unsigned char byte) {
    *out++ = '%';
    *out++ = kUpperDigits[byte >> 4];
    *out++ = kUpperDigits[byte & 15];
  };
  for (size_t i = 0; i < segment.size(); ++i) {
    switch (path_byte(segment[i])) {
      case kUnreserved:
      case kPlain:
        *out++ = segment[i];
        break;
      case kEscaped:
        escape(static_cast<unsigned char>(segment[i]));
        break;
      case kPercent: {
        unsigned char byte = 0;
        if (!read_escape(segment, i, byte) || byte == 0) return nullptr;
        if (path_byte(static_cast<char>(byte)) == kUnreserved) {
          *out++ = static_cast<char>(byte);
        } else {
          escape(byte);
        }
        i += 2;
        break;
      }
      default:
        return nullptr;
    }
  }
  return out;
}

// Writes the normal form of `path`, which begins with '/', to `out` and returns its end; null
// where the path is refused. The result never ends inside a segment that was removed: what is
// written is always a sequence of "/segment".
char* rewrite_path(std::string_view path, bool merge_slashes, char* const out) {
  char* end = out;
  for (size_t begin = 0; begin < path.size();) {
    size_t next = path.find('/', begin + 1);
    const bool last = next == std::string_view::npos;
    if (last) next = path.size();

    char* const segment = end + 1;
    char* const segment_end = write_segment(path.substr(begin + 1, next - begin - 1), segment);
    if (segment_end == nullptr) return nullptr;
    const std::string_view name(segment, static_cast<size_t>(segment_end - segment));
    begin = next;

    const bool up = name == "..";
    if (up || name == "." || (name.empty() && merge_slashes)) {
      if (up) {
        if (end == out) return nullptr;
        while (*--end != '/') {
        }
      }
      if (last) *end++ = '/';
      continue;
    }
    if (dot_segment(name) || hides_dot_segment(name)) return nullptr;
    *end = '/';
    end = segment_end;
  }
  return end;
}

// %00 ends the text early for programs that decode into C strings.
bool holds_escaped_nul(std::string_view text) {
  return text.find("%00") != std::string_view::npos;
}

// Path and query from the rest of a target: [ path ] [ "?" query ], all bytes in 0x21 to 0x7E.
Reason parse_path_and_query(std::string_view rest, const TargetOptions& options,
                            std::pmr::memory_resource& arena, RequestTarget& out) {
  const size_t mark = rest.find('?');
  std::string_view path = rest.substr(0, mark);
  std::string_view tail;  // '?' and the query
  if (mark != std::string_view::npos) {
    tail = rest.substr(mark);
    if (holds_escaped_nul(tail) || tail.find('#') != std::string_view::npos) {
      return Reason::kBadTarget;
    }
    out.has_query = true;
    out.query = tail.substr(1);
  }
  if (!path.empty() && normal_path(path, options.merge_slashes)) [[likely]] {
    out.path = path;
    out.wire = rest;
    return Reason::kNone;
  }
  if (path.empty()) path = "/";
  // Each byte of the path may become an escape of three.
  char* const buffer = static_cast<char*>(arena.allocate(path.size() * 3 + tail.size(), 1));
  char* const end = rewrite_path(path, options.merge_slashes, buffer);
  if (end == nullptr) return Reason::kBadTarget;
  const auto size = static_cast<size_t>(end - buffer);
  if (std::string_view(buffer, size) == rest.substr(0, mark)) {
    out.path = path;
    out.wire = rest;
    return Reason::kNone;
  }
  std::copy(tail.begin(), tail.end(), end);
  out.path = {buffer, size};
  out.wire = {buffer, size + tail.size()};
  return Reason::kNone;
}

Reason parse_connect(std::string_view raw, std::pmr::memory_resource& arena, RequestTarget& out) {
  if (!parse_authority(raw, arena, out.authority) || out.authority.port == 0) {
    return Reason::kBadTarget;
  }
  out.form = TargetForm::kAuthority;
  out.has_authority = true;
  out.wire = out.authority.text;
  return Reason::kNone;
}

Reason parse_absolute(std::string_view raw, Method method, const TargetOptions& options,
                      std::pmr::memory_resource& arena, RequestTarget& out) {
  const size_t colon = raw.find("://");
  if (colon == std::string_view::npos) return Reason::kBadTarget;
  const std::string_view scheme = raw.substr(0, colon);
  out.https = equal_ignoring_case(scheme, "https");
  if (!out.https && !equal_ignoring_case(scheme, "http")) return Reason::kBadTarget;
  raw.remove_prefix(colon + 3);

  const size_t end = std::min(raw.find_first_of("/?"), raw.size());
  if (!parse_authority(raw.substr(0, end), arena, out.authority)) return Reason::kBadHost;
  out.form = TargetForm::kAbsolute;
  out.has_authority = true;
  if (end == raw.size() && method == Method::kOptions) {  // RFC 9112 §3.2.4
    out.form = TargetForm::kAsterisk;
    out.path = out.wire = "*";
    return Reason::kNone;
  }
  return parse_path_and_query(raw.substr(end), options, arena, out);
}

}  // namespace

Reason parse_target(std::string_view raw, Method method, const TargetOptions& options,
                    std::pmr::memory_resource& arena, RequestTarget& out) {
  out = RequestTarget();
  if (raw.empty() ||
      chars::scan_target(raw.data(), raw.data() + raw.size()) != raw.data() + raw.size()) {
    return Reason::kBadTarget;
  }
  // A '#' is refused in every form: here where a path is read, and below for the others.
  if (raw.front() == '/' && method != Method::kConnect) [[likely]] {
    return parse_path_and_query(raw, options, arena, out);
  }
  if (std::memchr(raw.data(), '#', raw.size()) != nullptr) return Reason::kBadTarget;
  if (method == Method::kConnect) return parse_connect(raw, arena, out);
  if (raw == "*") {
    if (method != Method::kOptions) return Reason::kBadTarget;
    out.form = TargetForm::kAsterisk;
    out.path = out.wire = raw;
    return Reason::kNone;
  }
  return parse_absolute(raw, method, options, arena, out);
}

}  // namespace gatehouse
