// What the master may ask of the agent. The messages are listed in agent.h.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "agent/agent_state.h"
#include "agent/member_file.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/sealed_bytes.h"
#include "core/traffic_plan.h"

namespace gatehouse {
namespace {

constexpr uint64_t kListMax = 1000;
constexpr uint64_t kListDefault = 100;
// Leaves room for the rest of the message.
constexpr size_t kListBytes = kControlMessageMax - 8 * 1024;

// The bytes that a request brought.
Result<std::string> bytes_of(const ControlRequest& request, size_t descriptors_max = 1) {
  if (request.fds.empty() || request.fds.size() > descriptors_max) {
    return Error{
        fmt::format("{} needs the configuration's descriptor, and no other", request.command)};
  }
  return read_sealed(request.fds.front().get(), kHistoryBytesMax);
}

HistoryEntry entry_of(const ControlRequest& request, int64_t now_us) {
  HistoryEntry entry;
  entry.generation = control_number(request.body, "generation");
  entry.time_us = static_cast<int64_t>(control_number(request.body, "time_us"));
  if (entry.time_us == 0) entry.time_us = now_us;
  entry.by = control_text(request.body, "by");
  entry.outcome = control_text(request.body, "outcome");
  entry.error = control_text(request.body, "error");
  return entry;
}

std::vector<UniqueFd> one_fd(UniqueFd fd) {
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(fd));
  return fds;
}

// What a check came to, on its way from the thread to the loop.
struct Checked {
  bool good = false;
  UniqueFd told;
  std::string failure;  // nothing could be told
};

// On the checking thread.
Checked check_bytes(const AgentParts& parts, int fd) {
  Checked checked;
  Result<ConfigSource> source = ConfigSource::from_memfd(fd);
  if (!source) {
    checked.failure = source.error().message;
    return checked;
  }
  const CheckAnswer answer = parts.check(std::make_shared<ConfigSource>(std::move(*source)));
  checked.good = answer.errors.empty() && answer.wanted.empty();
  Result<UniqueFd> told = seal_bytes("gatehouse check", check_answer_to_json(answer));
  if (told) {
    checked.told = std::move(*told);
  } else {
    checked.failure = told.error().message;
  }
  return checked;
}

}  // namespace

void Agent::State::take(ControlRequest request) {
  const std::string& command = request.command;
  const uint64_t id = request.id;
  if (command == "hello") {
    answer(id, control_ok({{"pid", getpid()}, {"version", parts.version}}));
  } else if (command == "validate") {
    validate(std::move(request));
  } else if (command == "store") {
    store(request);
  } else if (command == "current") {
    current(std::move(request));
  } else if (command == "history_list") {
    history_list(request);
  } else if (command == "history_get") {
    history_get(request);
  } else if (command.starts_with("target_")) {
    registration(request);
  } else if (command == "reopen") {
    adopt_error_log(request.fds);
    answer(id, control_ok());
  } else if (command == "shutdown") {
    answer(id, control_ok());
    finish();
  } else {
    answer(id, control_error("the agent has no command \"" + command + "\""));
  }
}

void Agent::State::answer(uint64_t request, ControlReply reply) {
  peer->reply(request, std::move(reply));
  poke();
}

void Agent::State::validate(ControlRequest request) {
  Result<std::string> bytes = bytes_of(request);
  if (!bytes) {
    ++figures.checks_failed;
    return answer(request.id, control_error(bytes.error().message));
  }
  auto checked = std::make_shared<Checked>();
  auto fd = std::make_shared<UniqueFd>(std::move(request.fds.front()));
  auto kept = std::make_shared<std::string>(std::move(*bytes));
  const bool queued = checking->run(
      [this, fd, checked] { *checked = check_bytes(parts, fd->get()); },
      [this, id = request.id, entry = entry_of(request, wall_us()), checked, kept] {
        if (!checked->failure.empty()) {
          ++figures.checks_failed;
          answer(id, control_error(checked->failure));
        } else if (!checked->good) {
          ++figures.checks_bad;
          answer(id, control_ok(nlohmann::json::object(), one_fd(std::move(checked->told))));
        } else {
          ++figures.checks_good;
          keep_checked(id, entry, std::move(*kept), std::move(checked->told));
        }
      });
  if (!queued) answer(request.id, control_error("too many checks wait already"));
}

