// Asking for the history of the configuration. See history.h.
#include "cli/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "cli/diff.h"
#include "cli/format.h"
#include "cli/gateway.h"
#include "core/config_source.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;
using Command = CommandLine::Command;

constexpr Duration kTimeout{30'000};
constexpr Duration kRollbackTimeout = std::chrono::hours(4);  // as that of a reload
constexpr uint64_t kListMax = 100;
// A hash tells versions apart by its beginning.
constexpr size_t kHashShown = 12;

struct Version {
  json about;
  ConfigSource source;
};

// One version's bytes; without a number those that serve now. Says what is wrong.
std::optional<Version> fetch(const CommandLine& line, std::optional<uint64_t> number) {
  json body = json::object();
  if (number) body["number"] = *number;
  int exit_code = kExitOk;
  std::optional<ControlReply> reply =
      ask_gateway(line, "config_show", std::move(body), kTimeout, exit_code);
  if (!reply) return std::nullopt;
  if (!reply->ok) {
    print_refusal(line, *reply);
    return std::nullopt;
  }
  if (reply->fds.empty()) {
    print_errors("gatehouse: the answer came without the configuration");
    return std::nullopt;
  }
  Result<ConfigSource> source = ConfigSource::from_memfd(reply->fds[0].get());
  if (!source) {
    print_errors("gatehouse: " + source.error().message);
    return std::nullopt;
  }
  return Version{control_object(reply->body, "version"), std::move(*source)};
}

int list(const CommandLine& line) {
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply =
      ask_gateway(line, "config_list", {{"limit", kListMax}}, kTimeout, exit_code);
  if (!reply) return kExitFailed;
  if (!reply->ok) return print_refusal(line, *reply);
  if (line.json) {
    print_json(reply->body);
  } else {
    std::fputs(versions_text(control_array(reply->body, "versions")).c_str(), stdout);
  }
  return kExitOk;
}

int show(const CommandLine& line) {
  const std::optional<Version> version = fetch(line, line.versions[0]);
  if (!version) return kExitFailed;
  const auto files = version->source.files();
  if (line.json) {
    json body = {{"version", version->about}, {"files", json::array()}};
    for (const ConfigFile& file : files) {
      body["files"].push_back({{"path", file.path}, {"text", file.text}});
    }
    print_json(body);
    return kExitOk;
  }
  for (const ConfigFile& file : files) {
    // One file comes out as it is; of several, each below its name, which is a comment in them.
    if (files.size() > 1) std::printf("# ==== %s ====\n", file.path.c_str());
    std::fwrite(file.text.data(), 1, file.text.size(), stdout);
    if (files.size() > 1 && !file.text.ends_with('\n')) std::fputc('\n', stdout);
  }
  return kExitOk;
}

int diff(const CommandLine& line) {
  const bool against_running = line.versions.size() == 1;
  const std::optional<Version> from = fetch(line, line.versions[0]);
  if (!from) return kExitFailed;
  const std::optional<Version> to =
      fetch(line, against_running ? std::optional<uint64_t>() : line.versions[1]);
  if (!to) return kExitFailed;
  const Result<void> done =
      diff_sources(from->source, fmt::format("version {}", line.versions[0]), to->source,
                   against_running ? "running" : fmt::format("version {}", line.versions[1]));
  if (done) return kExitOk;
  print_errors("gatehouse: " + done.error().message);
  return kExitFailed;
}

int rollback(const CommandLine& line) {
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply = ask_gateway(
      line, "config_rollback", {{"number", line.versions[0]}}, kRollbackTimeout, exit_code);
  if (!reply) return kExitFailed;
  if (!reply->ok) return print_refusal(line, *reply);
  if (line.json) {
    print_json(reply->body);
    return kExitOk;
  }
  print_warnings(*reply);
  std::printf("generation %llu serves, with the configuration of version %llu\n",
              static_cast<unsigned long long>(control_number(reply->body, "generation")),
              static_cast<unsigned long long>(line.versions[0]));
  return kExitOk;
}

std::string hash_text(const json& version) {
  if (const std::string text = control_text(version, "hash"); !text.empty()) {
    return text.substr(0, kHashShown);
  }
  const uint64_t number = control_number(version, "hash");
  return number == 0 ? std::string() : fmt::format("{:016x}", number).substr(0, kHashShown);
}

}  // namespace

std::string versions_text(const json& versions) {
  std::vector<std::vector<std::string>> rows = {
      {"version", "generation", "time", "outcome", "by", "hash", "error"}};
  for (const json& version : versions) {
    const uint64_t generation = control_number(version, "generation");
    const std::string error = control_text(version, "error");
    std::string first_line = indented(error.substr(0, error.find('\n')), "");
    first_line.erase(first_line.find_last_not_of('\n') + 1);
    rows.push_back(
        {std::to_string(control_number(version, "number")),
         generation == 0 ? "" : std::to_string(generation),
         format_time(static_cast<int64_t>(control_number(version, "time_us"))),
         control_text(version, "outcome") + (control_flag(version, "running") ? ", serving" : ""),
         control_text(version, "by"), hash_text(version), first_line});
  }
  if (rows.size() == 1) return "no configuration has been kept\n";
  const bool errors = std::any_of(rows.begin() + 1, rows.end(),
                                  [](const auto& row) { return !row.back().empty(); });
  if (!errors) rows[0].back().clear();
  return format_table(rows);
}

int run_config(const CommandLine& line) {
  switch (line.command) {
    case Command::kConfigShow:
      return show(line);
    case Command::kConfigDiff:
      return diff(line);
    case Command::kConfigRollback:
      return rollback(line);
    default:
      return list(line);
  }
}

}  // namespace gatehouse
