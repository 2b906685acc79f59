// The grammar of breakers, retries and the like; see policy_conf.h.
#include "http/policy_conf.h"

#include <chrono>
#include <vector>

namespace gatehouse {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kFailuresMax = 100'000;
constexpr Duration kShortestWindow = milliseconds(100);
constexpr Duration kLongest = hours(24);
constexpr uint32_t kRetriesMax = 10;
constexpr uint32_t kBudgetMinMax = 100'000;
constexpr uint32_t kConcurrencyMaxMax = 1'000'000;

// The words of a value, without commas.
class Words {
 public:
  explicit Words(std::string_view text) {
    while (!text.empty()) {
      std::string_view word = take_word(text);
      while (!word.empty()) {
        const size_t comma = word.find(',');
        if (comma != 0) words_.push_back(word.substr(0, comma));
        if (comma == std::string_view::npos) break;
        word.remove_prefix(comma + 1);
      }
    }
  }
  bool done() const { return next_ == words_.size(); }
  // The next word; empty at the end.
  std::string_view peek() const { return done() ? std::string_view() : words_[next_]; }
  std::string_view take() { return done() ? std::string_view() : words_[next_++]; }
  bool take_if(std::string_view word) {
    if (peek() != word || done()) return false;
    ++next_;
    return true;
  }

