// Reload: takes one new configuration at a time from its file into all workers, or into none.
//
//   reading ─ checking ─ validating ─ binding ─ preparing ─┬─ commit ─ switching ─ done
//                                                          └─ discard, with every reason
//
// 1. reading     the file and its includes become one sealed memfd. (A rollback begins with stored
//                bytes instead.)
// 2. checking    a child compiles those bytes with the workers' rights and answers with all errors,
//                or with what to do (ProcessPlan). Files that directives name are opened here, by
//                the master, when the child asks for them; it then compiles once more. Then the
//                files of certificates are read and another child checks those. The agent
//                validates and keeps the bytes in its history; where it is away or slow, that part
//                comes later. What the master does as root is decided by the child alone, which
//                talks to nobody, and never by the agent.
// 3. binding     sockets and log files that are new are opened.
// 4. preparing   every worker compiles the bytes beside its traffic.
//    switching   all of them begin with the new generation; what is no longer wanted is closed.
//
// Whatever fails before the commit is undone: the old generation serves, untouched, and the caller
// gets every error. After the commit nothing can fail; a worker that dies then is replaced by one
// that has the new generation.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/agent_process.h"
#include "core/certificate_load.h"
#include "core/check_answer.h"
#include "core/child_task.h"
#include "core/clock.h"
#include "core/config_source.h"
#include "core/master.h"
#include "core/master_generation.h"
#include "core/process_logs.h"
#include "core/process_sockets.h"
#include "core/supervisor.h"

namespace gatehouse {

struct ReloadOutcome {
  bool ok = false;
  uint32_t generation = 0;            // that serves now
  std::string error;                  // lines
  std::vector<std::string> warnings;  // of a reload that succeeded
};

struct ReloadRequest {
  ReloadRequest() = default;
  explicit ReloadRequest(std::string who) : by(std::move(who)) {}
  std::string by;        // who asked, for the log and the history: "signal", "uid 0 pid 4711"
  UniqueFd bytes;        // stored bytes to go back to; none: the configuration file is read
  uint32_t version = 0;  // the history's number of those bytes
  std::function<void(const ReloadOutcome&)> done;  // may be empty
};

class Reload {
 public:
  // All references outlive it.
  struct Parts {
    std::string config_path;
    const MasterCalls& calls;
    Supervisor& supervisor;
    ListenSockets& sockets;
    LogSet& logs;
    AgentProcess& agent;
  };
  explicit Reload(Parts parts) : parts_(std::move(parts)) {}
  Reload(const Reload&) = delete;
  Reload& operator=(const Reload&) = delete;

  // Queues it; requests without bytes that wait already are answered together.
  void request(ReloadRequest request);
  void turn(Moment now);
  std::optional<Moment> next_deadline() const;
  bool is_idle() const { return step_ == Step::kIdle && waiting_.empty(); }
  // Gives up what is under way, if it is not committed, and refuses what waits.
  void refuse_all(const std::string& why);

  // ---- For status -------------------------------------------------------------------------------
  std::string_view step_name() const;
  struct Last {
    int64_t time_us = 0;  // wall clock; 0: there was none
    std::string by;
    ReloadOutcome outcome;
  };
  const Last& last() const { return last_; }
  int64_t generation_us() const { return generation_us_; }  // when the present one began

 private:
  enum class Step : uint8_t {
    kIdle,
    kChecking,
    kCertificates,
    kValidating,
    kPreparing,
    kSwitching
  };

  void begin(Moment now);
  void check(Moment now);
  void on_checked(Result<std::string> result, Moment now);
  void load_certificates(Moment now);
  void on_certificates(Result<LoadedCertificates> loaded, Moment now);
  void validate(Moment now);
  void on_validated(Result<ControlReply> reply);
  void bind(Moment now);
  void commit(Moment now);
  void fail(const std::string& error);
  void finish(bool ok, const std::string& error);

  Parts parts_;
  std::deque<ReloadRequest> waiting_;
  Step step_ = Step::kIdle;
  std::vector<ReloadRequest> asked_;  // the one under way, and those that joined it
  uint32_t number_ = 0;               // of the generation under way
  Moment deadline_{};
  std::shared_ptr<ConfigSource> source_;
  UniqueFd bytes_;
  std::optional<ChildTask> checker_;
  unsigned rounds_ = 0;  // of checking
  CheckAnswer answer_;
  std::unique_ptr<CertificateLoad> certificates_;  // of answer_.plan, while they are loaded
  CertificateBundlePtr bundle_;
  uint64_t validation_ = 0;  // tells the agent's answer to this one from a late one
  bool validated_ = false;
  std::vector<std::string> warnings_;
  Last last_;
  int64_t generation_us_ = wall_clock_us();
};

}  // namespace gatehouse
