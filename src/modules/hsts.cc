// HSTS: tells browsers to come by https only (RFC 6797).
//
//   [route site]
//   hsts = 365d include_subdomains preload
//
// Every response to a client that came by https says Strict-Transport-Security: max-age=31536000;
// includeSubDomains; preload, and what the upstream says of it is left out: the gateway knows which
// names are served by TLS. `hsts = 0s` tells browsers to forget it. In [defaults] it is for all
// routes, and for what no route takes. Over plain http it is never said (RFC 6797 §7.2).
//
// Nothing is shared. Leaves out: sending clients to https; that is `redirect_http` of the listener.
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/chars.h"
#include "http/module.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

// "DURATION [include_subdomains] [preload]", or "off".
struct HstsValue {
  std::optional<Duration> max_age;  // none: off
  bool include_subdomains = false;
  bool preload = false;
};

struct HstsConf {
  HstsValue hsts;
};

// What the lists that browsers come with ask of a name that is to be on them.
constexpr Duration kPreloadMin = std::chrono::hours(24 * 365);

}  // namespace

template <>
struct ValueType<HstsValue> {
  static Result<HstsValue> parse(std::string_view text) {
    HstsValue value;
    std::string_view word = take_word(text);
    if (word == "off" && text.empty()) return value;
    const Result<Duration> age = ValueType<Duration>::parse(word);
    if (!age) return age.error();
    value.max_age = *age;
    while (!text.empty()) {
      word = take_word(text);
      bool* flag = word == "include_subdomains" ? &value.include_subdomains
                   : word == "preload"          ? &value.preload
                                                : nullptr;
      if (flag == nullptr) return unknown_word(word, {"include_subdomains", "preload"});
      if (*flag) return Error{std::string(word) + " is given twice"};
      *flag = true;
    }
    if (value.preload && (!value.include_subdomains || *age < kPreloadMin)) {
      return Error{"preload needs include_subdomains and at least 365d"};
    }
    return value;
  }
  static std::string format(const HstsValue& value) {
    if (!value.max_age) return "off";
    std::string text = ValueType<Duration>::format(*value.max_age);
    if (value.include_subdomains) text += " include_subdomains";
    if (value.preload) text += " preload";
    return text;
  }
  static std::string expected() {
    return "a time, then include_subdomains and preload if wanted; or off";
  }
};

namespace {

struct HstsState final : ModuleState {
  std::string value;
  std::string shown;
};

Verdict respond(Exchange& exchange, const void* state) {
  constexpr std::string_view kName = "Strict-Transport-Security";
  Response& response = exchange.response;
  for (Field& field : response.fields) {
    if (equal_ignoring_case(field.name, kName)) field.dropped = true;
  }
  if (exchange.client_https) {
    response.added.push(kName, static_cast<const HstsState*>(state)->value);
  }
  return Verdict::kContinue;
}

constexpr Directive kDirectives[] = {
    directive<&HstsConf::hsts>(
        "hsts",
        "Tells browsers to come to this host by https only, for that time "
        "(Strict-Transport-Security), and with include_subdomains to all names below it.",
        "365d include_subdomains"),
};

constexpr DirectiveTable kTable = directive_table<HstsConf>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  const HstsValue& conf = builder.section().get<HstsConf>(kTable).hsts;
  if (!conf.max_age) return {};
  auto state = std::make_unique<HstsState>();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*conf.max_age).count();
  state->value = "max-age=" + std::to_string(seconds);
  if (conf.include_subdomains) state->value += "; includeSubDomains";
  if (conf.preload) state->value += "; preload";
  state->shown = ValueType<HstsValue>::format(conf);
  const HstsState* kept = builder.own(std::move(state));
  builder.add_hook(Phase::kRespond, &respond, kept, kTable, "hsts", kept->shown);
  return {};
}

}  // namespace

constinit const Module kHstsModule = {"hsts", kTables, &compile};

}  // namespace gatehouse
