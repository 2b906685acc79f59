// See canary_conf.h.
#include "http/canary_conf.h"

#include <fmt/format.h>

#include <chrono>

namespace gatehouse {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr Directive kDirectives[] = {
    directive<&CanaryConf::route>("route", "The route whose requests are shared.", "users",
                                  DirectiveFlag::kRequired, expects("the name of a [route]")),
    directive<&CanaryConf::upstream>(
        "upstream",
        "The new side. The route's upstream is the stable side; it may also name both with their "
        "shares, which hold until the canary begins, and a sticky cookie.",
        "users_next", DirectiveFlag::kRequired, expects("the name of an [upstream]")),
    directive<&CanaryConf::steps>("steps", "The shares of the new side, one after the other.",
                                  "5% 25% 50% 100%", DirectiveFlag::kWords,
                                  expects("growing shares above 0%: 5% 25% 50% 100%")),
    directive<&CanaryConf::interval>(
        "interval",
        "How long each step lasts; passed, the next one begins, and after the last one "
        "the canary is promoted.",
        "5m", range(milliseconds(100), hours(24 * 30))),
    directive<&CanaryConf::min_requests>(
        "min_requests",
        "Requests that the new side must have had in a step before anything is decided. So many "
        "are also asked of the stable side before it is a measure for the new one.",
        "100", range(1, 1'000'000'000)),
    directive<&CanaryConf::max_error_rate>(
        "max_error_rate",
        "The largest share of the new side's requests that may end with a status of 5xx, made by "
        "the target or, where it failed or there is none, by the gateway. With over stable it is "
        "on top of the stable side's own.",
        "1% over stable"),
    directive<&CanaryConf::max_latency>(
        "max_latency",
        "How many times the stable side's 95th percentile that of the new side may be, once it is "
        "a millisecond more; 0: it is not looked at.",
        "1.5", range(0.0, 1000.0)),
    directive<&CanaryConf::on_failure>(
        "on_failure",
        "What follows too many errors or too slow answers: rollback gives all requests to the "
        "stable side, pause keeps the share and waits for a command.",
        "rollback"),
};

void check(const CanaryConf& conf, SectionErrors& errors) {
  if (conf.steps.size() > kCanaryStepsMax) {
    errors.add("steps", fmt::format("more than {} steps", kCanaryStepsMax));
  }
  uint32_t before = 0;
  for (size_t i = 0; i < conf.steps.size(); ++i) {
    if (conf.steps[i].hundredths <= before) {
      errors.add("steps", i == 0 ? "the first step is 0%" : "not more than the step before",
                 "expected: growing shares above 0%: 5% 25% 50% 100%", i);
    }
    before = conf.steps[i].hundredths;
  }
}

constexpr DirectiveTable kTable = directive_table<CanaryConf, &check>("canary", kDirectives);

}  // namespace

constinit const DirectiveTable kCanaryTable = kTable;

CanaryRules CanaryConf::rules() const {
  CanaryRules rules;
  rules.steps = steps;
  rules.interval = interval;
  rules.min_requests = min_requests;
  rules.max_error_rate = max_error_rate.rate;
  rules.over_stable = max_error_rate.over_stable;
  rules.max_latency = max_latency;
  rules.on_failure = on_failure;
  return rules;
}

Result<RouteUpstream> with_canary(const RouteUpstream& route, const std::string& fresh) {
  RouteUpstream both = route;
  size_t dealt = 0;
  bool named = false;
  for (SplitSide& side : both.sides) {
    if (side.condition) continue;
    ++dealt;
    named = named || side.upstream == fresh;
    if (!side.share) side.share = Percent{kWholeShare};
  }
  if (dealt == 1 && named) return Error{"it is the route's only upstream already"};
  if (dealt == 2 && named) return both;
  if (dealt != 1) return Error{"the route shares its requests among others already"};
  SplitSide side;
  side.upstream = fresh;
  side.share = Percent{0};
  both.sides.push_back(std::move(side));
  return both;
}

Result<CanaryErrorRate> ValueType<CanaryErrorRate>::parse(std::string_view text) {
  CanaryErrorRate rate;
  const Result<Percent> share = ValueType<Percent>::parse(take_word(text));
  if (!share) return share.error();
  rate.rate = *share;
  if (text.empty()) return rate;
  if (take_word(text) != "over" || take_word(text) != "stable" || !text.empty()) {
    return Error{"what may follow is over stable"};
  }
  rate.over_stable = true;
  return rate;
}

std::string ValueType<CanaryErrorRate>::format(const CanaryErrorRate& rate) {
  return ValueType<Percent>::format(rate.rate) + (rate.over_stable ? " over stable" : "");
}

std::string ValueType<CanaryErrorRate>::expected() {
  return "a share: 1%, or 1% over stable";
}

}  // namespace gatehouse
