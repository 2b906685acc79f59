// The list of commands on shared state; see state_commands.h.
#include "core/state_commands.h"

#include <utility>

#include "core/breaker_commands.h"
#include "core/canary_commands.h"
#include "core/json_text.h"
#include "core/limit_commands.h"
#include "core/sealed_bytes.h"
#include "core/target_commands.h"

namespace gatehouse {
namespace {

using nlohmann::json;

// The segment itself: what stands in it and how much room there is.
Result<json> list_zones(SharedMemory& shared, const json&) {
  json zones = json::array();
  for (const ZoneInfo& zone : shared.zones()) {
    zones.push_back({{"name", zone.name},
                     {"type", zone.type},
                     {"version", zone.version},
                     {"size", zone.size},
                     {"retired", zone.retired}});
  }
  return json{{"size", shared.size().count},
              {"free", shared.free_bytes().count},
              {"zones", std::move(zones)}};
}

constexpr StateCommand kCommands[] = {
    {"zone_list", &list_zones},
    {"limit_list", &limit_list_command},
    {"limit_show", &limit_show_command},
    {"limit_set", &limit_set_command},
    {"limit_reset", &limit_reset_command},
    {"breaker_list", &breaker_list_command},
    {"breaker_open", &breaker_open_command},
    {"breaker_close", &breaker_close_command},
    {"canary_list", &canary_list_command},
    {"canary_start", &canary_start_command},
    {"canary_pause", &canary_pause_command},
    {"canary_resume", &canary_resume_command},
    {"canary_promote", &canary_promote_command},
    {"canary_rollback", &canary_rollback_command},
    {"target_list", &target_list_command},
    {"target_drain", &target_drain_command},
    {"target_disable", &target_disable_command},
    {"target_enable", &target_enable_command},
};

// Room for the message around the object.
constexpr size_t kInlineMax = kControlMessageMax - 1024;
constexpr size_t kAttachedMax = size_t{64} << 20;

}  // namespace

const StateCommand* find_state_command(std::string_view name) {
  for (const StateCommand& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

ControlReply run_state_command(const StateCommand& command, SharedMemory& shared,
                               const json& request) {
  Result<json> answer = command.run(shared, request);
  if (!answer) return control_error(answer.error().message);
  return attach_if_large(std::move(*answer));
}

ControlReply attach_if_large(json body) {
  const std::string text = json_to_text(body);
  if (text.size() <= kInlineMax) return control_ok(std::move(body));
  Result<UniqueFd> sealed = seal_bytes("gatehouse-reply", text);
  if (!sealed) return control_error(sealed.error().message);
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(*sealed));
  return control_ok({{"attached", true}}, std::move(fds));
}

Result<void> take_attached_reply(ControlReply& reply) {
  if (!reply.ok || !control_flag(reply.body, "attached")) return {};
  if (reply.fds.size() != 1) return Error{"the reply's attachment is missing"};
  Result<std::string> text = read_sealed(reply.fds[0].get(), kAttachedMax);
  if (!text) return text.error();
  Result<json> body = json_from_text(*text);
  if (!body || !body->is_object()) return Error{"the reply's attachment is no object"};
  reply.body = std::move(*body);
  reply.fds.clear();
  return {};
}

void add_state_status(SharedMemory& shared, json& status) {
  status["shared_memory"] = {{"size", shared.size().count}, {"free", shared.free_bytes().count}};
  add_breaker_status(shared, status);
  status["limits"] = limit_status(shared);
  add_target_status(shared, status);
}

}  // namespace gatehouse
