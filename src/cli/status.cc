// Asking for the status and setting it in type. See status.h.
#include "cli/status.h"

#include <fmt/format.h>
#include <time.h>

#include <cstdio>
#include <optional>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/clock.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;

constexpr Duration kTimeout{10'000};

std::string line_of(std::string_view what, const std::string& text) {
  return text.empty() ? std::string() : fmt::format("  {:<14}  {}\n", what, text);
}

std::string since(const json& object, const char* key, int64_t now_us) {
  const auto us = static_cast<int64_t>(control_number(object, key));
  if (us == 0) return {};
  return fmt::format("since {} ({})", format_time(us), format_age(now_us - us));
}

std::string generation_text(const json& status, int64_t now_us) {
  const uint64_t generation = control_number(status, "generation");
  if (generation == 0) return {};
  const std::string serving = since(status, "generation_us", now_us);
  return fmt::format("{}{}", generation, serving.empty() ? "" : ", serving " + serving);
}

// The last reload's outcome, with its error below it.
std::string reload_text(const json& status, int64_t now_us) {
  const json& reload = control_object(status, "reload");
  std::string text;
  if (const std::string state = control_text(reload, "state"); !state.empty() && state != "idle") {
    text += line_of("reload", state);
  }
  const json& last = control_object(reload, "last");
  const auto time_us = static_cast<int64_t>(control_number(last, "time_us"));
  if (time_us == 0) return text;
  const bool ok = control_flag(last, "ok");
  std::string outcome =
      fmt::format("{} {} ago", ok ? "accepted" : "refused", format_age(now_us - time_us));
  if (const std::string by = control_text(last, "by"); !by.empty()) outcome += ", by " + by;
  if (const uint64_t generation = control_number(last, "generation"); ok && generation != 0) {
    outcome += fmt::format(", as generation {}", generation);
  }
  text += line_of("last reload", outcome);
  return text + indented(control_text(last, "error"), "      ");
}

std::string agent_text(const json& status, int64_t now_us) {
  const json& agent = control_object(status, "agent");
  std::string text = control_text(agent, "state");
  if (const uint64_t pid = control_number(agent, "pid"); pid != 0 && !text.empty()) {
    text += fmt::format(", process {}", pid);
  }
  if (const auto beat = static_cast<int64_t>(control_number(agent, "beat_us"));
      beat != 0 && !text.empty()) {
    text += fmt::format(", heard {} ago", format_age(now_us - beat));
  }
  return text;
}

std::string upgrade_text(const json& status) {
  const json& upgrade = control_object(status, "upgrade");
  std::string text = control_text(upgrade, "state");
  if (text == "none") return {};
  if (const uint64_t pid = control_number(upgrade, "pid"); pid != 0 && !text.empty()) {
    text += fmt::format(", process {}", pid);
  }
  return text;
}

std::string plural(uint64_t count, const char* one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

std::string draining_text(const json& status) {
  uint64_t workers = 0, connections = 0;
  for (const json& worker : control_array(status, "workers")) {
    const std::string state = control_text(worker, "state");
    if (state != "draining" && state != "parked") continue;
    ++workers;
    connections += control_number(worker, "connections");
  }
  if (workers == 0) return {};
  return plural(workers, "worker") + " with " + plural(connections, "connection");
}

std::string workers_text(const json& status) {
  std::vector<std::vector<std::string>> rows = {{"worker", "process", "state", "generation",
                                                 "older ones", "connections", "requests",
                                                 "under way"}};
  const auto number = [](const json& worker, const char* key) {
    return std::to_string(control_number(worker, key));
  };
  // How many earlier generations still have exchanges under way.
  const auto older = [](const json& worker) {
    const uint64_t held = control_number(worker, "generations_held");
    return std::to_string(held > 0 ? held - 1 : 0);
  };
  for (const json& worker : control_array(status, "workers")) {
    const uint64_t pid = control_number(worker, "pid");
    rows.push_back({control_text(worker, "pool") + "/" + number(worker, "index"),
                    pid == 0 ? "" : std::to_string(pid), control_text(worker, "state"),
                    number(worker, "generation"), older(worker), number(worker, "connections"),
                    number(worker, "requests"), number(worker, "requests_active")});
  }
  return rows.size() == 1 ? std::string() : "\n" + format_table(rows, "  ");
}

// "2 open, 1 half-open, 7 closed"; empty where there is none.
std::string breakers_text(const json& status) {
  const json& breakers = control_object(status, "breakers");
  const uint64_t open = control_number(breakers, "open");
  const uint64_t half_open = control_number(breakers, "half_open");
  const uint64_t closed = control_number(breakers, "closed");
  if (open + half_open + closed == 0) return {};
  std::string text;
  if (open != 0) text += fmt::format("{} open, ", open);
  if (half_open != 0) text += fmt::format("{} half-open, ", half_open);
  return text + fmt::format("{} closed", closed);
}

// "2, 17 requests refused"; empty where there is none.
std::string limits_text(const json& status) {
  if (!status.contains("limits") || !status["limits"].is_array()) return {};
  const json& limits = status["limits"];
  if (limits.empty()) return {};
  uint64_t refused = 0;
  for (const json& limit : limits) {
    refused += control_number(limit, "refused") + control_number(limit, "concurrency_refused");
  }
  return fmt::format("{}, {} request{} refused", limits.size(), refused, refused == 1 ? "" : "s");
}

// "12, the next to expire is main, in 34 d 5 h"; empty where there is none.
std::string certificates_text(const json& status, int64_t now_us) {
  const json& certificates = control_object(status, "certificates");
  const uint64_t count = control_number(certificates, "count");
  if (count == 0) return {};
  std::string text = std::to_string(count);
  if (const uint64_t expired = control_number(certificates, "expired"); expired != 0) {
    text += fmt::format(", {} expired", expired);
  }
  const auto next_us =
      static_cast<int64_t>(control_number(certificates, "next_expiry")) * 1'000'000;
  if (next_us > now_us) {
    text += fmt::format(", the next to expire is {}, in {}",
                        control_text(certificates, "next_to_expire"), format_age(next_us - now_us));
  }
  const json& last = control_object(certificates, "last");
  if (!last.empty() && !control_flag(last, "ok")) text += "; the last reading was refused";
  return text;
}

}  // namespace

std::string status_text(const json& status, int64_t now_us) {
  const std::string version = control_text(status, "version");
  std::string text = "gatehouse" + (version.empty() ? "" : " " + version);
  if (const std::string state = control_text(status, "state"); !state.empty()) {
    text += ", " + state;
  }
  if (const uint64_t pid = control_number(status, "pid"); pid != 0) {
    text += fmt::format(", process {}", pid);
  }
  if (const std::string started = since(status, "started_us", now_us); !started.empty()) {
    text += ", " + started;
  }
  text += "\n";
  text += line_of("configuration", control_text(status, "config"));
  text += line_of("generation", generation_text(status, now_us));
  text += reload_text(status, now_us);
  text += line_of("agent", agent_text(status, now_us));
  text += line_of("certificates", certificates_text(status, now_us));
  text += line_of("breakers", breakers_text(status));
  text += line_of("limits", limits_text(status));
  text += line_of("upgrade", upgrade_text(status));
  text += line_of("still draining", draining_text(status));
  return text + workers_text(status);
}

int run_status(const CommandLine& line) {
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply =
      ask_gateway(line, "status", json::object(), kTimeout, exit_code);
  if (!reply) return exit_code;
  if (!reply->ok) return print_refusal(line, *reply);
  if (line.json) {
    print_json(reply->body);
  } else {
    std::fputs(status_text(reply->body, wall_clock_us()).c_str(), stdout);
  }
  return kExitOk;
}

}  // namespace gatehouse
