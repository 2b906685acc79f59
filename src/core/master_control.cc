// What the control socket and the agent ask of the master, and how it stands (status).
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "core/clock.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/master_process.h"
#include "core/state_commands.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

// What the history's questions may take.
constexpr Duration kHistoryTimeout{10'000};
constexpr Duration kExplainTimeout{10'000};
constexpr size_t kExplanationsMax = 8;

std::string who_asks(const ControlRequest& request) {
  return fmt::format("uid {} pid {}", request.uid, request.pid);
}

Json json_of(const Reload::Last& last) {
  if (last.time_us == 0) return nullptr;
  return {{"time_us", last.time_us},
          {"ok", last.outcome.ok},
          {"by", last.by},
          {"generation", last.outcome.generation},
          {"error", last.outcome.error}};
}

ControlReply reply_of(const ReloadOutcome& outcome) {
  Json body = {{"generation", outcome.generation}, {"warnings", outcome.warnings}};
  return outcome.ok ? control_ok(std::move(body)) : control_error(outcome.error, std::move(body));
}

}  // namespace

void Master::open_control(bool replace_live) {
  if (plan().control.empty()) return;
  ControlPlace place;
  place.path = plan().control;
  place.replace_live = replace_live;
  if (!plan().control_group.empty()) {
    errno = 0;
    if (const group* found = getgrnam(plan().control_group.c_str())) {
      place.readers = found->gr_gid;
    } else {
      GH_LOG(kError, "control_group {}: there is no such group", plan().control_group);
    }
  }
  // The gateway serves without it as well: signals remain.
  if (Result<void> opened = control_.open(place); !opened) {
    GH_LOG(kError, "control socket: {}", opened.error().message);
  }
}

void Master::reload(ReloadRequest request) {
  std::string refusal;
  if (phase_ != Phase::kRunning) {
    refusal = "the gateway is " + std::string(phase_name());
  } else if (upgrade_.is_running()) {
    refusal = "an upgrade is under way";
  } else {
    return reload_->request(std::move(request));
  }
  GH_LOG(kError, "reload: refused: {}", refusal);
  if (request.done) request.done({false, supervisor_->current()->number, refusal, {}});
}

void Master::answer_reload(const ControlRequest& request, UniqueFd bytes, uint32_t version) {
  ReloadRequest wanted;
  wanted.by = who_asks(request);
  wanted.bytes = std::move(bytes);
  wanted.version = version;
  wanted.done = [this, client = request.client, id = request.id](const ReloadOutcome& outcome) {
    control_.reply(client, id, reply_of(outcome));
  };
  reload(std::move(wanted));
}

void Master::answer_reopen(std::function<void(ControlReply)> reply) {
  reopen_.next.push_back(std::move(reply));
  reopen_.wanted = true;
  begin_reopen();
}

void Master::answer_stop(const ControlRequest& request) {
  const std::string mode = control_text(request.body, "mode", "graceful");
  if (mode != "graceful" && mode != "fast") {
    return control_.reply(request.client, request.id,
                          control_error("mode: expected graceful or fast"));
  }
  // As a signal would: the second one is stronger than the first.
  on_signal(mode == "fast" ? SIGTERM : SIGQUIT);
  control_.reply(request.client, request.id, control_ok({{"state", phase_name()}}));
}

void Master::answer_upgrade(const ControlRequest& request) {
  upgrade_asked_.push_back([this, client = request.client, id = request.id](ControlReply reply) {
    control_.reply(client, id, std::move(reply));
  });
  if (upgrade_.is_running()) return;  // answered together with the one under way
  begin_upgrade();
}

// Done in a child: it compiles the configuration that serves.
void Master::answer_explain(const ControlRequest& request) {
  if (explanations_.size() >= kExplanationsMax) {
    return control_.reply(request.client, request.id,
                          control_error("too many requests to explain at once"));
  }
  const MasterGenerationPtr generation = supervisor_->current();
  const int config = generation->config.get();
  const auto work = [this, generation, config, body = request.body]() -> std::string {
    Result<ConfigSource> source = ConfigSource::from_memfd(config);
    Result<std::string> text =
        source ? calls_.explain(std::make_shared<const ConfigSource>(std::move(*source)),
                                generation->names, body)
               : Result<std::string>(source.error());
    const Json answer = text ? Json{{"text", *text}} : Json{{"error", text.error().message}};
    return json_to_text(answer);
  };
  Result<ChildTask> child = ChildTask::start("explainer", generation->run_as, {config},
                                             monotonic_now() + kExplainTimeout, work);
  if (!child) {
    return control_.reply(request.client, request.id, control_error(child.error().message));
  }
  explanations_.push_back({request.client, request.id, std::move(*child)});
}

void Master::watch_explanations(Moment now) {
  for (auto it = explanations_.begin(); it != explanations_.end();) {
    const std::optional<Result<std::string>> result = it->child.poll(now);
    if (!result) {
      ++it;
      continue;
    }
    ControlReply reply = control_error("the explanation is malformed");
    if (!*result) {
      reply = control_error(result->error().message);
    } else {
      const Result<Json> answer = json_from_text(**result);
      if (answer && answer->contains("text")) {
        reply = control_ok(*answer);
      } else if (answer && answer->contains("error")) {
        reply = control_error(control_text(*answer, "error"));
      }
    }
    control_.reply(it->client, it->request, std::move(reply));
    it = explanations_.erase(it);
  }
}

// The agent keeps the history: its answers are passed on.
void Master::answer_from_history(const ControlRequest& request) {
  const bool list = request.command == "config_list";
  const bool rollback = request.command == "config_rollback";
  Json body = Json::object();
  for (const char* key : {"limit", "number"}) {
    if (request.body.contains(key)) body[key] = request.body[key];
  }
  auto asked = std::make_shared<ControlRequest>();
  asked->client = request.client;
  asked->id = request.id;
  asked->uid = request.uid;
  asked->pid = request.pid;
  const auto version = static_cast<uint32_t>(control_number(request.body, "number"));
  agent_->ask(
      list ? "history_list" : "history_get", std::move(body), {}, monotonic_now() + kHistoryTimeout,
      [this, asked, rollback, version](Result<ControlReply> reply) {
        if (!reply) {
          control_.reply(asked->client, asked->id,
                         control_error("the history cannot be asked: " + reply.error().message));
        } else if (!reply->ok || !rollback) {
          control_.reply(asked->client, asked->id, std::move(*reply));
        } else if (reply->fds.empty()) {
          control_.reply(asked->client, asked->id, control_error("the history gave no bytes"));
        } else {
          answer_reload(*asked, std::move(reply->fds[0]), version);
        }
      });
}

// Registrations of targets are the agent's business.
void Master::answer_from_agent(const ControlRequest& request) {
  Json body = Json::object();
  for (const char* key : {"upstream", "address", "registration"}) {
    if (request.body.contains(key)) body[key] = request.body[key];
  }
  agent_->ask(request.command, std::move(body), {}, monotonic_now() + kHistoryTimeout,
              [this, client = request.client, id = request.id](Result<ControlReply> reply) {
                control_.reply(
                    client, id,
                    reply ? std::move(*reply)
                          : control_error("the agent cannot be asked: " + reply.error().message));
              });
}

// The bytes that serve now, which no agent is needed for.
ControlReply Master::show_running() const {
  const MasterGenerationPtr generation = supervisor_->current();
  std::vector<UniqueFd> fds;
  fds.emplace_back(fcntl(generation->config.get(), F_DUPFD_CLOEXEC, 0));
  if (!fds[0])
    return control_error(errno_error("cannot hand out the configuration", errno).message);
  return control_ok({{"version", {{"generation", generation->number}}}}, std::move(fds));
}

void Master::on_control(const ControlRequest& request) {
  const auto reply = [this, client = request.client, id = request.id](ControlReply answer) {
    control_.reply(client, id, std::move(answer));
  };
  if (const StateCommand* command = find_state_command(request.command)) {
    reply(run_state_command(*command, shared_, request.body));
  } else if (request.command == "status") {
    reply(attach_if_large(status()));
  } else if (request.command == "reload") {
    answer_reload(request, UniqueFd(), 0);
  } else if (request.command == "certificate_reload") {
    answer_certificate_reload(request);
  } else if (request.command == "certificate_list") {
    reply(list_certificates(request.body));
  } else if (request.command == "reopen") {
    answer_reopen(reply);
  } else if (request.command == "stop") {
    answer_stop(request);
  } else if (request.command == "upgrade") {
    answer_upgrade(request);
  } else if (request.command == "upgrade_cancel") {
    if (!upgrade_.is_running()) return reply(control_error("no upgrade is under way"));
    upgrade_.cancel("cancelled by " + who_asks(request));
    reply(control_ok());
  } else if (request.command == "explain") {
    answer_explain(request);
  } else if (request.command == "config_show" && !request.body.contains("number")) {
    reply(show_running());
  } else if (request.command.starts_with("target_")) {
    answer_from_agent(request);
  } else {
    answer_from_history(request);
  }
}

void Master::on_agent(const ControlRequest& request) {
  const auto reply = [this, id = request.id](ControlReply answer) {
    agent_->reply(id, std::move(answer));
  };
  if (request.command == "status") {
    reply(attach_if_large(status()));
  } else if (request.command == "reopen") {
    answer_reopen(reply);
  } else {
    reply(control_error("unknown command " + request.command));
  }
}

std::string_view Master::phase_name() const {
  switch (phase_) {
    case Phase::kStarting:
    case Phase::kAwaiting:
      return "starting";
    case Phase::kRunning:
      return "running";
    case Phase::kDraining:
      return "draining";
    case Phase::kStopping:
    case Phase::kKilling:
      return "stopping";
  }
  return "?";
}

Json Master::status() const {
  Json workers = Json::array();
  for (const Supervisor::View& view : supervisor_->view()) {
    Json worker = {{"pool", view.pool}, {"index", view.index}};
    if (view.process != nullptr) {
      worker["pid"] = view.process->pid;
      worker["row"] = view.process->row;
      worker["state"] = worker_state_name(view.process->state);
      worker["generation"] = view.process->generation;
      if (supervisor_->certificates()) worker["certificates"] = view.process->certificates;
      if (const MasterGenerationPtr next = supervisor_->preparing()) {
        worker["prepared"] = view.process->prepared == next->number;
      }
      if (calls_.describe_worker) calls_.describe_worker(view.process->row, worker);
    } else {
      worker["state"] = "restarting";
    }
    workers.push_back(std::move(worker));
  }
  Json listeners = Json::array();
  for (const ListenSockets::HandedDown& socket : sockets_.hand_down()) {
    listeners.push_back({{"listener", socket.listener}, {"address", socket.address.format()}});
  }
  Json status = {{"version", start_.version},
                 {"pid", getpid()},
                 {"started_us", started_us_},
                 {"state", phase_name()},
                 {"config", start_.config_path},
                 {"generation", supervisor_->current()->number},
                 {"generation_us", reload_->generation_us()},
                 {"reload", {{"state", reload_->step_name()}, {"last", json_of(reload_->last())}}},
                 {"workers", std::move(workers)},
                 {"listeners", std::move(listeners)},
                 {"agent",
                  {{"state", agent_->state_name()},
                   {"pid", std::max(agent_->pid(), 0)},
                   {"beat_us", agent_->beat_us()}}},
                 {"upgrade",
                  {{"state", upgrade_.is_running() ? "starting"
                             : handed_over_        ? "handed over"
                                                   : "none"},
                   {"pid", std::max(upgrade_.pid(), 0)}}}};
  if (supervisor_->certificates()) status["certificates"] = certificates_status();
  add_state_status(shared_, status);
  return status;
}

}  // namespace gatehouse
