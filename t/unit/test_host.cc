// Hosts and ports: what is accepted, in which one spelling, and what is refused.
#include "http/host.h"

#include <criterion/criterion.h>

#include <string>

namespace gatehouse {
namespace {

using namespace std::string_literals;

void accept(const std::string& raw, const std::string& host, int port, const std::string& text) {
  std::pmr::monotonic_buffer_resource arena;
  Authority out;
  cr_assert(parse_authority(raw, arena, out), "%s is refused", raw.c_str());
  cr_assert(out.host == host, "%s: host is %s", raw.c_str(), std::string(out.host).c_str());
  cr_assert(out.text == text, "%s: text is %s", raw.c_str(), std::string(out.text).c_str());
  cr_assert_eq(out.port, port);
  if (raw == text) cr_assert_eq(out.text.data(), raw.data(), "%s was copied", raw.c_str());

  // One spelling: the result is its own normal form.
  Authority again;
  cr_assert(parse_authority(out.text, arena, again), "%s", text.c_str());
  cr_assert(again.text == out.text && again.host == out.host && again.port == out.port);
}

void refuse(const std::string& raw) {
  std::pmr::monotonic_buffer_resource arena;
  Authority out;
  cr_assert_not(parse_authority(raw, arena, out), "%s is accepted", raw.c_str());
}

Test(host, names) {
  accept("example.com", "example.com", 0, "example.com");
  accept("a", "a", 0, "a");
  accept("my_service-1.internal:8080", "my_service-1.internal", 8080, "my_service-1.internal:8080");
  accept("Example.COM", "example.com", 0, "example.com");
  accept("Example.COM:443", "example.com", 443, "example.com:443");
  accept("example.com.", "example.com", 0, "example.com");
  accept("example.com.:80", "example.com", 80, "example.com:80");
  accept("127.0.0.1:3000", "127.0.0.1", 3000, "127.0.0.1:3000");
  accept(std::string(63, 'a') + ".b", std::string(63, 'a') + ".b", 0, std::string(63, 'a') + ".b");
}

Test(host, ports) {
  accept("a:1", "a", 1, "a:1");
  accept("a:65535", "a", 65535, "a:65535");
  accept("a:", "a", 0, "a");
  accept("a:0080", "a", 80, "a:80");
  for (const auto* raw : {"a:0", "a:65536", "a:99999", "a:123456", "a:-1", "a:+80", "a:8 0",
                          "a:80a", "a:0x50", "a:80:80", "a::80", ":80", ":"}) {
    refuse(raw);
  }
}

Test(host, ipv6) {
  accept("[::1]", "[::1]", 0, "[::1]");
  accept("[2001:db8::1]:8443", "[2001:db8::1]", 8443, "[2001:db8::1]:8443");
  accept("[2001:0DB8:0:0:0:0:0:1]", "[2001:db8::1]", 0, "[2001:db8::1]");
  accept("[2001:0DB8:0:0:0:0:0:1]:", "[2001:db8::1]", 0, "[2001:db8::1]");
  accept("[::FFFF:192.0.2.1]:80", "[::ffff:192.0.2.1]", 80, "[::ffff:192.0.2.1]:80");
  for (const auto* raw : {"[]", "[", "[::1", "::1", "[::1]x", "[::1]80", "[::1%25eth0]", "[::1%lo]",
                          "[v1.fe80::a]", "[1.2.3.4]", "[::g]", "[::1]]", "[[::1]]", "[:::1]",
                          "[0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:1]", "a[::1]"}) {
    refuse(raw);
  }
  refuse("[::1\0]"s);
}

Test(host, what_programs_disagree_about) {
  for (const auto* raw :
       {"",    " ",           "a b",    "a,b",      "a, b", "user@a", "user:pw@a", "a/b",
        "a?b", "a#b",         "a\\b",   "a%2eb",    "a%00", "a..b",   ".a",        ".",
        "..",  "a;b",         "a\tb",   "http://a", "a!",   "a=b",    "(a)",       "*",
        "*.a", "caf\xC3\xA9", "a.:80:", "a..",      "a\"",  "a|b",    "${jndi}"}) {
    refuse(raw);
  }
  refuse("a\0"s);
  refuse("a\r\n");
  refuse(std::string(64, 'a'));
  std::string name;
  for (int i = 0; i < 127; ++i) name += "a.";
  refuse(name + "aa");
  name.pop_back();
  accept(name, name, 0, name);
}

}  // namespace
}  // namespace gatehouse
