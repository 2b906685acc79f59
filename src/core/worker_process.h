// One worker process as the master sees it: its channel, what it has been given, what it has said.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/channel.h"
#include "core/process_plan.h"
#include "core/unique_fd.h"
#include "core/units.h"
#include "core/worker_plan.h"

namespace gatehouse {

enum class WorkerState : uint8_t {
  kStarting,
  kWaiting,  // has compiled a generation that is not committed, and waits for the switch
  kReady,    // accepts connections
  kParked,   // its place is gone; it lives for its tunnels
  kLeaving,  // was told to drain or to stop
};
std::string_view worker_state_name(WorkerState state);

class WorkerProcess {
 public:
  // What the process itself was started with; a plan that asks for something else needs a new one.
  struct Make {
    uint32_t connections_max = 0;
    uint32_t nofile = 0;
    uid_t user = 0;
    gid_t group = 0;
    friend bool operator==(const Make&, const Make&) = default;
  };

  WorkerProcess(std::string of_pool, uint32_t at_index, uint32_t in_row, Make made, bool will_wait)
      : pool(std::move(of_pool)), index(at_index), row(in_row), make(made), waits(will_wait) {}

  std::string name() const;  // "worker default/0"

  // Queues an order and sends what the channel takes; the descriptors are duplicated. False where
  // too many orders wait already, or a descriptor could not be duplicated (said in the log).
  bool order(ChannelVerb verb, uint32_t argument = 0, const std::vector<int>& fds = {});
  void send_orders();
  // Sends what prepares the worker for `next`: the descriptors it does not have yet, and the plan;
  // `certificates_fd` is -1 where there are none.
  bool order_prepare(WorkerPlan next, int config_fd, int certificates_fd);
  // The plan of the last prepare counts (kSwitch was ordered), or does not (kDiscard). One that was
  // forked for the generation was not told to prepare: what it was given counts on.
  void settle(bool committed);
  // What it was given at the fork.
  void gave(const WorkerPlan& plan);

  // The paths of its log files, in the order in which it numbers them.
  const std::vector<std::string>& logs() const { return has_.logs; }

  // Takes what the worker says. Returns false once the channel is closed.
  bool read_channel();

  const std::string pool;
  const uint32_t index;
  const uint32_t row;
  const Make make;
  const bool waits;  // started with wait_for_switch

  pid_t pid = -1;
  UniqueFd channel;
  Moment started;
  WorkerState state = WorkerState::kStarting;
  uint32_t generation = 0;  // that serves; 0: none yet
  uint32_t prepared = 0;    // the last generation it is prepared for
  uint32_t failed = 0;      // the last generation that it could not prepare
  std::string failure;      // why
  // Editions of certificates, as above.
  uint32_t certificates = 0;
  uint32_t certificates_prepared = 0;
  uint32_t certificates_failed = 0;
  std::string certificates_failure;
  uint32_t asked_reopen = 0;          // the last kReopenSync it was given
  uint32_t reopened = 0;              // and the last one it answered
  bool idle = false;                  // parked, and without connections
  Duration leave_within{};            // kLeaving: how long that may take
  std::optional<Moment> kill_at;      // then it is killed
  std::deque<ChannelMessage> orders;  // not sent yet

 private:
  struct Belongings {
    std::set<uint64_t> ids;  // of sockets and logs
    std::vector<std::string> logs;
  };
  static Belongings belongings_of(const WorkerPlan& plan);
  Belongings has_;
  std::optional<Belongings> next_;  // under the plan that is being prepared
};

}  // namespace gatehouse
