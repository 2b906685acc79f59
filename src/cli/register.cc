// See register.h.
#include "cli/register.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/clock.h"
#include "core/config_values.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;
using Command = CommandLine::Command;

constexpr Duration kTimeout{30'000};

}  // namespace

Result<json> registration_of(std::span<const std::string> words) {
  json body = json::object();
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "backup") {
      body["backup"] = true;
      continue;
    }
    if (word != "weight" && word != "lease" && word != "version" && word != "tag") {
      return Error{"\"" + word + "\": " +
                   unknown_word(word, {"weight", "lease", "version", "tag", "backup"}).message};
    }
    if (++i == words.size()) return Error{word + ": no value"};
    if (word == "weight") {
      const Result<uint64_t> weight = parse_unsigned(words[i], UINT32_MAX);
      if (!weight) return Error{"weight: " + weight.error().message};
      body["weight"] = *weight;
    } else if (word == "tag") {
      body["tags"].push_back(words[i]);
    } else {
      body[word] = words[i];
    }
  }
  return body;
}

std::string registrations_text(const json& answer, int64_t now_us) {
  std::vector<std::vector<std::string>> rows = {
      {"ADDRESS", "WEIGHT", "BACKUP", "VERSION", "TAGS", "REGISTERED", "ENDS IN"}};
  const json none = json::array();
  const json& list = answer.contains("targets") ? answer["targets"] : none;
  for (const json& one : list) {
    std::string tags;
    for (const json& tag : one.contains("tags") ? one["tags"] : none) {
      if (!tags.empty()) tags += ' ';
      if (tag.is_string()) tags += tag.get<std::string>();
    }
    const auto expires = static_cast<int64_t>(control_number(one, "expires_us"));
    const auto since = static_cast<int64_t>(control_number(one, "registered_us"));
    rows.push_back({control_text(one, "address"), std::to_string(control_number(one, "weight", 1)),
                    control_flag(one, "backup") ? "yes" : "no",
                    control_text(one, "version").empty() ? "-" : control_text(one, "version"),
                    tags.empty() ? "-" : tags, format_age(now_us - since),
                    expires == 0 ? "-" : format_age(expires - now_us)});
  }
  if (rows.size() == 1) return "nothing is registered\n";
  return format_table(rows);
}

int run_register(const CommandLine& line) {
  json body = {{"upstream", line.names[0]}};
  if (line.names.size() > 1) body["address"] = line.names[1];
  const char* command = "target_registrations";
  if (line.command == Command::kTargetDeregister) command = "target_deregister";
  if (line.command == Command::kTargetRegister) {
    command = "target_register";
    Result<json> registration = registration_of(std::span(line.names).subspan(2));
    if (!registration) return complain(registration.error().message);
    body["registration"] = std::move(*registration);
  }
  return run_question(line, command, std::move(body), kTimeout, [&line](const json& answer) {
    if (line.command == Command::kTargetRegisterList) {
      std::fputs(registrations_text(answer, wall_clock_us()).c_str(), stdout);
    } else if (line.command == Command::kTargetRegister && !control_flag(answer, "kept")) {
      print_errors("gatehouse: registered until the agent ends: [agent] state is none");
    }
  });
}

}  // namespace gatehouse