 private:
  std::vector<std::string_view> words_;
  size_t next_ = 0;
};

Error about(std::string_view what, const std::string& problem) {
  return Error{std::string(what) + ": " + problem};
}

Result<uint32_t> take_number(Words& words, std::string_view what, uint32_t low, uint32_t high) {
  if (words.done()) return about(what, "the number is missing");
  const std::string_view word = words.take();
  const Result<uint64_t> number = parse_unsigned(word, high);
  if (!number || *number < low) {
    return about(what, "\"" + std::string(word) + "\" is no number from " + std::to_string(low) +
                           " to " + std::to_string(high));
  }
  return static_cast<uint32_t>(*number);
}

// In milliseconds.
Result<uint32_t> take_time(Words& words, std::string_view what, Duration low, Duration high) {
  if (words.done()) return about(what, "the time is missing");
  const std::string_view word = words.take();
  const Result<Duration> time = ValueType<Duration>::parse(word);
  if (!time || *time < low || *time > high) {
    return about(what, "\"" + std::string(word) + "\" is no time from " +
                           ValueType<Duration>::format(low) + " to " +
                           ValueType<Duration>::format(high));
  }
  return static_cast<uint32_t>(time->count());
}

Result<uint32_t> take_share(Words& words, std::string_view what) {
  const std::string_view word = words.take();
  const Result<Percent> share = ValueType<Percent>::parse(word);
  if (!share || share->hundredths == 0) {
    return about(what, "\"" + std::string(word) + "\" is no share such as 50%");
  }
  return share->hundredths;
}

std::string time_text(uint32_t ms) {
  return ValueType<Duration>::format(Duration(ms));
}

std::string share_text(uint32_t hundredths) {
  return ValueType<Percent>::format(Percent{hundredths});
}

// ---- Breakers -----------------------------------------------------------------------------------

// "failures 5", "50% of 20 in 10s" or "slow 80% over 2s".
Result<void> take_trigger(Words& words, BreakerRules& rules) {
  if (words.take_if("failures")) {
    if (rules.failures != 0) return Error{"failures: given twice"};
    const Result<uint32_t> count = take_number(words, "failures", 1, kFailuresMax);
    if (!count) return count.error();
    rules.failures = *count;
    return {};
  }
  if (words.take_if("slow")) {
    if (rules.slow_share != 0) return Error{"slow: given twice"};
    const Result<uint32_t> share = take_share(words, "slow");
    if (!share) return share.error();
    if (!words.take_if("over")) return Error{"slow: \"over\" and a time are missing"};
    const Result<uint32_t> limit = take_time(words, "over", milliseconds(1), hours(1));
    if (!limit) return limit.error();
    rules.slow_share = *share;
    rules.slow_ms = *limit;
  } else if (words.peek().ends_with('%')) {
    if (rules.failed_share != 0) return Error{"the share of failures: given twice"};
    const Result<uint32_t> share = take_share(words, "the share of failures");
    if (!share) return share.error();
    rules.failed_share = *share;
  } else if (words.done()) {
    return Error{"a trigger is missing: failures N, P% of N in TIME, or slow P% over TIME"};
  } else {
    return Error{"\"" + std::string(words.peek()) +
                 "\" is no trigger: failures N, P% of N in TIME, or slow P% over TIME"};
  }
  if (words.take_if("of")) {
    const Result<uint32_t> volume = take_number(words, "of", 1, kBreakerVolumeMax);
    if (!volume) return volume.error();
    rules.volume = *volume;
  }
  if (words.take_if("in")) {
    const Result<uint32_t> window = take_time(words, "in", kShortestWindow, hours(1));
    if (!window) return window.error();
    rules.window_ms = *window;
  }
  return {};
}

// The words behind "on", as far as they are failures.
Result<void> take_failures(Words& words, FailureSet& on) {
  FailureSet set;
  std::string why;
  while (!words.done() && set.add_word(words.peek(), why)) (void)words.take();
  if (!why.empty()) return Error{"on: " + why};
  if (set.empty()) {
    return Error{
        "on: what counts as a failure is missing: connect, timeout, reset, "
        "bad_response, 5xx or a status"};
  }
  on = set;
  return {};
}

Result<void> take_breaker_option(Words& words, BreakerConf& conf) {
  BreakerRules& rules = conf.rules;
  const auto put = [](const Result<uint32_t>& value, uint32_t& into) -> Result<void> {
    if (!value) return value.error();
    into = *value;
    return {};
  };
  if (words.take_if("open")) {
    return put(take_time(words, "open", milliseconds(10), kLongest), rules.open_ms);
  }
  if (words.take_if("max")) {
    return put(take_time(words, "max", milliseconds(10), kLongest), rules.open_max_ms);
  }
  if (words.take_if("probes")) {
    return put(take_number(words, "probes", 1, kBreakerProbesMax), rules.probes);
  }
  if (words.take_if("close")) {
    if (!words.take_if("after")) return Error{"close: \"after\" and a number are missing"};
    return put(take_number(words, "close after", 1, kBreakerCloseAfterMax), rules.close_after);
  }
  if (words.take_if("on")) return take_failures(words, conf.on);
  const std::string word(words.peek());
  return Error{"\"" + word +
               "\": " + unknown_word(word, {"or", "open", "max", "probes", "close", "on"}).message};
}

// ---- The table ----------------------------------------------------------------------------------

void check_policy(const UpstreamPolicyConf& conf, SectionErrors& errors) {
  const auto check_times = [&errors](std::string_view key, const BreakerConf& breaker) {
    if (breaker.rules.any() && breaker.rules.open_max_ms < breaker.rules.open_ms) {
      errors.add(key, "max is shorter than open", "expected: max at least as long as open");
    }
  };
  check_times("breaker", conf.breaker);
  check_times("upstream_breaker", conf.upstream_breaker);
}

constexpr Directive kDirectives[] = {
    directive<&UpstreamPolicyConf::breaker>(
        "breaker",
        "When a target is not asked for a while: after so many failures in a row, or where so "
        "large a share of at least so many tries in a time failed or was slow. After the open "
        "time, which doubles for each opening in a row up to max, probes are let through, and so "
        "many successes close it. All workers share what is known.",
        "failures 5 or 50% of 20 in 10s, open 60s, close after 3"),
    directive<&UpstreamPolicyConf::upstream_breaker>(
        "upstream_breaker",
        "The same over the whole upstream: while it is open no target is asked.",
        "50% of 100 in 10s, open 5s"),
    directive<&UpstreamPolicyConf::fallback>(
        "fallback",
        "What a request gets when no target can be asked (all are down, or breakers are open): "
        "another upstream, or a reply.",
        "reply 503 \"Back in a minute.\""),
    directive<&UpstreamPolicyConf::retry>(
        "retry",
        "How often a request is tried again, at another target where there is one, and after what. "
        "Without non_idempotent only GET, HEAD, OPTIONS, PUT and DELETE are, but for connect, "
        "where nothing was sent. The budget is the share of requests that may be retries, beside "
        "min a second.",
        "2 on connect 502 503 budget 20%"),
    directive<&UpstreamPolicyConf::try_timeout>(
        "try_timeout",
        "How long one try may take to its response's head, where it can still be retried; 0s means "
        "as long as response_timeout.",
        "5s", range(milliseconds(0), hours(24))),
    directive<&UpstreamPolicyConf::retry_body_max>(
        "retry_body_max",
        "Up to this size a request's body is kept for another try; only where retry is on.", "64k",
        range(Bytes{0}, 8_MiB)),
    directive<&UpstreamPolicyConf::hedge>(
        "hedge",
        "After how long without an answer a second target is asked too, for idempotent requests "
        "without a body; the first good answer wins. Counts against the budget of retry.",
        "after 50ms"),
    directive<&UpstreamPolicyConf::concurrency>(
        "concurrency",
        "Finds by itself how many requests may be under way, over all workers, from how the "
        "latency answers to their number; what is more gets 503 at once.",
        "adaptive min 4 max 500"),
};

constexpr DirectiveTable kTable =
    directive_table<UpstreamPolicyConf, check_policy>("upstream", kDirectives);

}  // namespace

