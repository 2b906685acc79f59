// The values that routes match by: what is accepted, how it is spelled, what it matches.
#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "expect_text.h"
#include "http/route_match.h"

using namespace gatehouse;

namespace {

// The pattern's one spelling, or "error: …".
template <class T>
std::string parsed(std::string_view text) {
  Result<T> value = ValueType<T>::parse(text);
  if (!value) return "error: " + value.error().message;
  const std::string shown = ValueType<T>::format(*value);
  Result<T> again = ValueType<T>::parse(shown);
  cr_assert(again, "%s does not parse again", shown.c_str());
  cr_assert(ValueType<T>::format(*again) == shown);
  return shown;
}

template <class T>
bool refused(std::string_view text, std::string_view why) {
  const std::string shown = parsed<T>(text);
  const bool ok = shown.starts_with("error: ") && shown.find(why) != std::string::npos;
  if (!ok) cr_log_error("%s: %s", std::string(text).c_str(), shown.c_str());
  return ok;
}

bool field_holds(std::string_view condition, FieldList& fields) {
  Result<FieldCondition> parsed_condition = ValueType<FieldCondition>::parse(condition);
  cr_assert(parsed_condition);
  return parsed_condition->holds(fields);
}

bool query_holds(std::string_view condition, std::string_view query) {
  Result<QueryCondition> parsed_condition = ValueType<QueryCondition>::parse(condition);
  cr_assert(parsed_condition);
  return parsed_condition->holds(query);
}

}  // namespace

Test(route_match, hosts_have_one_spelling) {
  expect(parsed<HostPattern>("API.Example.com."), "api.example.com");
  expect(parsed<HostPattern>("*.Example.COM"), "*.example.com");
  expect(parsed<HostPattern>("*"), "*");
  expect(parsed<HostPattern>("[2001:DB8:0:0::1]"), "[2001:db8::1]");
  expect(parsed<HostPattern>("192.0.2.1"), "192.0.2.1");
}

Test(route_match, hosts_that_cannot_be) {
  cr_expect(refused<HostPattern>("example.com:80", "port"));
  cr_expect(refused<HostPattern>("example.com:", "port"));
  cr_expect(refused<HostPattern>("*.example.com:80", "port"));
  cr_expect(refused<HostPattern>("www.*.com", "*"));
  cr_expect(refused<HostPattern>("*example.com", "*"));
  cr_expect(refused<HostPattern>("http://example.com", "URL"));
  cr_expect(refused<HostPattern>("a..b", "host name"));
  cr_expect(refused<HostPattern>("bücher.example", "xn--"));
  cr_expect(refused<HostPattern>("*.0.0.1", "names"));
  cr_expect(refused<HostPattern>("", "host name"));
  cr_expect(refused<HostPattern>("*.", "host name"));
}

Test(route_match, wildcards_match_below_and_not_the_name_itself) {
  Result<HostPattern> pattern = ValueType<HostPattern>::parse("*.example.com");
  cr_assert(pattern);
  cr_expect(pattern->matches("a.example.com"));
  cr_expect(pattern->matches("a.b.example.com"));
  cr_expect(not pattern->matches("example.com"));
  cr_expect(not pattern->matches(".example.com"));
  cr_expect(not pattern->matches("badexample.com"));
  cr_expect(not pattern->matches(""));
}

Test(route_match, paths_have_one_spelling) {
  expect(parsed<PathPattern>("/"), "/");
  expect(parsed<PathPattern>("/*"), "/*");
  expect(parsed<PathPattern>("/a/b"), "/a/b");
  expect(parsed<PathPattern>("/a/b/"), "/a/b/");
  expect(parsed<PathPattern>("/%7euser/%2f"), "/~user/%2F");
  expect(parsed<PathPattern>("/café/*"), "/caf%C3%A9/*");
  expect(parsed<PathPattern>("/u/{id}/posts/{post_2}"), "/u/{id}/posts/{post_2}");
  expect(parsed<PathPattern>("/u/{id}/*"), "/u/{id}/*");
  expect(parsed<PathPattern>("~^/a b$"), "~ ^/a b$");
  expect(parsed<PathPattern>("~   ^/(?<v>\\d+)$"), "~ ^/(?<v>\\d+)$");
}

