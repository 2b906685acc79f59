// The grammar of breaker, retry, hedge, fallback and concurrency: what is read, that it is shown so
// that it reads the same, and what is refused with which words.
#include "http/policy_conf.h"

#include <criterion/criterion.h>

#include <string>

#include "expect_text.h"

namespace gatehouse {
namespace {

template <class T>
T parsed(std::string_view text) {
  Result<T> value = ValueType<T>::parse(text);
  cr_assert(value.ok(), "%s: %s", std::string(text).c_str(),
            value.ok() ? "" : value.error().message.c_str());
  return *value;
}

template <class T>
void round_trip(std::string_view text, std::string_view shown) {
  const std::string once = ValueType<T>::format(parsed<T>(text));
  expect(once, std::string(shown));
  expect(ValueType<T>::format(parsed<T>(once)), once);
}

template <class T>
void refused(std::string_view text, std::string_view why) {
  const Result<T> value = ValueType<T>::parse(text);
  cr_assert(!value.ok(), "%s was accepted", std::string(text).c_str());
  expect(value.error().message, std::string(why));
}

Test(policy_conf, a_breaker_as_the_design_writes_it) {
  const auto conf = parsed<BreakerConf>("failures 5 or 50% of 20 in 10s, open 60s, close after 3");
  cr_assert_eq(conf.rules.failures, 5u);
  cr_assert_eq(conf.rules.failed_share, 5000u);
  cr_assert_eq(conf.rules.volume, 20u);
  cr_assert_eq(conf.rules.window_ms, 10'000u);
  cr_assert_eq(conf.rules.open_ms, 60'000u);
  cr_assert_eq(conf.rules.close_after, 3u);
  cr_assert_eq(conf.rules.probes, 1u);
  cr_assert(conf.on == FailureSet::usual());
}

Test(policy_conf, breakers_are_shown_as_they_are_read) {
  round_trip<BreakerConf>("off", "off");
  round_trip<BreakerConf>(
      "failures 5 or 50% of 20 in 10s, open 60s, close after 3",
      "failures 5 or 50% of 20 in 10s, open 1m max 10m, probes 1, close after 3, on connect "
      "timeout reset bad_response 5xx");
  round_trip<BreakerConf>(
      "slow 80% over 2s of 50 in 1m open 1h probes 4 on 429,503,timeout",
      "slow 80% over 2s of 50 in 1m, open 1h max 1h, probes 4, close after 1, on timeout 429 503");
  round_trip<BreakerConf>("failures 1 open 100ms max 1s on 4xx 5xx",
                          "failures 1, open 100ms max 1s, probes 1, close after 1, on 4xx 5xx");
}

Test(policy_conf, what_is_no_breaker) {
  refused<BreakerConf>("",
                       "a trigger is missing: failures N, P% of N in TIME, or slow P% over TIME");
  refused<BreakerConf>("off please", "words after off");
  refused<BreakerConf>("failures", "failures: the number is missing");
  refused<BreakerConf>("failures 0", "failures: \"0\" is no number from 1 to 100000");
  refused<BreakerConf>("failures 5 or failures 6", "failures: given twice");
  refused<BreakerConf>("failures 5 or",
                       "a trigger is missing: failures N, P% of N in TIME, or slow P% over TIME");
  refused<BreakerConf>("open 5s",
                       "\"open\" is no trigger: failures N, P% of N in TIME, or slow P% over TIME");
  refused<BreakerConf>("0% of 5", "the share of failures: \"0%\" is no share such as 50%");
  refused<BreakerConf>("50% of 20 in never", "in: \"never\" is no time from 100ms to 1h");
  refused<BreakerConf>("slow 80%", "slow: \"over\" and a time are missing");
  refused<BreakerConf>("failures 5 close 3", "close: \"after\" and a number are missing");
  refused<BreakerConf>("failures 5 opne 3s", "\"opne\": unknown word; did you mean \"open\"?");
  refused<BreakerConf>("failures 5 on 200", "on: \"200\" is no failure: 400 to 599 can be");
  refused<BreakerConf>("failures 5 on 3xx", "on: \"3xx\" is no failure: 4xx and 5xx can be");
  refused<BreakerConf>("failures 5 on open 3s",
                       "on: what counts as a failure is missing: connect, timeout, reset, "
                       "bad_response, 5xx or a status");
}

Test(policy_conf, retries) {
  const auto conf = parsed<RetryConf>("2 on connect 502 503 budget 20%");
  cr_assert_eq(conf.times, 2u);
  cr_assert(conf.on.has(FailureWay::kConnect));
  cr_assert(!conf.on.has(FailureWay::kReset));
  cr_assert(conf.on.has_status(502) && conf.on.has_status(503) && !conf.on.has_status(504));
  cr_assert_eq(conf.budget.hundredths, 2000u);
  cr_assert(!conf.non_idempotent);
  round_trip<RetryConf>("off", "off");
  round_trip<RetryConf>("2 on connect 502 503", "2 on connect 502 503 budget 20% min 3");
  round_trip<RetryConf>("1 on 5xx, timeout, reset non_idempotent, budget 0.5% min 0",
                        "1 on timeout reset 5xx non_idempotent budget 0.5% min 0");
  refused<RetryConf>("0 on connect", "how often: \"0\" is no number from 1 to 10");
  refused<RetryConf>("2", "\"on\" and what to try again after are missing");
  refused<RetryConf>("2 on",
                     "on: what counts as a failure is missing: connect, timeout, reset, "
                     "bad_response, 5xx or a status");
  refused<RetryConf>("2 on connect tiemout",
                     "\"tiemout\": unknown word; did you mean \"timeout\"?");
  refused<RetryConf>("2 on connect budget 0%", "budget: \"0%\" is no share such as 50%");
}

Test(policy_conf, hedges_fallbacks_and_concurrency) {
  round_trip<HedgeConf>("after 50ms", "after 50ms");
  round_trip<HedgeConf>("off", "off");
  refused<HedgeConf>("50ms", "\"after\" and a time are missing");
  refused<HedgeConf>("after 0s", "after: \"0s\" is no time from 1ms to 1h");
  refused<HedgeConf>("after 5s twice", "more than a time");

  round_trip<FallbackConf>("off", "off");
  round_trip<FallbackConf>("spare", "spare");
  round_trip<FallbackConf>("reply 503 \"Back in a minute.\"", "reply 503 \"Back in a minute.\"");
  round_trip<FallbackConf>("reply 200 ok", "reply 200 \"ok\"");
  round_trip<FallbackConf>("reply 204", "reply 204");
  refused<FallbackConf>("reply", "reply: a status is a number from 200 to 599");
  refused<FallbackConf>("reply 99", "reply: a status is a number from 200 to 599");
  refused<FallbackConf>("one two", "more than the name of an upstream");

  round_trip<ConcurrencyConf>("adaptive", "adaptive min 4 max 1000");
  round_trip<ConcurrencyConf>("adaptive max 9, min 2", "adaptive min 2 max 9");
  round_trip<ConcurrencyConf>("off", "off");
  refused<ConcurrencyConf>("12", "the word adaptive is missing");
  refused<ConcurrencyConf>("adaptive min 9 max 2", "min is larger than max");
  refused<ConcurrencyConf>("adaptive most 9", "\"most\": unknown word");
}

}  // namespace
}  // namespace gatehouse
