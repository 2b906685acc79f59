// Request targets and hosts.
//
// What must hold for every input: a result is its own normal form; it holds no dot segment, no
// empty segment, no byte outside the grammar, and no escape that could be written in another way;
// and reading it as a lenient server would, with all escapes decoded, climbs nowhere.
//
// The first byte of the input chooses the method and the options.
#include "http/target.h"

#include <cstdint>
#include <string>

#include "http/chars.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

std::string decode_all(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    require(text.size() - i >= 3 && chars::is(text[i + 1], chars::kHex) &&
                chars::is(text[i + 2], chars::kHex),
            "escapes are whole");
    require(!(text[i + 1] >= 'a') && !(text[i + 2] >= 'a'), "their digits are upper-case");
    const char c =
        static_cast<char>(chars::hex_value(text[i + 1]) << 4 | chars::hex_value(text[i + 2]));
    require(c != '\0', "none is NUL");
    require(!chars::is(c, chars::kPlain) && c != '.' && c != '_' && c != '~',
            "none stands for an unreserved character");
    out += c == '\\' ? '/' : c;
    i += 2;
  }
  return out;
}

void check_path(std::string_view path, bool merge_slashes) {
  require(!path.empty() && path.front() == '/', "a path begins with a slash");
  for (const char c : path) {
    require(chars::is(c, chars::kPlain) ||
                std::string_view("._~!$&'()*+,;=:@/%").find(c) != std::string_view::npos,
            "a path holds the bytes of the grammar");
  }
  require(!merge_slashes || path.find("//") == std::string_view::npos, "slashes are merged");
  std::string decoded = decode_all(path) + "/";
  for (size_t at = 0; (at = decoded.find('/', at)) + 1 < decoded.size(); ++at) {
    std::string segment = decoded.substr(at + 1, decoded.find('/', at + 1) - at - 1);
    require(segment != "." && segment != "..", "no dot segment is left, however it is decoded");
  }
  std::string raw = std::string(path) + "/";
  for (size_t at = 0; (at = raw.find('/', at)) + 1 < raw.size(); ++at) {
    const std::string segment = raw.substr(at + 1, raw.find_first_of("/;", at + 1) - at - 1);
    require(segment != "." && segment != "..", "nor one with parameters");
  }
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 1) return 0;
  const auto method = static_cast<Method>(data[0] % static_cast<unsigned>(Method::kCount));
  const TargetOptions options{.merge_slashes = (data[0] & 0x80) == 0};
  // A copy of the exact size, so that the address sanitizer sees each byte too far.
  const std::string copy(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view raw(copy.data(), copy.size());
  std::pmr::monotonic_buffer_resource arena;
  RequestTarget target;
  const Reason reason = parse_target(raw, method, options, arena, target);
  require(reason == Reason::kNone || reason == Reason::kBadTarget || reason == Reason::kBadHost,
          "a refusal says target or host");
  if (reason == Reason::kNone) {
    const std::string wire(target.wire);
    if (target.form == TargetForm::kOrigin || target.form == TargetForm::kAbsolute) {
      check_path(target.path, options.merge_slashes);
      std::string joined(target.path);
      if (target.has_query) joined += "?" + std::string(target.query);
      require(joined == wire, "the wire form is path and query");
    }
    RequestTarget again;
    require(parse_target(wire, method, options, arena, again) == Reason::kNone &&
                again.wire == wire && again.path == target.path && again.query == target.query,
            "a result is its own normal form");
  }

  Authority authority;
  if (parse_authority(raw, arena, authority)) {
    const std::string text(authority.text);
    Authority again;
    require(parse_authority(text, arena, again) && again.text == text &&
                again.host == authority.host && again.port == authority.port &&
                again.text.data() == text.data(),
            "a host is its own normal form");
    require(text.find_first_of(" ,@/\\?#%") == std::string::npos, "a host holds nothing else");
  }
  return 0;
}