Test(route_match, paths_that_can_never_match) {
  cr_expect(refused<PathPattern>("a/b", "begins with /"));
  cr_expect(refused<PathPattern>("*", "begins with /"));
  cr_expect(refused<PathPattern>("/a//b", "never match"));
  cr_expect(refused<PathPattern>("/a/./b", "never match"));
  cr_expect(refused<PathPattern>("/a/.", "never match"));
  cr_expect(refused<PathPattern>("/a/..", "never match"));
  cr_expect(refused<PathPattern>("/a/%2e%2e/b", "never match"));
  cr_expect(refused<PathPattern>("/../a", "refused"));
  cr_expect(refused<PathPattern>("/a%00", "refused"));
  cr_expect(refused<PathPattern>("/a%zz", "refused"));
  cr_expect(refused<PathPattern>("/a\\b", "refused"));
  cr_expect(refused<PathPattern>("/a#b", "refused"));
  cr_expect(refused<PathPattern>("/a?b=1", "query"));
  cr_expect(refused<PathPattern>("/a /b", "blank"));
  cr_expect(refused<PathPattern>("/a*", "last slash"));
  cr_expect(refused<PathPattern>("/*/a", "last slash"));
}

Test(route_match, captures_are_whole_named_segments) {
  cr_expect(refused<PathPattern>("/u{id}", "whole segment"));
  cr_expect(refused<PathPattern>("/{id}.json", "whole segment"));
  cr_expect(refused<PathPattern>("/{}", "no name"));
  cr_expect(refused<PathPattern>("/{Id}", "no name"));
  cr_expect(refused<PathPattern>("/{a}/{a}", "twice"));
  cr_expect(refused<PathPattern>("/{rest}", "{rest}"));
  std::string many;
  for (int i = 0; i < 16; ++i) many += "/{n" + std::to_string(i) + "}";
  cr_expect(refused<PathPattern>(many, "more than 15"));
  std::string deep;
  for (int i = 0; i < 65; ++i) deep += "/a";
  cr_expect(refused<PathPattern>(deep, "64 segments"));
}

Test(route_match, expressions_are_checked_when_read) {
  cr_expect(refused<PathPattern>("~", "empty"));
  cr_expect(refused<PathPattern>("~ ^/(a", "byte 4"));
  cr_expect(refused<PathPattern>("~ ^/(?<Ab>x)", "variable"));
  cr_expect(refused<PathPattern>("~ " + std::string(3000, 'a'), "longer than"));
  cr_expect(refused<FieldCondition>("X: ~[", "wrong at"));
  cr_expect(refused<QueryCondition>("x=~[", "wrong at"));
}

Test(route_match, methods_are_told_apart_by_case) {
  expect(parsed<MethodName>("GET"), "GET");
  expect(parsed<MethodName>("PURGE"), "PURGE");
  cr_expect(refused<MethodName>("get", "write GET"));
  cr_expect(refused<MethodName>("GET,POST", "not a method"));
  cr_expect(refused<MethodName>("", "not a method"));
}

Test(route_match, conditions_have_one_spelling) {
  expect(parsed<FieldCondition>("X-Beta"), "X-Beta");
  expect(parsed<FieldCondition>("! X-Beta"), "!X-Beta");
  expect(parsed<FieldCondition>("X-Beta :  yes "), "X-Beta: yes");
  expect(parsed<FieldCondition>("X-Beta: ~ ^a b$"), "X-Beta: ~^a b$");
  cr_expect(refused<FieldCondition>("!X: y", "no value"));
  cr_expect(refused<FieldCondition>("X Y", "name of a header field"));
  cr_expect(refused<FieldCondition>("", "name of a header field"));
  expect(parsed<QueryCondition>("debug"), "debug");
  expect(parsed<QueryCondition>("!debug"), "!debug");
  expect(parsed<QueryCondition>("a%20b=c+d%26"), "a%20b=c%20d%26");
  expect(parsed<QueryCondition>("v=~^\\d$"), "v=~^\\d$");
  cr_expect(refused<QueryCondition>("?a=1", "without ?"));
  cr_expect(refused<QueryCondition>("a=1&b=2", "without &"));
  cr_expect(refused<QueryCondition>("=1", "no name"));
  cr_expect(refused<QueryCondition>("!a=1", "no value"));
}

Test(route_match, field_conditions_see_every_line_of_a_field) {
  FieldList fields;
  fields.push("Accept", "text/html");
  fields.push("x-beta", "no");
  fields.push("X-Beta", "yes");
  cr_expect(field_holds("X-Beta", fields));
  cr_expect(field_holds("X-Beta: yes", fields));
  cr_expect(field_holds("X-Beta: no", fields));
  cr_expect(not field_holds("X-Beta: Yes", fields));
  cr_expect(field_holds("X-Beta: ~^y", fields));
  cr_expect(not field_holds("X-Beta: ~^maybe$", fields));
  cr_expect(not field_holds("!X-Beta", fields));
  cr_expect(field_holds("!X-Other", fields));
  cr_expect(not field_holds("X-Other", fields));
  cr_expect(field_holds("accept: text/html", fields));
  cr_expect(not field_holds("Cookie", fields));
}

