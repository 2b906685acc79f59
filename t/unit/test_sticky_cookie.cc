// Reading and setting the cookie that names a target, and the metrics of targets.
#include "http/sticky_cookie.h"

#include <criterion/criterion.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "http/exchange.h"
#include "http/prometheus_targets.h"

namespace {

using namespace gatehouse;

std::optional<uint64_t> found(const std::vector<std::string>& cookies) {
  FieldList fields;
  for (const std::string& cookie : cookies) fields.push("Cookie", cookie);
  return find_sticky_cookie(fields, "place");
}

}  // namespace

Test(sticky_cookie, is_found_among_others) {
  cr_assert_eq(found({"place=00000000000000ff"}), 255u);
  cr_assert_eq(found({"a=1; place=00000000000000ff; b=2"}), 255u);
  cr_assert_eq(found({"a=1", "b=2;place=ffffffffffffffff"}), UINT64_MAX);
  cr_assert_eq(found({"place=garbage; place=0000000000000001"}), 1u);
}

Test(sticky_cookie, anything_else_is_none) {
  for (const char* text :
       {"", "place", "place=", "place=ff", "place=00000000000000f ", "place=00000000000000fg",
        "replace=00000000000000ff", "places=00000000000000ff", "place =0000000000000ff",
        "place=\"0000000000000ff\"", "place=-00000000000000f", ";;;", "=;="}) {
    cr_assert_not(found({text}).has_value(), "%s", text);
  }
  cr_assert_not(found({}).has_value());
}

Test(sticky_cookie, a_second_try_replaces_the_first) {
  Exchange exchange;
  exchange.add_response_field("Set-Cookie", "hers=1");
  BalanceConf conf;
  conf.cookie = "place";
  std::string_view field;
  set_sticky_cookie(exchange, conf, 255, field);
  conf.secure = true;
  conf.domain = "example.com";
  conf.same_site = "none";
  set_sticky_cookie(exchange, conf, 254, field);
  cr_assert_eq(exchange.response.added.size(), 2u);
  cr_assert_eq(exchange.response.added[0].value, "hers=1");
  cr_assert_eq(exchange.response.added[1].value,
               "place=00000000000000fe; Path=/; Domain=example.com; Secure; SameSite=None; "
               "HttpOnly");
  exchange.reset();
}

Test(sticky_cookie, metrics_tell_the_state_of_targets) {
  fmt::memory_buffer none;
  write_targets({}, none);
  cr_assert_eq(none.size(), 0u);
  TargetReport report;
  report.upstream = "app";
  report.target = "10.0.0.1:80";
  report.state = TargetStand::kEjected;
  report.in_flight = 3;
  report.settings.weight = 7;
  fmt::memory_buffer out;
  write_targets({report}, out);
  const std::string text = fmt::to_string(out);
  const std::string labels = "{upstream=\"app\",target=\"10.0.0.1:80\"} ";
  for (const std::string& line :
       {"gatehouse_target_state" + labels + "2\n", "gatehouse_target_in_flight" + labels + "3\n",
        "gatehouse_target_weight" + labels + "7\n"}) {
    cr_assert_neq(text.find(line), std::string::npos, "%s in %s", line.c_str(), text.c_str());
  }
}
