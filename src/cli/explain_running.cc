// Handing an explain request to the running gateway. See explain_running.h.
#include "cli/explain_running.h"

#include <cstdio>
#include <optional>
#include <utility>

#include "cli/gateway.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

constexpr Duration kTimeout{30'000};

}  // namespace

int run_explain_running(const CommandLine& line) {
  const ExplainRequest& asked = line.explain;
  nlohmann::json body = {{"request", asked.request},
                         {"fields", asked.fields},
                         {"client", asked.client},
                         {"listener", asked.listener},
                         {"json", asked.json}};
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply =
      ask_gateway(line, "explain", std::move(body), kTimeout, exit_code);
  if (!reply) return kExitFailed;
  if (!reply->ok) {
    print_errors("gatehouse: " + reply->error());
    return kExitFailed;
  }
  std::fputs(control_text(reply->body, "text").c_str(), stdout);
  return kExitOk;
}

}  // namespace gatehouse