Test(route_match, a_field_that_a_hook_took_away_is_not_there) {
  FieldList fields;
  fields.push("X-Forwarded-Proto", "https").dropped = true;
  fields.push("Upgrade", "websocket").dropped = true;
  fields.push("Host", "a.example").dropped = true;
  cr_expect(not field_holds("X-Forwarded-Proto", fields));
  cr_expect(field_holds("!X-Forwarded-Proto", fields));
  cr_expect(field_holds("Upgrade: websocket", fields), "hop-by-hop, but the client's word");
  cr_expect(field_holds("Host: a.example", fields));
}

Test(route_match, query_conditions_compare_decoded) {
  cr_expect(query_holds("a=b c", "x=1&a=b%20c"));
  cr_expect(query_holds("a=b c", "a=b+c&x"));
  cr_expect(query_holds("a=2", "a=1&a=2"));
  cr_expect(query_holds("a", "a"));
  cr_expect(query_holds("a", "%61=1"));
  cr_expect(query_holds("a=", "a="));
  cr_expect(query_holds("a=%zz", "a=%zz"));
  cr_expect(query_holds("a=~^b c$", "a=b%20c"));
  cr_expect(query_holds("!a", ""));
  cr_expect(not query_holds("!a", "b&a"));
  cr_expect(not query_holds("a=b", "a=bb"));
  cr_expect(not query_holds("a=bb", "a=b"));
  cr_expect(not query_holds("a", "aa=1&b=a"));
  cr_expect(not query_holds("a=%", "a=%25%25"));
}

Test(route_match, conditions_that_exclude_each_other) {
  const auto fields = [](std::string_view a, std::string_view b) {
    const FieldCondition one = *ValueType<FieldCondition>::parse(a);
    const FieldCondition other = *ValueType<FieldCondition>::parse(b);
    cr_assert(exclude_each_other(one, other) == exclude_each_other(other, one));
    return exclude_each_other(one, other);
  };
  cr_expect(fields("X: a", "x: b"));
  cr_expect(fields("X", "!x"));
  cr_expect(fields("X: a", "!X"));
  cr_expect(not fields("X: a", "X: a"));
  cr_expect(not fields("X: a", "Y: b"));
  cr_expect(not fields("X: a", "X"));
  cr_expect(not fields("X: ~a", "X: ~b"));
  cr_expect(not fields("!X", "!X"));
}

Test(route_match, parameters_are_found_by_name) {
  std::string_view value;
  cr_expect(find_query_parameter("x=1&na%6De=a%20b&name=c", "name", value));
  cr_expect(value == "a%20b");
  cr_expect(find_query_parameter("flag&x", "flag", value));
  cr_expect(value.empty());
  cr_expect(not find_query_parameter("x=1", "name", value));
}

Test(route_match, an_expression_that_runs_away_is_given_up) {
  Result<std::shared_ptr<const Regex>> regex = Regex::compile("^(a+)+$");
  cr_assert(regex);
  cr_expect((*regex)->match("aaaa") == RegexOutcome::kMatch);
  cr_expect((*regex)->match(std::string(60, 'a') + "b") == RegexOutcome::kLimit);
  cr_expect((*regex)->match({}) == RegexOutcome::kNoMatch);
}

Test(route_match, named_groups_give_their_parts) {
  Result<std::shared_ptr<const Regex>> regex = Regex::compile("^/(?<a>x)?(y)(?<b>[^/]*)$");
  cr_assert(regex);
  cr_assert((*regex)->group_names() == std::vector<std::string>({"a", "b"}));
  std::string_view values[kRegexMaxGroups];
  cr_assert((*regex)->match("/ytail", values) == RegexOutcome::kMatch);
  cr_expect(values[0].empty());
  cr_expect(values[1] == "tail");
  std::string many;
  for (int i = 0; i < 40; ++i) many += "(x)?";
  cr_expect(not Regex::compile(many + "(?<late>y)"));
  Result<std::shared_ptr<const Regex>> unnamed = Regex::compile(many);
  cr_assert(unnamed);
  cr_expect((*unnamed)->match("xxxx", values) == RegexOutcome::kMatch);
}
