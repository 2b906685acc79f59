// The agent as the master sees it: a process of its own program and user, started, asked, watched
// and started again.
//
// The master never waits for it. An agent that dies is replaced with the workers' back-off; one
// whose heartbeat stands still is killed and replaced. It is told which configuration serves
// whenever that changes and whenever it begins anew; what it has to keep (applied configurations)
// is kept here until it has confirmed it.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/agent_heartbeat.h"
#include "core/control_peer.h"
#include "core/master_generation.h"
#include "core/process_end.h"
#include "core/shared_memory.h"
#include "core/supervisor_backoff.h"
#include "core/units.h"

namespace gatehouse {

class AgentProcess {
 public:
  // `on_request`: what the agent asks the master ("reopen", "status").
  AgentProcess(SharedMemory& shared, ControlPeer::RequestHandler on_request);
  ~AgentProcess();  // kills and reaps
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  // The generation that serves from now on: starts, moves, tells or stops the agent accordingly.
  void serve(MasterGenerationPtr generation);
  // No agent from now on: it is told to end, and killed if it does not within a second.
  void stop(Moment now);
  // It runs and has said hello.
  bool is_ready() const;
  bool is_gone() const { return pid_ < 0; }

  // Asks the agent; without one the answer is an Error at the next turn.
  void ask(std::string command, nlohmann::json body, std::vector<int> fds, Moment deadline,
           ControlPeer::AnswerHandler on_answer);
  void reply(uint64_t request, ControlReply reply);

  // The error log is another file now.
  void pass_error_log(Moment now);

  // What became of a configuration; kept until the agent has it, the last kRecordsMax. Where the
  // configuration that serves has no agent, nothing is.
  struct Record {
    nlohmann::json body;
    UniqueFd bytes;
  };
  void store(Record record);

  void turn(Moment now);
  void add_descriptors(std::vector<pollfd>& list) const;
  std::optional<Moment> next_deadline(Moment now) const;

  // For status.
  std::string_view state_name() const;
  pid_t pid() const { return pid_; }
  int64_t beat_us() const;  // wall clock; 0: none

 private:
  void start(Moment now);
  [[noreturn]] void become_agent(int program, UniqueFd channel, const RunAs& run_as) const;
  void died(Moment now, const ProcessEnd& how);
  void watch_heartbeat(Moment now);
  void hello(Moment now);
  void tell_current(Moment now);
  void send_records(Moment now);

  SharedMemory& shared_;
  ControlPeer::RequestHandler on_request_;
  MasterGenerationPtr generation_;
  std::string program_;
  AgentHeartbeat* heartbeat_ = nullptr;
  pid_t pid_ = -1;
  std::unique_ptr<ControlPeer> peer_;
  Moment started_{};
  std::optional<Moment> start_at_;
  std::optional<Moment> kill_at_;  // while it is told to end
  bool hello_sent_ = false;
  bool ready_ = false;
  bool hung_ = false;
  bool stopping_ = false;
  uint32_t told_ = 0;  // the generation it was told of
  uint64_t incarnation_ = 0;
  int64_t beat_seen_ = 0;
  Moment beat_changed_{};
  RestartBackoff backoff_;
  std::deque<Record> records_;
  uint64_t record_sent_ = 0;   // the number of the one that waits for its answer; 0: none does
  uint64_t records_sent_ = 0;  // so far
  std::vector<ControlPeer::AnswerHandler> unasked_;  // there was no agent
};

}  // namespace gatehouse
