// The inside of Agent, shared by the files that run it (agent.cc) and answer for it
// (agent_commands.cc, agent_pages.cc). Nobody else includes this.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "agent/agent_report.h"
#include "agent/agent_settings.h"
#include "agent/canary_runner.h"
#include "agent/history.h"
#include "agent/http_status.h"
#include "agent/job_thread.h"
#include "agent/log_rotator.h"
#include "agent/traffic_duty.h"
#include "core/agent_heartbeat.h"
#include "core/control_peer.h"
#include "core/event_loop.h"
#include "core/signals.h"

namespace gatehouse {

struct Agent::State {
  State(AgentParts lent, SharedMemory& segment, SignalIntake intake)
      : parts(std::move(lent)), shared(segment), signals(std::move(intake)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // Where the agent answers HTTP, and what came of listening there.
  struct Listening {
    std::unique_ptr<HttpStatus> http;
    SocketAddress wanted;
    SocketAddress at;
    Moment again{};
    std::string error;
    bool waits() const { return !(wanted == at); }
  };

  // ---- agent.cc ----
  Result<void> open(UniqueFd channel);
  void tick();
  void read_signals();
  void pump();
  // Sends what was just asked or answered, at the end of this turn of the loop.
  void poke() { loop->defer(pump_later); }
  void finish();
  void apply(AgentSettings fresh);
  void listen(Listening& place);
  void adopt_error_log(std::vector<UniqueFd>& fds);
  int64_t wall_us() { return loop->wall_us(); }

  // ---- agent_commands.cc ----
  void take(ControlRequest request);
  void answer(uint64_t request, ControlReply reply);
  void validate(ControlRequest request);
  void keep_checked(uint64_t request, HistoryEntry entry, std::string bytes, UniqueFd told);
  void store(const ControlRequest& request);
  void current(ControlRequest request);
  void history_list(const ControlRequest& request);
  void history_get(const ControlRequest& request);
  void registration(const ControlRequest& request);
  // Runs `work` on the history's thread with the history, then `done` here. Waits for a
  // configuration whose settings are being read; `done` gets an error where nothing is kept.
  template <typename T>
  void with_history(std::function<Result<T>(History&)> work, std::function<void(Result<T>)> done);
  void note_history(const Error* failure, const std::string& notice);

  // ---- agent_pages.cc ----
  HttpStatus::Pages pages();
  void ask_status(std::function<void(Result<ControlReply>)> done);
  AgentReport report();

  AgentParts parts;
  SharedMemory& shared;
  SignalIntake signals;
  AgentHeartbeat* heartbeat = nullptr;

  // First made, last destroyed: everything below registers with it.
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<JobThread> checking;
  std::unique_ptr<JobThread> disk;
  std::unique_ptr<JobThread> packing;
  std::unique_ptr<LogRotator> rotator;
  Listening pages_at;  // [agent] listen
  Listening api_at;    // [agent] api_socket
  std::string api_token;
  std::unique_ptr<TrafficDuty> traffic;
  std::unique_ptr<CanaryRunner> canaries;
  std::unique_ptr<ControlPeer> peer;
  Watch channel_watch;
  Watch signal_watch;
  Timer tick_timer;
  Timer pump_timer;
  Deferred pump_later{[](void* self) { static_cast<State*>(self)->pump(); }, this};
  bool finishing = false;

  std::optional<AgentSettings> settings;  // of the configuration that serves
  std::shared_ptr<History> history;       // used on the disk thread only
  unsigned binding = 0;                   // configurations whose settings are being read
  std::vector<std::function<void()>> after_binding;
  std::vector<std::function<void(Result<ControlReply>)>> waiting_for_status;

  AgentReport figures;  // what report() completes
};

template <typename T>
void Agent::State::with_history(std::function<Result<T>(History&)> work,
                                std::function<void(Result<T>)> done) {
  if (binding > 0) {
    after_binding.push_back([this, work = std::move(work), done = std::move(done)]() mutable {
      with_history(std::move(work), std::move(done));
    });
    return;
  }
  if (!history) {
    return done(Error{settings ? "no history is kept: [agent] state is none"
                               : "the agent does not know the configuration yet"});
  }
  struct Outcome {
    Result<T> result{Error{"the history was not asked"}};
    std::string notice;
  };
  auto outcome = std::make_shared<Outcome>();
  const bool queued = disk->run(
      [kept = history, work = std::move(work), outcome] {
        outcome->result = work(*kept);
        outcome->notice = kept->take_notice();
      },
      [this, outcome, done] {
        note_history(outcome->result.ok() ? nullptr : &outcome->result.error(), outcome->notice);
        done(std::move(outcome->result));
      });
  if (!queued) done(Error{"too much waits for the history already"});
}

}  // namespace gatehouse
