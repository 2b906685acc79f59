// See limit.h.
#include "cli/limit.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/control_message.h"

namespace gatehouse {
namespace {

using nlohmann::json;
using Command = CommandLine::Command;

constexpr Duration kTimeout{30'000};

std::string number_of(const json& object, const char* key) {
  return std::to_string(control_number(object, key));
}

std::string rate_of(const json& limit) {
  std::string text = control_text(limit, "rate");
  if (limit.contains("concurrency")) {
    text +=
        fmt::format("{}{} at once", text.empty() ? "" : ", ", control_number(limit, "concurrency"));
  }
  if (control_text(limit, "mode") == "dry_run") text += " (dry run)";
  return text;
}

// "1234 of 65536", or nothing where it has no table.
std::string keys_of(const json& limit) {
  if (!limit.contains("keys_max")) return "-";
  return number_of(limit, "keys_used") + " of " + number_of(limit, "keys_max");
}

uint64_t refused_of(const json& limit) {
  return control_number(limit, "refused") + control_number(limit, "concurrency_refused");
}

json list_at(const json& object, const char* key) {
  return object.contains(key) && object[key].is_array() ? object[key] : json::array();
}

json request_of(const CommandLine& line) {
  json body = json::object();
  if (line.command == Command::kLimitList) return body;
  body["name"] = line.names[0];
  if (line.command == Command::kLimitSet) {
    std::string rate;
    for (size_t i = 1; i < line.names.size(); ++i) {
      rate += (i > 1 ? " " : "") + line.names[i];
    }
    body["rate"] = rate;
    body["keep"] = line.keep;
  } else if (line.names.size() > 1) {
    body["key"] = std::vector<std::string>(line.names.begin() + 1, line.names.end());
  }
  return body;
}

void print(const CommandLine& line, const json& answer) {
  switch (line.command) {
    case Command::kLimitList:
      std::fputs(limit_list_text(answer).c_str(), stdout);
      return;
    case Command::kLimitShow:
      std::fputs(limit_show_text(answer).c_str(), stdout);
      return;
    case Command::kLimitSet:
      std::fputs(
          fmt::format("limit {}: {}, was {}{}\n", line.names[0], control_text(answer, "rate"),
                      control_text(answer, "before"), line.keep ? "; kept over reloads" : "")
              .c_str(),
          stdout);
      return;
    default:
      std::fputs(control_flag(answer, "known") ? "reset\n" : "nothing was used of it\n", stdout);
      return;
  }
}

}  // namespace

std::string limit_list_text(const json& answer) {
  std::vector<std::vector<std::string>> rows = {
      {"LIMIT", "RATE", "KEY", "KEYS", "ADMITTED", "REFUSED", "DRY RUN", "EVICTED"}};
  for (const json& limit : list_at(answer, "limits")) {
    rows.push_back({control_text(limit, "name"), rate_of(limit), control_text(limit, "key"),
                    keys_of(limit), number_of(limit, "admitted"), std::to_string(refused_of(limit)),
                    number_of(limit, "dry_run"), number_of(limit, "evicted")});
  }
  if (rows.size() == 1) return "there is no limit\n";
  return format_table(rows);
}

std::string limit_show_text(const json& answer) {
  std::string text = fmt::format("limit     {}\n", control_text(answer, "name"));
  const auto add = [&text](std::string_view name, const std::string& value) {
    if (!value.empty()) text += fmt::format("{:<10}{}\n", name, value);
  };
  add("rate", rate_of(answer));
  if (answer.contains("file_rate")) {
    add("file", control_text(answer, "file_rate") +
                    (control_flag(answer, "kept") ? ", not in force until `limit set NAME file`"
                                                  : ", in force again at the next reload"));
  }
  add("key", control_text(answer, "key") +
                 (control_text(answer, "scope") == "route" ? ", for each route" : ""));
  add("parent", control_text(answer, "parent"));
  add("keys", keys_of(answer));
  add("admitted", number_of(answer, "admitted"));
  add("refused", fmt::format("{} by the rate, {} by concurrency", number_of(answer, "refused"),
                             number_of(answer, "concurrency_refused")));
  add("dry run", number_of(answer, "dry_run"));
  add("evicted", number_of(answer, "evicted"));
  if (answer.contains("budget")) {
    const json& budget = answer["budget"];
    std::string about;
    if (budget.contains("used")) {
      about = fmt::format("{} used, {} left, room in {} ms", number_of(budget, "used"),
                          number_of(budget, "remaining"), number_of(budget, "retry_ms"));
    }
    if (budget.contains("under_way")) {
      about +=
          fmt::format("{}{} under way", about.empty() ? "" : ", ", number_of(budget, "under_way"));
    }
    add("budget", about);
  }
  std::vector<std::vector<std::string>> rows = {{"KEY", "REQUESTS", "REFUSED", "ERROR"}};
  for (const json& key : list_at(answer, "top")) {
    const std::string name = control_text(key, "key");
    rows.push_back({name.empty() ? "?" : name, number_of(key, "requests"),
                    number_of(key, "refused"), number_of(key, "error")});
  }
  if (rows.size() > 1) text += "most of late\n" + format_table(rows, "  ");
  return text;
}

int run_limit(const CommandLine& line) {
  const char* const command = line.command == Command::kLimitList   ? "limit_list"
                              : line.command == Command::kLimitShow ? "limit_show"
                              : line.command == Command::kLimitSet  ? "limit_set"
                                                                    : "limit_reset";
  return run_question(line, command, request_of(line), kTimeout,
                      [&line](const json& answer) { print(line, answer); });
}

}  // namespace gatehouse
