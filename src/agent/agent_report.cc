// The agent's figures, as text and as JSON. See agent_report.h.
#include "agent/agent_report.h"

#include <iterator>
#include <map>
#include <string_view>

#include "core/control_message.h"
#include "core/format.h"

namespace gatehouse {
namespace {

constexpr size_t kListedErrorMax = 400;  // bytes of an error in a list

class Families {
 public:
  void add(std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    head(name, type, help);
    fmt::format_to(std::back_inserter(text_), "{} {}\n", name, value);
  }
  void add_seconds(std::string_view name, std::string_view help, int64_t us) {
    head(name, "gauge", help);
    fmt::format_to(std::back_inserter(text_), "{} {:.3f}\n", name, static_cast<double>(us) / 1e6);
  }
  void head(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(text_), "# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
  }
  void sample(std::string_view name, std::string_view label, std::string_view value, uint64_t n) {
    fmt::format_to(std::back_inserter(text_), "{}{{{}=\"{}\"}} {}\n", name, label, escaped(value),
                   n);
  }
  std::string take() { return fmt::to_string(text_); }

 private:
  static std::string escaped(std::string_view value) {
    std::string text;
    for (const char c : value) {
      if (c == '\\' || c == '"') text += '\\';
      if (c == '\n') {
        text += "\\n";
      } else {
        text += c;
      }
    }
    return text;
  }
  fmt::memory_buffer text_;
};

}  // namespace

std::string agent_metrics(const AgentReport& report) {
  Families out;
  if (report.generation != 0) {
    out.add("gatehouse_generation", "gauge", "Number of the configuration that serves.",
            report.generation);
  }
  out.add_seconds("gatehouse_agent_start_time_seconds", "When the agent was started.",
                  report.started_us);
  out.head("gatehouse_agent_checks_total", "counter", "Configurations that were checked.");
  for (const auto& [result, count] :
       {std::pair<std::string_view, uint64_t>{"good", report.checks_good},
        {"bad", report.checks_bad},
        {"failed", report.checks_failed}}) {
    out.sample("gatehouse_agent_checks_total", "result", result, count);
  }
  out.add("gatehouse_agent_history_stored_total", "counter", "Versions written to the history.",
          report.history_stored);
  out.add("gatehouse_agent_history_failures_total", "counter",
          "Versions that could not be written to the history.", report.history_failures);
  out.add("gatehouse_agent_http_requests_total", "counter", "Requests that the agent answered.",
          report.http_requests);
  if (report.rotations.empty()) return out.take();
  const auto each = [&](std::string_view name, std::string_view type, std::string_view help,
                        uint64_t RotationStatus::*member) {
    out.head(name, type, help);
    for (const RotationStatus& log : report.rotations) {
      out.sample(name, "file", log.path, log.*member);
    }
  };
  each("gatehouse_agent_log_rotations_total", "counter", "Logs that were rotated.",
       &RotationStatus::rotations);
  each("gatehouse_agent_log_rotation_failures_total", "counter", "Steps of rotation that failed.",
       &RotationStatus::failures);
  each("gatehouse_agent_log_size_bytes", "gauge", "Size of a log that is rotated.",
       &RotationStatus::size);
  return out.take();
}

nlohmann::json agent_json(const AgentReport& report) {
  nlohmann::json logs = nlohmann::json::array();
  for (const RotationStatus& log : report.rotations) {
    logs.push_back({{"file", log.path},
                    {"size", log.size},
                    {"rotations", log.rotations},
                    {"failures", log.failures},
                    {"last_us", log.last_us},
                    {"unpacked", log.unpacked},
                    {"error", log.error}});
  }
  return {{"pid", report.pid},
          {"started_us", report.started_us},
          {"now_us", report.now_us},
          {"generation", report.generation},
          {"checks",
           {{"good", report.checks_good},
            {"bad", report.checks_bad},
            {"failed", report.checks_failed}}},
          {"history",
           {{"folder", report.history},
            {"stored", report.history_stored},
            {"failures", report.history_failures},
            {"error", report.history_error}}},
          {"http",
           {{"listen", report.listen},
            {"requests", report.http_requests},
            {"error", report.listen_error}}},
          {"logs", logs}};
}

std::string why_not_ready(const nlohmann::json& status) {
  const std::string state = control_text(status, "state");
  if (state != "running") return fmt::format("the gateway is {}", state.empty() ? "away" : state);
  std::map<std::string, bool> pools;
  for (const nlohmann::json& worker : control_array(status, "workers")) {
    pools[control_text(worker, "pool")] |= control_text(worker, "state") == "ready";
  }
  if (pools.empty()) return "there are no workers";
  std::string why;
  for (const auto& [pool, ready] : pools) {
    if (!ready)
      why += fmt::format("{}no worker of pool {} is ready", why.empty() ? "" : "; ", pool);
  }
  return why;
}

nlohmann::json version_json(const HistoryVersion& version) {
  return {{"number", version.number},
          {"generation", version.generation},
          {"hash", version.hash},
          {"time_us", version.time_us},
          {"by", version.by},
          {"outcome", version.outcome},
          {"size", version.size},
          {"running", version.running},
          {"error", version.error.substr(0, kListedErrorMax)}};
}

}  // namespace gatehouse