constinit const DirectiveTable kUpstreamPolicyTable = kTable;

Result<BreakerConf> ValueType<BreakerConf>::parse(std::string_view text) {
  BreakerConf conf;
  Words words(text);
  if (words.take_if("off")) {
    if (!words.done()) return Error{"words after off"};
    return conf;
  }
  do {
    const Result<void> trigger = take_trigger(words, conf.rules);
    if (!trigger) return trigger.error();
  } while (words.take_if("or"));
  bool max_given = false;
  while (!words.done()) {
    max_given = max_given || words.peek() == "max";
    const Result<void> option = take_breaker_option(words, conf);
    if (!option) return option.error();
  }
  // A long open time needs no second word to be legal.
  if (!max_given && conf.rules.open_max_ms < conf.rules.open_ms) {
    conf.rules.open_max_ms = conf.rules.open_ms;
  }
  return conf;
}

std::string ValueType<BreakerConf>::format(const BreakerConf& conf) {
  const BreakerRules& rules = conf.rules;
  if (!rules.any()) return "off";
  std::string text;
  const auto either = [&text] {
    if (!text.empty()) text += " or ";
  };
  const std::string window =
      " of " + std::to_string(rules.volume) + " in " + time_text(rules.window_ms);
  if (rules.failures != 0) text += "failures " + std::to_string(rules.failures);
  if (rules.failed_share != 0) {
    either();
    text += share_text(rules.failed_share) + window;
  }
  if (rules.slow_share != 0) {
    either();
    text += "slow " + share_text(rules.slow_share) + " over " + time_text(rules.slow_ms) + window;
  }
  text += ", open " + time_text(rules.open_ms) + " max " + time_text(rules.open_max_ms);
  text += ", probes " + std::to_string(rules.probes);
  text += ", close after " + std::to_string(rules.close_after);
  text += ", on " + conf.on.format();
  return text;
}

std::string ValueType<BreakerConf>::expected() {
  return "off, or triggers (failures N, P% of N in TIME, slow P% over TIME) joined by or, then "
         "open "
         "TIME, max TIME, probes N, close after N, on FAILURE...";
}

Result<RetryConf> ValueType<RetryConf>::parse(std::string_view text) {
  RetryConf conf;
  Words words(text);
  if (words.take_if("off")) {
    if (!words.done()) return Error{"words after off"};
    return conf;
  }
  const Result<uint32_t> times = take_number(words, "how often", 1, kRetriesMax);
  if (!times) return times.error();
  conf.times = *times;
  if (!words.take_if("on")) return Error{"\"on\" and what to try again after are missing"};
  const Result<void> failures = take_failures(words, conf.on);
  if (!failures) return failures.error();
  while (!words.done()) {
    if (words.take_if("non_idempotent")) {
      conf.non_idempotent = true;
    } else if (words.take_if("budget")) {
      const Result<uint32_t> share = take_share(words, "budget");
      if (!share) return share.error();
      conf.budget = Percent{*share};
    } else if (words.take_if("min")) {
      const Result<uint32_t> least = take_number(words, "min", 0, kBudgetMinMax);
      if (!least) return least.error();
      conf.budget_min = *least;
    } else {
      const std::string word(words.peek());
      std::vector<std::string_view> known(std::begin(FailureSet::kWords),
                                          std::end(FailureSet::kWords));
      known.insert(known.end(), {"non_idempotent", "budget", "min"});
      return Error{"\"" + word + "\": " + unknown_word(word, known).message};
    }
  }
  return conf;
}

