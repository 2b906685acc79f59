// The grammar of [route] upstream.
#include "http/split_conf.h"

#include <criterion/criterion.h>

#include <string>

namespace {

using namespace gatehouse;
using Type = ValueType<RouteUpstream>;

RouteUpstream good(const std::string& text) {
  Result<RouteUpstream> parsed = Type::parse(text);
  cr_assert(parsed.ok(), "%s: %s", text.c_str(), parsed ? "" : parsed.error().message.c_str());
  const Result<RouteUpstream> again = Type::parse(Type::format(*parsed));
  cr_assert(again.ok() && *again == *parsed, "%s came back as %s", text.c_str(),
            Type::format(*parsed).c_str());
  return *parsed;
}

void bad(const std::string& text, const std::string& why) {
  const Result<RouteUpstream> parsed = Type::parse(text);
  cr_assert(!parsed.ok(), "%s was taken", text.c_str());
  cr_assert(parsed.error().message.find(why) != std::string::npos, "%s: %s", text.c_str(),
            parsed.error().message.c_str());
}

}  // namespace

Test(split_conf, one_upstream_is_no_split) {
  cr_assert(good("users").is_single());
  cr_assert(good("http://127.0.0.1:3000").is_single());
  cr_assert(!good("users 100%").is_single());
}

Test(split_conf, takes_shares_that_come_to_the_whole) {
  const RouteUpstream split = good("users 94.5%,users_next 5% , http://[::1]:80 0.5%");
  cr_assert_eq(split.sides.size(), 3u);
  cr_assert_eq(split.sides[0].share->hundredths, 9450u);
  cr_assert_eq(split.sides[2].upstream, "http://[::1]:80");
  cr_assert(split.cookie.empty());
  cr_assert_eq(good("a 100%, b 0% sticky cookie side").cookie, "side");
}

Test(split_conf, takes_conditions) {
  const RouteUpstream split = good(
      "users, next if header X-Beta: 1, next if header X-Any, old if cookie beta=no, "
      "old if cookie any, odd if header X-Text: \"a, \\\"b\\\"\"");
  cr_assert_eq(split.sides.size(), 6u);
  cr_assert_eq(*split.sides[1].condition->value, "1");
  cr_assert(!split.sides[2].condition->value);
  cr_assert(split.sides[3].condition->kind == SplitCondition::Kind::kCookie);
  cr_assert_eq(*split.sides[3].condition->value, "no");
  cr_assert_eq(*split.sides[5].condition->value, "a, \"b\"");
  good("users 90%, next 10%, next if header X-Beta:1 sticky cookie side");
}

Test(split_conf, says_what_is_wrong) {
  bad("users,", "a comma without an upstream");
  bad(", users", "a comma without an upstream");
  bad("users 95%, next 4%", "the shares come to 99%, not to 100%");
  bad("users 95%, next 5.5%", "the shares come to 100.5%, not to 100%");
  bad("users 50%", "the shares come to 50%");
  bad("users 95%, next", "next has neither a share nor a condition");
  bad("users, next", "users has neither a share nor a condition");
  bad("users if header X-A", "one has to take the rest");
  bad("users 50%, users 50%", "users is there twice");
  bad("users 5% 5%", "\"5%\" is neither");
  bad("users 200%", "\"200%\"");
  bad("users next", "\"next\" is neither a share");
  bad("users sticky cookie side", "there are none");
  bad("users 50%, next 50% sticky", "sticky cookie NAME");
  bad("users 50%, next 50% sticky cookie", "not the name of a cookie");
  bad("users 50%, next 50% sticky cookie a b", "more behind");
  bad("users 50% sticky cookie a, next 50%", "at the end");
  bad("users, next if weather fine", "a header or a cookie");
  bad("users, next if header X A: 1", "\"A:\" is neither");
  bad("users, next if header A: \"b", "quotation mark");
  bad("users, next if cookie a;b", "not the name of a cookie");
  bad("users, next if cookie a=b;c", "no cookie has a ;");
  bad("users, next 5% if cookie a", "a share and a condition");
  bad("users, next if cookie a 5%", "\"5%\" is neither");
  std::string many = "a";
  for (size_t i = 0; i < kSplitSidesMax; ++i) many += ", b if cookie c";
  bad(many, "more than 32");
}

Test(split_conf, conditions_look_at_the_request) {
  FieldList fields;
  fields.push("X-Beta", "0");
  fields.push("x-beta", "1");
  fields.push("User-Agent", "curl");
  fields.push("Cookie", "a=1; beta=yes");
  const auto holds = [&](const std::string& condition) {
    return good("users, next if " + condition).sides[1].condition->holds(fields);
  };
  cr_assert(holds("header X-Beta: 1"));
  cr_assert(holds("header X-BETA"));
  cr_assert(holds("header User-Agent: curl"));
  cr_assert(!holds("header User-Agent: wget"));
  cr_assert(!holds("header X-Beta: 2"));
  cr_assert(!holds("header X-Gamma"));
  cr_assert(!holds("header Accept"));
  cr_assert(holds("cookie beta=yes"));
  cr_assert(holds("cookie beta"));
  cr_assert(!holds("cookie beta=no"));
  cr_assert(!holds("cookie gamma"));
}
