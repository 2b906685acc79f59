// The pages that the agent serves, and the figures on them. See http_status.h for the serving.
#include <utility>

#include "agent/agent_state.h"
#include "core/json_text.h"
#include "core/state_commands.h"

namespace gatehouse {
namespace {

constexpr Duration kStatusTimeout{2'000};
constexpr char kPrometheusType[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kJsonType[] = "application/json";

}  // namespace

AgentReport Agent::State::report() {
  AgentReport report = figures;
  report.now_us = wall_us();
  if (settings) report.history = settings->state;
  const HttpStatus& http = *pages_at.http;
  if (!http.address().is_none()) report.listen = http.address().format();
  report.listen_error = pages_at.error;
  report.http_requests = http.requests() + api_at.http->requests();
  report.rotations = rotator->status();
  return report;
}

// One question at a time, whoever many ask.
void Agent::State::ask_status(std::function<void(Result<ControlReply>)> done) {
  waiting_for_status.push_back(std::move(done));
  if (waiting_for_status.size() > 1) return;
  peer->ask("status", {}, {}, loop->now() + kStatusTimeout, [this](Result<ControlReply> reply) {
    if (reply) {
      if (const Result<void> whole = take_attached_reply(*reply); !whole) reply = whole.error();
    }
    if (reply && !reply->ok) reply = Error{reply->error()};
    for (const auto& waiting : std::exchange(waiting_for_status, {})) {
      if (!reply) {
        waiting(reply.error());
      } else {
        waiting(ControlReply{true, reply->body, {}});
      }
    }
  });
  poke();
}

HttpStatus::Pages Agent::State::pages() {
  HttpStatus::Pages pages;
  pages.metrics = [this](const HttpStatus::Answer& answer) {
    answer({200, kPrometheusType,
            parts.metrics() + agent_metrics(report()) + traffic->metrics() + canaries->metrics()});
  };
  pages.ready = [this](HttpStatus::Answer answer) {
    ask_status([answer = std::move(answer)](const Result<ControlReply>& reply) {
      HttpAnswer page;
      const std::string why = reply ? why_not_ready(reply->body) : reply.error().message;
      page.code = why.empty() ? 200 : 503;
      page.body = (why.empty() ? "ready" : why) + "\n";
      answer(std::move(page));
    });
  };
  pages.status = [this](HttpStatus::Answer answer) {
    ask_status([this, answer = std::move(answer)](const Result<ControlReply>& reply) {
      HttpAnswer page;
      nlohmann::json body = nlohmann::json::object();
      if (reply) {
        body = reply->body;
      } else {
        page.code = 503;
        body["error"] = reply.error().message;
      }
      // The master's view of the agent, and its own.
      if (!body.contains("agent") || !body["agent"].is_object()) {
        body["agent"] = nlohmann::json::object();
      }
      body["agent"].update(agent_json(report()));
      body["agent"]["traffic"] = traffic->status();
      body["agent"]["canaries"] = canaries->status();
      page.type = kJsonType;
      page.body = json_to_text(body, 2) + "\n";
      answer(std::move(page));
    });
  };
  pages.api = [this](const HttpRequest& request, HttpStatus::Answer answer) {
    const ApiDone done = [answer = std::move(answer)](const ApiAnswer& told) {
      answer({told.code, kJsonType, json_to_text(told.body) + "\n"});
    };
    if (!request.local && api_token.empty()) {
      return done({403, {{"error", "[agent] api_token is not set: only over api_socket"}}});
    }
    if (!request.local && !is_token(request.authorization, api_token)) {
      return done({401, {{"error", "a token is needed: Authorization: Bearer TOKEN"}}});
    }
    answer_api(*traffic, {request.method, request.path, request.body}, done);
  };
  return pages;
}

}  // namespace gatehouse
