// redirect_http; see redirect_http.h.
#include "http/redirect_http.h"

#include <string>
#include <string_view>
#include <utility>

#include "http/method.h"
#include "http/text_template.h"

namespace gatehouse {

namespace {

struct RedirectHttp final : ModuleState {
  TextTemplate url;
};

void redirect(Exchange& exchange, const void* state) {
  if (exchange.request.authority.host.empty()) {
    exchange.refuse(Reason::kMissingHost);
    return;
  }
  exchange.reason = Reason::kRedirect;
  const std::string_view url =
      static_cast<const RedirectHttp*>(state)->url.render(exchange, TextEscape::kUrl);
  const Method method = exchange.request.head.method_id;
  exchange.answer(method == Method::kGet || method == Method::kHead ? 301 : 308, {}, {});
  exchange.response.fields.push("Location", url);
}

}  // namespace

Action redirect_to_https(uint16_t port, std::vector<std::unique_ptr<ModuleState>>& states) {
  std::string text = "https://$host";
  if (port != 443 && port != 0) text += ":" + std::to_string(port);
  text += "$uri";
  auto state = std::make_unique<RedirectHttp>();
  state->url = *TextTemplate::parse(text);
  Action action;
  action.instant = &redirect;
  action.name = "redirect_http";
  action.detail = std::move(text);
  action.state = state.get();
  states.push_back(std::move(state));
  return action;
}

}  // namespace gatehouse
