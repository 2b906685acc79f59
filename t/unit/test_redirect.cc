// The action redirect, compiled from a configuration and run on an exchange.
#include <criterion/criterion.h>

#include <memory>
#include <string>

#include "expect_text.h"
#include "route_action.h"

using namespace gatehouse;
using namespace gatehouse::route_action;

namespace {

// A redirect's Location for the exchange of fill().
std::string location(const std::string& value) {
  const Built built("redirect = " + value + "\n");
  Exchange exchange;
  fill(exchange);
  run(built, exchange);
  return std::to_string(exchange.response.status) + " " + field_of(exchange, "Location");
}

}  // namespace

Test(redirect, statuses_and_urls) {
  expect(location("https://b.example/"), "302 https://b.example/");
  expect(location("301 https://$host$uri"), "301 https://a.example/p?q=1");
  expect(location("308 /new$path"), "308 /new/p");
  expect(location("303 /?a=$header_user_agent"), "303 /?a=%3Cb%3E%22x%22%0D%0AX-Evil:%201");
}

Test(redirect, without_a_host_there_is_nowhere_to_go) {
  const Built built("redirect = https://$host$uri\n");
  Exchange exchange;
  fill(exchange);
  exchange.request.authority.host = {};
  run(built, exchange);
  cr_expect_eq(exchange.response.status, 400);
  cr_expect(exchange.reason == Reason::kMissingHost);
  expect(field_of(exchange, "Location"), "(absent)");
}

Test(redirect, is_told_to_explain) {
  const Built built("redirect = /x\n");
  cr_expect(built.action().name == "redirect");
  expect(built.action().detail, "302 /x");
}
