// Redirect: sends the client to another URL.
//
//   [route www]
//   host     = example.com
//   redirect = 301 https://www.example.com$uri
//
//   [route moved]
//   path     = /old/*
//   redirect = /new/$capture_rest
//
// The status is 301, 302 (the default), 303, 307 or 308. The URL may hold $variables; bytes in them
// that have no place in a URL are %-escaped, so that no client can break the line. $uri is the path
// and query as they were routed. A request that names no host, where the URL says $host, is
// refused: it would be sent nowhere.
//
// Nothing is shared. Leaves out: a body, since clients follow the Location field.
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/chars.h"
#include "http/module.h"
#include "http/text_template.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

// "[STATUS] URL".
struct RedirectValue {
  uint16_t status = 302;
  TextTemplate url;
};

struct RedirectConf {
  std::optional<RedirectValue> redirect;
};

bool is_redirect_status(std::string_view word) {
  return word == "301" || word == "302" || word == "303" || word == "307" || word == "308";
}

bool is_number(std::string_view word) {
  return !word.empty() && chars::all_of(word, chars::kDigit);
}

// What stands before the first variable has to say where a URL leads.
Result<void> check_url(const TextTemplate& url) {
  if (url.source().empty()) return Error{"the URL is missing"};
  for (const TextTemplate::Piece& piece : url.pieces()) {
    if (!chars::all_of(piece.text, chars::kTarget)) {
      return Error{"a URL holds only visible ASCII characters, no blanks"};
    }
  }
  const std::string_view start = url.literal();
  if (start.empty() || start.starts_with('/')) return {};
  if (start.starts_with("https://") || start.starts_with("http://")) return {};
  return Error{"a URL begins with http://, https://, / or a variable"};
}

}  // namespace

template <>
struct ValueType<RedirectValue> {
  static Result<RedirectValue> parse(std::string_view text) {
    RedirectValue value;
    std::string_view rest = text;
    const std::string_view word = take_word(rest);
    if (is_redirect_status(word)) {
      value.status = static_cast<uint16_t>(*parse_unsigned(word, 999));
      text = rest;
    } else if (is_number(word)) {
      return Error{std::string(word) + " is not the status of a redirect"};
    }
    Result<TextTemplate> url = TextTemplate::parse(text);
    if (!url) return url.error();
    const Result<void> checked = check_url(*url);
    if (!checked) return checked.error();
    value.url = std::move(*url);
    return value;
  }
  static std::string format(const RedirectValue& value) {
    return std::to_string(value.status) + " " + value.url.source();
  }
  static std::string expected() {
    return "301, 302, 303, 307 or 308 if wanted, and a URL: 301 https://$host$uri";
  }
};

namespace {

struct RedirectState final : ModuleState {
  RedirectValue value;
  bool needs_host = false;
};

void redirect(Exchange& exchange, const void* state) {
  const auto& self = *static_cast<const RedirectState*>(state);
  if (self.needs_host && exchange.request.authority.host.empty()) {
    exchange.refuse(Reason::kMissingHost);
    return;
  }
  exchange.reason = Reason::kRedirect;
  const std::string_view url = self.value.url.render(exchange, TextEscape::kUrl);
  exchange.answer(self.value.status, {}, {});
  exchange.response.fields.push("Location", url);
}

constexpr Directive kDirectives[] = {
    directive<&RedirectConf::redirect>("redirect", "Sends the client to another URL.",
                                       "301 https://$host$uri", DirectiveFlag::kNotInherited),
};

constexpr DirectiveTable kTable = directive_table<RedirectConf>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  const RedirectConf& conf = builder.section().get<RedirectConf>(kTable);
  if (builder.is_fallback() || !conf.redirect) return {};
  auto state = std::make_unique<RedirectState>();
  state->value = *conf.redirect;
  for (const TextTemplate::Piece& piece : state->value.url.pieces()) {
    state->needs_host |= piece.has_variable && piece.variable.id == VariableId::kHost;
  }
  Action action;
  action.instant = &redirect;
  action.name = "redirect";
  action.detail = ValueType<RedirectValue>::format(state->value);
  action.state = builder.own(std::move(state));
  return builder.set_action(std::move(action), kTable, "redirect");
}

}  // namespace

constinit const Module kRedirectModule = {"redirect", kTables, &compile, nullptr, "redirect"};

}  // namespace gatehouse