std::string ValueType<RetryConf>::format(const RetryConf& conf) {
  if (conf.times == 0) return "off";
  std::string text = std::to_string(conf.times) + " on " + conf.on.format();
  if (conf.non_idempotent) text += " non_idempotent";
  text += " budget " + ValueType<Percent>::format(conf.budget);
  text += " min " + std::to_string(conf.budget_min);
  return text;
}

std::string ValueType<RetryConf>::expected() {
  return "off, or N (1 to 10) on FAILURE... (connect, timeout, reset, bad_response, 5xx, a "
         "status), "
         "then non_idempotent, budget P%, min N";
}

Result<HedgeConf> ValueType<HedgeConf>::parse(std::string_view text) {
  Words words(text);
  HedgeConf conf;
  if (words.take_if("off")) {
    if (!words.done()) return Error{"words after off"};
    return conf;
  }
  if (!words.take_if("after")) return Error{"\"after\" and a time are missing"};
  const Result<uint32_t> after = take_time(words, "after", milliseconds(1), hours(1));
  if (!after) return after.error();
  if (!words.done()) return Error{"more than a time"};
  conf.after = Duration(*after);
  return conf;
}

std::string ValueType<HedgeConf>::format(const HedgeConf& conf) {
  if (conf.after == Duration::zero()) return "off";
  return "after " + ValueType<Duration>::format(conf.after);
}

std::string ValueType<HedgeConf>::expected() {
  return "off, or after TIME (1ms to 1h)";
}

Result<FallbackConf> ValueType<FallbackConf>::parse(std::string_view text) {
  FallbackConf conf;
  const std::string_view first = take_word(text);
  if (first == "off") {
    if (!text.empty()) return Error{"words after off"};
    return conf;
  }
  if (first != "reply") {
    if (!text.empty()) return Error{"more than the name of an upstream"};
    conf.upstream = first;
    return conf;
  }
  const std::string_view number = take_word(text);
  const Result<uint64_t> status = parse_unsigned(number, 599);
  if (!status || *status < 200) return Error{"reply: a status is a number from 200 to 599"};
  conf.status = static_cast<uint16_t>(*status);
  const bool quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  conf.text = quoted ? text.substr(1, text.size() - 2) : text;
  return conf;
}

std::string ValueType<FallbackConf>::format(const FallbackConf& conf) {
  if (!conf.any()) return "off";
  if (!conf.upstream.empty()) return conf.upstream;
  std::string text = "reply " + std::to_string(conf.status);
  if (!conf.text.empty()) text += " \"" + conf.text + "\"";
  return text;
}

std::string ValueType<FallbackConf>::expected() {
  return "off, the name of an [upstream], or reply STATUS (200 to 599) and a text";
}

Result<ConcurrencyConf> ValueType<ConcurrencyConf>::parse(std::string_view text) {
  Words words(text);
  ConcurrencyConf conf;
  if (words.take_if("off")) {
    if (!words.done()) return Error{"words after off"};
    return conf;
  }
  if (!words.take_if("adaptive")) return Error{"the word adaptive is missing"};
  conf.min = 4;
  conf.max = 1000;
  while (!words.done()) {
    const std::string_view word = words.take();
    if (word != "min" && word != "max") {
      return Error{"\"" + std::string(word) + "\": " + unknown_word(word, {"min", "max"}).message};
    }
    const Result<uint32_t> number = take_number(words, word, 1, kConcurrencyMaxMax);
    if (!number) return number.error();
    (word == "min" ? conf.min : conf.max) = *number;
  }
  if (conf.min > conf.max) return Error{"min is larger than max"};
  return conf;
}

std::string ValueType<ConcurrencyConf>::format(const ConcurrencyConf& conf) {
  if (!conf.on()) return "off";
  return "adaptive min " + std::to_string(conf.min) + " max " + std::to_string(conf.max);
}

std::string ValueType<ConcurrencyConf>::expected() {
  return "off, or adaptive, then min N and max N (1 to 1000000)";
}

}  // namespace gatehouse
