// What clients are told of limits.
#include "modules/limit_fields.h"

#include <criterion/criterion.h>
#include <fmt/format.h>

#include <string>

#include "expect_text.h"
#include "http/exchange.h"

using namespace gatehouse;

namespace {

constexpr int64_t kStart = 4'000'000'000;

std::string policy(const LimitRate& rate) {
  fmt::memory_buffer text;
  append_rate_policy("\"a\"", make_limit_rule(rate, kStart), text);
  return fmt::to_string(text);
}

}  // namespace

Test(limit_fields, a_name_is_a_string_of_structured_fields) {
  expect(limit_field_name("per_client"), "\"per_client\"");
  expect(limit_field_name("a \"b\" \\c\n\xC3\xBC"), "\"a \\\"b\\\" \\\\c___\"");
}

Test(limit_fields, a_policy_says_how_much_in_how_long) {
  expect(policy({100, 1'000'000, std::nullopt}), "\"a\";q=100;w=1");
  expect(policy({100, 1'500'000, std::nullopt}), "\"a\";q=100;w=2");
  expect(policy({100, 1'000, std::nullopt}), "\"a\";q=100;w=1");
  expect(policy({100, 1'000'000, 250}), "\"a\";q=250;w=3");
  fmt::memory_buffer text;
  append_concurrency_policy("\"a\"", 7, text);
  expect(fmt::to_string(text), "\"a\";q=7;qu=\"concurrent-requests\"");
}

Test(limit_fields, a_state_says_what_is_left_and_until_when) {
  const LimitRule rule = make_limit_rule({1, 1'000'000, 5}, kStart);
  uint64_t count = 0;
  const auto told = [&] {
    fmt::memory_buffer text;
    append_rate_state("\"a\"", rule, count, kStart, 1, text);
    return fmt::to_string(text);
  };
  expect(told(), "\"a\";r=5;t=0");
  cr_assert(limit_take(rule, count, kStart, 2));
  expect(told(), "\"a\";r=3;t=2");
  cr_assert(limit_take(rule, count, kStart, 3));
  expect(told(), "\"a\";r=0;t=1");
  cr_expect_eq(retry_seconds(0), 1);
  cr_expect_eq(retry_seconds(1'000'001), 1);
  cr_expect_eq(retry_seconds(1'010'000), 2);
}

// Declared in http/exchange.h; limits of concurrency are what it is for.
Test(limit_fields, what_is_to_be_done_at_the_end_of_an_exchange_is_done_once) {
  int done[3] = {};
  const auto count = [](void* context) { ++*static_cast<int*>(context); };
  {
    Exchange exchange;
    exchange.at_end(count, &done[0]);
    exchange.at_end(count, &done[1]);
    exchange.reset();
    cr_expect(done[0] == 1 && done[1] == 1);
    exchange.at_end(count, &done[2]);
    cr_expect_eq(done[2], 0);
  }
  cr_expect(done[0] == 1 && done[1] == 1 && done[2] == 1);
}
