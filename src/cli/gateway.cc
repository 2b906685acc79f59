// The way from a configuration file to an answer of the running gateway. See gateway.h.
#include "cli/gateway.h"

#include <cstdio>
#include <utility>

#include "core/config.h"
#include "core/config_source.h"
#include "core/json_text.h"
#include "core/process_conf.h"
#include "core/state_commands.h"

namespace gatehouse {
namespace {

// Time to get through to the socket; a gateway that is not busy needs none.
constexpr Duration kConnectTimeout{10'000};

Gateway gateway_of(const GatehouseConf& conf) {
  return {conf.control.path, conf.pid_file.path, conf.error_log.path};
}

}  // namespace

Result<Gateway> find_gateway(const CommandLine& line) {
  if (!line.control.empty()) return Gateway{line.control, {}, {}};
  Result<ConfigSource> source = ConfigSource::load(line.config);
  if (!source) {
    if (line.config_given) return source.error();
    return gateway_of(GatehouseConf());
  }
  Schema schema;
  schema.add_section("gatehouse", NameRule::kNone);
  schema.add_table(&kGatehouseTable);
  ConfigErrors errors;
  const Config config = Config::bind(*source, schema, errors);
  return gateway_of(config.sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable));
}

std::optional<ControlReply> ask_gateway(const CommandLine& line, const std::string& command,
                                        nlohmann::json body, Duration timeout, int& exit_code) {
  exit_code = kExitFailed;
  const Result<Gateway> gateway = find_gateway(line);
  if (!gateway) {
    std::fprintf(stderr, "gatehouse: %s\n", gateway.error().message.c_str());
    return std::nullopt;
  }
  if (gateway->control.empty()) {
    std::fputs("gatehouse: there is no control socket to ask: [gatehouse] control is none\n",
               stderr);
    return std::nullopt;
  }
  ControlClient::Failure failure{};
  Result<ControlClient> client =
      ControlClient::connect(gateway->control, kConnectTimeout, &failure);
  if (!client) {
    if (failure == ControlClient::Failure::kAbsent) exit_code = kExitNotRunning;
    std::fprintf(stderr, "gatehouse: %s\n", client.error().message.c_str());
    return std::nullopt;
  }
  Result<ControlReply> reply = client->ask(command, std::move(body), timeout);
  if (!reply) {
    std::fprintf(stderr, "gatehouse: %s\n", reply.error().message.c_str());
    return std::nullopt;
  }
  if (const Result<void> whole = take_attached_reply(*reply); !whole) {
    std::fprintf(stderr, "gatehouse: %s\n", whole.error().message.c_str());
    return std::nullopt;
  }
  exit_code = kExitOk;
  return std::move(*reply);
}

void print_errors(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  if (!text.empty() && !text.ends_with('\n')) std::fputc('\n', stderr);
}

void print_warnings(const ControlReply& reply) {
  print_errors(control_text(reply.body, "warnings"));
}

int print_refusal(const CommandLine& line, const ControlReply& reply) {
  if (line.json) {
    nlohmann::json whole = reply.body;
    whole["ok"] = false;
    print_json(whole);
  } else {
    print_errors(reply.error());
  }
  return kExitFailed;
}

void print_json(const nlohmann::json& body) {
  std::printf("%s\n", json_to_text(body, 2).c_str());
}

int run_question(const CommandLine& line, const std::string& command, nlohmann::json body,
                 Duration timeout, const std::function<void(const nlohmann::json&)>& show) {
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply =
      ask_gateway(line, command, std::move(body), timeout, exit_code);
  if (!reply) return exit_code;
  if (!reply->ok) return print_refusal(line, *reply);
  if (line.json) {
    print_json(reply->body);
  } else {
    show(reply->body);
  }
  return kExitOk;
}

}  // namespace gatehouse
