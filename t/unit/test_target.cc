// Request targets: each form, each rule of normalisation, and that normal targets are not copied.
#include "http/target.h"

#include <criterion/criterion.h>

#include <memory>
#include <string>

namespace gatehouse {
namespace {

using namespace std::string_literals;

struct Parsed {
  Reason reason = Reason::kNone;
  RequestTarget target;
  std::pmr::monotonic_buffer_resource arena;
};

std::unique_ptr<Parsed> parse(std::string_view raw, Method method = Method::kGet,
                              bool merge_slashes = true) {
  auto parsed = std::make_unique<Parsed>();
  parsed->reason =
      parse_target(raw, method, {.merge_slashes = merge_slashes}, parsed->arena, parsed->target);
  return parsed;
}

// The wire form of an accepted target; "!code" for a refused one. Checks on the way what holds for
// all of them.
std::string wire(const std::string& raw, Method method = Method::kGet, bool merge_slashes = true) {
  const auto first = parse(raw, method, merge_slashes);
  if (first->reason != Reason::kNone) return "!"s + reason_info(first->reason).code;
  const RequestTarget& target = first->target;
  if (target.wire == raw) cr_assert_eq(target.wire.data(), raw.data(), "%s copied", raw.c_str());
  if (target.form == TargetForm::kOrigin || target.form == TargetForm::kAbsolute) {
    std::string joined(target.path);
    if (target.has_query) joined += "?" + std::string(target.query);
    cr_assert(target.wire == joined, "%s", joined.c_str());
    const auto again = parse(target.wire, method, merge_slashes);
    cr_assert(again->reason == Reason::kNone && again->target.wire == target.wire,
              "%s is not normal", joined.c_str());
  }
  return std::string(target.wire);
}

void is(const std::string& actual, const std::string& wanted) {
  cr_assert(actual == wanted, "%s instead of %s", actual.c_str(), wanted.c_str());
}
void same(const std::string& raw) {
  is(wire(raw), raw);
}
void becomes(const std::string& raw, const std::string& wanted) {
  const std::string actual = wire(raw);
  cr_assert(actual == wanted, "%s becomes %s", raw.c_str(), actual.c_str());
}
void refused(const std::string& raw) {
  becomes(raw, "!bad_target");
}

Test(target, normal_paths_stay_as_they_are) {
  for (const auto* raw : {"/",
                          "/a",
                          "/a/",
                          "/a/b.c",
                          "/.well-known/x",
                          "/...",
                          "/a/..b",
                          "/a/.b",
                          "/a..",
                          "/a.",
                          "/-._~!$&'()*+,;=:@",
                          "/%20%C3%A9",
                          "/a%3Fb%23",
                          "/a;v=1/b",
                          "/a%2Fb",
                          "/a%5Cb",
                          "/%25",
                          "/%252e%252e/",
                          "/?",
                          "/?a=b&c=d",
                          "/a?",
                          "/a?//../%2e%zz%",
                          "/a?b?c",
                          "/a?\\|{}^`\"<>"}) {
    same(raw);
  }
}

Test(target, escapes_are_brought_to_one_spelling) {
  becomes("/%61%7E%2d%5f%2E", "/a~-_.");
  becomes("/%c3%a9", "/%C3%A9");
  becomes("/a%2fb", "/a%2Fb");
  becomes("/a%5cb", "/a%5Cb");
  becomes("/%41?%41", "/A?%41");
  becomes("/%2561", "/%2561");
  becomes("/%3b%3B", "/%3B%3B");
}

Test(target, what_browsers_send_raw_is_escaped_in_a_path) {
  becomes("/{a}|^`\"<>[]", "/%7Ba%7D%7C%5E%60%22%3C%3E%5B%5D");
}

Test(target, empty_segments_are_merged) {
  becomes("//", "/");
  becomes("///a//b///", "/a/b/");
  becomes("//evil.example/x", "/evil.example/x");
  becomes("/a//../b", "/b");
  becomes("/a/%2E//b", "/a/b");
}

Test(target, empty_segments_are_kept_where_asked) {
  is(wire("//a//b//", Method::kGet, false), "//a//b//");
  is(wire("/a//../b", Method::kGet, false), "/a/b");
  is(wire("/a//./b", Method::kGet, false), "/a//b");
  is(wire("//..", Method::kGet, false), "/");
  is(wire("//../..", Method::kGet, false), "!bad_target");
}

// RFC 3986 §5.2.4, with decoded dots.
Test(target, dot_segments_are_removed_after_decoding) {
  becomes("/a/b/../c", "/a/c");
  becomes("/a/./b", "/a/b");
  becomes("/.", "/");
  becomes("/a/.", "/a/");
  becomes("/a/..", "/");
  becomes("/a/../", "/");
  becomes("/a/b/..", "/a/");
  becomes("/a/b/../../c", "/c");
  becomes("/a/b/c/./../../g", "/a/g");
  becomes("/a/%2e%2e/b", "/b");
  becomes("/a/.%2E/b", "/b");
  becomes("/a/%2e./b", "/b");
  becomes("/a/%2e/b", "/a/b");
  becomes("/./a?q", "/a?q");
  becomes("/a/../b?../c", "/b?../c");
}

Test(target, paths_that_climb_above_their_root_are_refused) {
  for (const auto* raw :
       {"/..", "/../", "/../a", "/a/../../b", "/%2e%2e/a", "/./..", "//..", "/a/..//.."}) {
    refused(raw);
  }
}

Test(target, what_some_servers_take_for_dot_segments_is_refused) {
  for (const auto* raw : {"/a/..;/b", "/a/..;x=1/b", "/a/.;/b", "/a/%2e%2e;/b", "/a/..%2fb",
                          "/a/..%2Fb", "/a/%2e%2e%2fb", "/a/..%5cb", "/a/b%2f..", "/a/b%5C..%5Cc",
                          "/a/b%2f.%2fc", "/a/%2f..;x%2fb", "/..%2f"}) {
    refused(raw);
  }
  same("/a/...%2Fb");
  same("/a/b%2F...");
  same("/a/%2F%2F");
}

Test(target, bytes_that_no_target_may_hold) {
  for (const auto* raw : {"", "/a#b", "#", "/a?b#c", "/a b", "/a\\b", "/\\..\\", "/\xC3\xA9",
                          "/a\x7F", "/a\tb", "/a\r", "/?\xC3\xA9", "/? "}) {
    refused(raw);
  }
  refused("/\0"s);
  refused("/a?\0"s);
  for (const auto* raw : {"/%", "/%a", "/%zz", "/%2", "/a%2/b", "/%%", "/%2%65", "/%00", "/a%00b",
                          "/a?%00", "/a?b=%00&c", "/%u002e", "/%-1"}) {
    refused(raw);
  }
}

Test(target, absolute_form) {
  becomes("http://Example.com/a", "/a");
  becomes("HTTP://example.com:8080/a?b", "/a?b");
  becomes("https://example.com", "/");
  becomes("http://example.com?q", "/?q");
  becomes("http://example.com/a/../b", "/b");
  becomes("http://[::1]:80/", "/");
  const std::string raw = "https://Example.COM:8443/a?b=c";
  const auto parsed = parse(raw);
  cr_assert(parsed->target.form == TargetForm::kAbsolute && parsed->target.https);
  cr_assert(parsed->target.has_authority && parsed->target.has_query);
  cr_assert(parsed->target.authority.host == "example.com");
  cr_assert(parsed->target.authority.text == "example.com:8443");
  cr_assert_eq(parsed->target.authority.port, 8443);
  cr_assert(parsed->target.path == "/a" && parsed->target.query == "b=c");
  cr_assert_not(parse("http://a/")->target.https);
  cr_assert_not(parse("/a")->target.has_authority);
}

Test(target, absolute_forms_that_are_refused) {
  for (const auto* raw : {"ftp://a/", "file:///etc", "http:/a", "http:a", "a/b", "example.com:80",
                          "ws://a/", "://a/", "javascript:alert(1)", "http:\\\\a\\", "?a", "a"}) {
    refused(raw);
  }
  for (const auto* raw :
       {"http:///a", "http://", "http://u@a/", "http://u:p@a/", "http://a:0/", "http://a:99999/",
        "http://a,b/", "http://a\\b/", "http://a:80:80/", "http://[::1/", "http://a%2eb/"}) {
    becomes(raw, "!bad_host");
  }
  refused("http://a#b");
}

Test(target, asterisk_and_authority_form) {
  is(wire("*", Method::kOptions), "*");
  cr_assert(parse("*", Method::kOptions)->target.form == TargetForm::kAsterisk);
  refused("*");
  is(wire("*a", Method::kOptions), "!bad_target");
  const auto options = parse("http://a:81", Method::kOptions);
  cr_assert(options->target.form == TargetForm::kAsterisk && options->target.wire == "*");
  cr_assert(options->target.authority.text == "a:81");
  is(wire("http://a/", Method::kOptions), "/");

  is(wire("A.b:443", Method::kConnect), "a.b:443");
  const std::string raw = "a:443";
  const auto connect = parse(raw, Method::kConnect);
  cr_assert(connect->target.form == TargetForm::kAuthority && connect->target.has_authority);
  cr_assert_eq(connect->target.authority.port, 443);
  for (const auto* bad : {"a", "a:", "/", "http://a:1/", "u@a:1", "a:1/", "*", ":1", "a:1?"}) {
    is(wire(bad, Method::kConnect), "!bad_target");
  }
}

// Every byte in a path and in a query: refused, kept or escaped, and never anything else.
Test(target, each_byte) {
  const std::string plain = "-._~!$&'()*+,;=:@";
  const std::string escaped = "{}|^`\"<>[]";
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    const std::string raw = "/x"s + c + "y";
    const bool alnum = i < 128 && std::isalnum(i) != 0;
    if (alnum || c == '/' || c == '?' || (i != 0 && plain.find(c) != std::string::npos)) {
      same(raw);
    } else if (i != 0 && escaped.find(c) != std::string::npos) {
      char wanted[16];
      std::snprintf(wanted, sizeof wanted, "/x%%%02Xy", static_cast<unsigned>(i));
      becomes(raw, wanted);
    } else {
      refused(raw);
    }
    const std::string query = "/x?"s + c;
    if (i > 0x20 && i < 0x7F && c != '#') {
      same(query);
    } else {
      refused(query);
    }
    // Escaped, in both cases of digits: decoded where unreserved, else upper-case.
    char lower[16];
    char upper[16];
    std::snprintf(lower, sizeof lower, "/x%%%02xy", static_cast<unsigned>(i));
    std::snprintf(upper, sizeof upper, "/x%%%02Xy", static_cast<unsigned>(i));
    const bool unreserved = alnum || c == '-' || c == '.' || c == '_' || c == '~';
    const std::string wanted = i == 0 ? "!bad_target" : unreserved ? "/x"s + c + "y" : upper;
    becomes(lower, wanted);
    becomes(upper, wanted);
  }
}

}  // namespace
}  // namespace gatehouse