void Agent::State::keep_checked(uint64_t request, HistoryEntry entry, std::string bytes,
                                UniqueFd told) {
  // Where there is no folder to keep it in, that is no fault of this configuration.
  struct Kept {
    uint64_t number = 0;
    std::string warning;
  };
  auto fd = std::make_shared<UniqueFd>(std::move(told));
  if (binding == 0 && !history) {
    return answer(request, control_ok({{"number", 0}}, one_fd(std::move(*fd))));
  }
  with_history<Kept>(
      [entry = std::move(entry), bytes = std::move(bytes)](History& versions) -> Result<Kept> {
        const Result<uint64_t> number = versions.keep_checked(entry, bytes);
        if (number) return Kept{*number, {}};
        if (versions.unusable()) return Kept{0, number.error().message};
        return number.error();
      },
      [this, request, fd](const Result<Kept>& kept) {
        if (!kept) {
          ++figures.checks_failed;
          return answer(request, control_error("the configuration is good, but cannot be kept: " +
                                               kept.error().message));
        }
        nlohmann::json body{{"number", kept->number}};
        if (kept->number != 0) ++figures.history_stored;
        if (!kept->warning.empty()) body["warning"] = kept->warning;
        answer(request, control_ok(std::move(body), one_fd(std::move(*fd))));
      });
}

void Agent::State::store(const ControlRequest& request) {
  // An attempt whose bytes could not even be read has none.
  Result<std::string> bytes = request.fds.empty() ? std::string() : bytes_of(request);
  if (!bytes) return answer(request.id, control_error(bytes.error().message));
  HistoryEntry entry = entry_of(request, wall_us());
  if (entry.outcome != "applied" && entry.outcome != "refused" && entry.outcome != "rolled_back") {
    return answer(request.id, control_error("outcome is applied, refused or rolled_back"));
  }
  with_history<uint64_t>([entry = std::move(entry), bytes = std::move(*bytes)](
                             History& versions) { return versions.store(entry, bytes); },
                         [this, id = request.id](const Result<uint64_t>& number) {
                           if (!number) return answer(id, control_error(number.error().message));
                           ++figures.history_stored;
                           answer(id, control_ok({{"number", *number}}));
                         });
}

void Agent::State::current(ControlRequest request) {
  Result<std::string> bytes = bytes_of(request, 2);
  if (!bytes) return answer(request.id, control_error(bytes.error().message));
  struct Bound {
    std::optional<AgentSettings> settings;
    Result<TrafficPlan> traffic{TrafficPlan()};
    std::string failure;
  };
  auto bound = std::make_shared<Bound>();
  auto fd = std::make_shared<UniqueFd>(std::move(request.fds[0]));
  // A master of the version before, which has just been replaced on disk, sends no plan.
  auto plan = std::make_shared<UniqueFd>();
  if (request.fds.size() > 1) *plan = std::move(request.fds[1]);
  auto kept = std::make_shared<std::string>(std::move(*bytes));
  const bool queued = checking->run(
      [this, fd, plan, bound] {
        if (*plan) {
          const Result<std::string> text = read_sealed(plan->get(), kTrafficPlanMax);
          bound->traffic = text ? traffic_plan_from_json(*text) : text.error();
        }
        const Result<ConfigSource> source = ConfigSource::from_memfd(fd->get());
        if (!source) {
          bound->failure = source.error().message;
          return;
        }
        ConfigErrors errors;
        bound->settings = agent_settings(parts.bind(*source, errors));
      },
      [this, id = request.id, entry = entry_of(request, wall_us()), bound, kept] {
        --binding;
        if (bound->settings) {
          figures.generation = entry.generation;
          apply(std::move(*bound->settings));
          if (bound->traffic) {
            canaries->serve(bound->traffic->canaries, settings->state);
            traffic->serve(std::move(*bound->traffic), settings->discovery, settings->state);
          } else {
            GH_LOG(kError, "{}", bound->traffic.error().message);
          }
        }
        if (binding == 0) {
          for (const auto& waiting : std::exchange(after_binding, {})) waiting();
        }
        if (!bound->settings) return answer(id, control_error(bound->failure));
        answer(id, control_ok());
        if (!history) return;
        with_history<uint64_t>(
            [entry, kept](History& versions) { return versions.set_running(entry, *kept); },
            [](const Result<uint64_t>&) {});
      });
  if (!queued) return answer(request.id, control_error("too many checks wait already"));
  ++binding;
}

