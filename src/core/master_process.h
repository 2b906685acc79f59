// The master's parts and its phases. master.cc has the loop and the phases, master_control.cc what
// the control socket and the agent ask, master_certificates.cc what they ask about certificates,
// master_upgrade.cc both sides of an upgrade. Nobody else includes this.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "core/agent_process.h"
#include "core/certificate_swap.h"
#include "core/child_task.h"
#include "core/control_server.h"
#include "core/master.h"
#include "core/master_generation.h"
#include "core/pid_file.h"
#include "core/process_daemon.h"
#include "core/process_logs.h"
#include "core/process_sockets.h"
#include "core/reload.h"
#include "core/service_notify.h"
#include "core/signals.h"
#include "core/supervisor.h"
#include "core/upgrade.h"

namespace gatehouse {

class Master {
 public:
  Master(MasterStart start, SharedMemory& shared, const MasterCalls& calls,
         std::optional<DaemonStart> daemon, SignalIntake signals);
  int run();

 private:
  // kAwaiting: ready, and the old master has been told; it answers by going.
  enum class Phase { kStarting, kAwaiting, kRunning, kDraining, kStopping, kKilling };

  bool prepare();
  void make_parts();
  void wait();
  void turn();
  void on_signal(int signal);
  bool advance(Moment now);
  void finish_start();
  void take_charge();
  void fail_start(const std::string& reason);
  void drain();
  void stop_fast();
  void kill_now();
  void begin_reopen();
  void watch_reopen(Moment now);
  void begin_upgrade();
  void watch_upgrade(Moment now);
  void hear_old_master();
  void release_workers();
  void inherit_pid_file();
  void notify_service();
  const ProcessPlan& plan() const;

  // What others ask; in master_control.cc.
  void open_control(bool replace_live);
  void on_control(const ControlRequest& request);
  void on_agent(const ControlRequest& request);
  void reload(ReloadRequest request);
  void answer_reload(const ControlRequest& request, UniqueFd bytes, uint32_t version);
  void answer_reopen(std::function<void(ControlReply)> reply);
  void answer_explain(const ControlRequest& request);
  ControlReply show_running() const;
  void answer_from_history(const ControlRequest& request);
  void answer_from_agent(const ControlRequest& request);
  void answer_stop(const ControlRequest& request);
  void answer_upgrade(const ControlRequest& request);
  // In master_certificates.cc.
  void answer_certificate_reload(const ControlRequest& request);
  ControlReply list_certificates(const nlohmann::json& asked) const;
  nlohmann::json certificates_status() const;
  void list_for_metrics();
  nlohmann::json status() const;
  std::string_view phase_name() const;
  void watch_explanations(Moment now);

  // In the order of their making; undone in the opposite one.
  MasterStart start_;
  SharedMemory& shared_;
  const MasterCalls& calls_;
  std::optional<DaemonStart> daemon_;
  SignalIntake signals_;
  PidFile pid_file_;
  LogSet logs_;
  ListenSockets sockets_;
  MasterGenerationPtr first_;
  ControlServer control_;
  std::optional<AgentProcess> agent_;
  std::optional<Supervisor> supervisor_;
  std::optional<Reload> reload_;
  std::optional<CertificateSwap> swap_;
  CertificateBundlePtr listed_;  // the certificates that the metrics list
  Upgrade upgrade_;

  struct Explanation {
    uint64_t client;
    uint64_t request;
    ChildTask child;
  };
  std::list<Explanation> explanations_;

  struct Reopen {
    uint32_t sequence = 0;  // of the one under way; 0: none
    Moment deadline{};
    std::vector<std::function<void(ControlReply)>> asked;  // for the one under way
    std::vector<std::function<void(ControlReply)>> next;   // for another one after it
    bool wanted = false;                                   // another one after it
  };
  Reopen reopen_;
  std::vector<std::function<void(ControlReply)>> upgrade_asked_;
  UpgradeHeard old_master_;
  enum class ServiceState : uint8_t { kStarting, kReady, kReloading, kStopping };
  ServiceNotify service_ = ServiceNotify::from_environment();
  ServiceState service_state_ = ServiceState::kStarting;  // what the service manager was told

  Phase phase_ = Phase::kStarting;
  std::optional<Moment> deadline_;  // of the phase
  bool start_failed_ = false;
  bool released_ = false;     // a successor: its workers accept
  bool handed_over_ = false;  // a successor is in charge
  int64_t started_us_ = 0;    // wall clock
};

}  // namespace gatehouse
