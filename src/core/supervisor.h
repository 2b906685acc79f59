// The supervisor: one slot for each worker; starts, reaps, replaces, gives orders.
//
// It owns no loop. The master waits on descriptors() and until next_deadline(), then calls turn(),
// which does whatever is due; every call is cheap where nothing is. Time comes in as an argument.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/channel.h"
#include "core/master.h"
#include "core/process_logs.h"
#include "core/process_plan.h"
#include "core/process_privileges.h"
#include "core/process_sockets.h"
#include "core/supervisor_backoff.h"
#include "core/units.h"

namespace gatehouse {

class Supervisor {
 public:
  // All references outlive the supervisor.
  Supervisor(const ProcessPlan& plan, SharedMemory& shared, const ListenSockets& sockets,
             const LogSet& logs, const RunAs& run_as, const WorkerMain& worker_main);
  // Kills and reaps whatever still runs.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Reaps the dead, reads the channels, sends orders that wait, starts workers that are due.
  // The first call starts all of them.
  void turn(Moment now);

  // Gives every live worker an order; kReopenLog takes the descriptor from the logs.
  void order_all(ChannelVerb verb, uint32_t argument = 0);
  // No worker is started from now on.
  void stop_restarts() { restarting_ = false; }
  // SIGKILL to every worker that lives. Gives how many there were.
  size_t kill_all();

  bool all_ready() const;  // each slot has a live worker that said kReady
  bool none_alive() const;
  bool failed_early() const { return failed_early_; }  // one died before it was ever ready
  size_t size() const { return slots_.size(); }
  std::string unready() const;  // names, for a message

  void add_descriptors(std::vector<pollfd>& list) const;
  // When the next thing is due, if any is.
  std::optional<Moment> next_deadline(Moment now) const;

 private:
  struct Order {
    ChannelVerb verb;
    uint32_t argument;
  };
  struct Slot {
    const PoolPlan* pool = nullptr;
    uint32_t index = 0;
    uint32_t row = 0;
    pid_t pid = -1;  // -1: no worker lives
    UniqueFd channel;
    Moment started;
    std::optional<Moment> start_at;  // set while no worker lives and one shall
    bool ready = false;              // the worker that lives said so
    bool ever_ready = false;
    RestartBackoff backoff;
    std::deque<Order> orders;  // not sent yet
  };

  std::string name_of(const Slot& slot) const;
  void start(Slot& slot, Moment now);
  void start_failed(Slot& slot, Moment now, const Error& error);
  void reap(Slot& slot, Moment now);
  void bury(Slot& slot, Moment now, int status, bool status_known);
  void read_channel(Slot& slot);
  void send_orders(Slot& slot);
  uint32_t descriptors_wanted(const PoolPlan& pool, size_t listeners) const;

  const ProcessPlan& plan_;
  SharedMemory& shared_;
  const ListenSockets& sockets_;
  const LogSet& logs_;
  const RunAs& run_as_;
  const WorkerMain& worker_main_;
  std::vector<Slot> slots_;
  bool restarting_ = true;
  bool failed_early_ = false;
};

}  // namespace gatehouse