void Agent::State::history_list(const ControlRequest& request) {
  const auto limit =
      std::clamp<uint64_t>(control_number(request.body, "limit", kListDefault), 1, kListMax);
  const uint64_t before = control_number(request.body, "before");
  with_history<std::vector<HistoryVersion>>(
      [limit, before](History& versions) {
        return versions.list(static_cast<uint32_t>(limit) + 1, before);
      },
      [this, id = request.id, limit](const Result<std::vector<HistoryVersion>>& found) {
        if (!found) return answer(id, control_error(found.error().message));
        nlohmann::json versions = nlohmann::json::array();
        size_t bytes = 0;
        for (const HistoryVersion& version : *found) {
          nlohmann::json entry = version_json(version);
          bytes += json_to_text(entry).size() + 1;
          if (versions.size() == limit || bytes > kListBytes) break;
          versions.push_back(std::move(entry));
        }
        const bool more = versions.size() < found->size();
        answer(id, control_ok({{"versions", std::move(versions)}, {"more", more}}));
      });
}

void Agent::State::history_get(const ControlRequest& request) {
  if (!request.body.contains("number") || !request.body["number"].is_number_unsigned()) {
    return answer(request.id, control_error("history_get needs the number of a version"));
  }
  const uint64_t number = control_number(request.body, "number");
  with_history<HistoryConfig>(
      [number](History& versions) { return versions.get(number); },
      [this, id = request.id](const Result<HistoryConfig>& found) {
        if (!found) return answer(id, control_error(found.error().message));
        Result<UniqueFd> sealed = seal_bytes("gatehouse configuration", found->bytes);
        if (!sealed) return answer(id, control_error(sealed.error().message));
        answer(id,
               control_ok({{"version", version_json(found->version)}}, one_fd(std::move(*sealed))));
      });
}

// The same as over HTTP; whoever may use the control socket has been checked by the master.
void Agent::State::registration(const ControlRequest& request) {
  const std::string upstream = control_text(request.body, "upstream");
  const std::string address = control_text(request.body, "address");
  const auto reply = [this, id = request.id](ApiAnswer told) {
    if (told.code >= 200 && told.code < 300) {
      answer(id, control_ok(std::move(told.body)));
    } else {
      answer(id, control_error(control_text(told.body, "error")));
    }
  };
  if (!traffic->on_duty()) return reply({503, {{"error", "the agent is not on duty yet"}}});
  const std::string why = traffic->why_no_registrations(upstream);
  if (!why.empty()) return reply({404, {{"error", why}}});
  if (request.command == "target_registrations") {
    nlohmann::json list = nlohmann::json::array();
    for (const Registration& one : traffic->registered(upstream)) {
      list.push_back(registration_json(one));
    }
    return reply({200, {{"targets", std::move(list)}}});
  }
  const Result<SocketAddress> place = member_address(address);
  if (!place) return reply({400, {{"error", place.error().message}}});
  if (request.command == "target_deregister") {
    return traffic->remove_registration(upstream, *place, reply);
  }
  const std::string text = request.body.contains("registration")
                               ? json_to_text(request.body["registration"])
                               : std::string();
  Result<Registration> wanted = parse_registration(upstream, address, text);
  if (!wanted) return reply({400, {{"error", wanted.error().message}}});
  traffic->put_registration(std::move(*wanted), reply);
}

void Agent::State::note_history(const Error* failure, const std::string& notice) {
  if (!notice.empty()) GH_LOG(kError, "{}", notice);
  if (failure == nullptr) {
    figures.history_error.clear();
    return;
  }
  ++figures.history_failures;
  if (figures.history_error == failure->message) return;
  figures.history_error = failure->message;
  GH_LOG(kError, "history: {}", failure->message);
}

}  // namespace gatehouse
