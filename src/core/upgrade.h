// Upgrade: a new program takes over from the one that runs, without a connection lost.
//
//   old master                                   new master
//   start(): forks, execs the program's file ──▶ Handover::take(): sockets, segment, rows
//                                                compiles its configuration, starts its workers
//   lets go of the pid file            ◀── ready ──  all of them accept, beside the old ones
//   drains                                ── go ──▶  takes pid file and control socket,
//   answers who asked             ◀── in-charge ──  starts its agent, is the master
//   exits                                   end ──▶  the rows of the old workers are free
//
// The two talk over a socket pair, in words. Both sides' workers accept from the same sockets, so
// no queue is lost; both count in the same segment, each in rows of its own. Where the new program
// ends, says that it failed, or is not ready in time, it is killed and the old one carries on as if
// nothing had been; where the old one dies meanwhile, the new one goes on alone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/process_sockets.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

// What a new master is given by the old one.
struct Handover {
  pid_t old_pid = 0;
  uint32_t generation = 0;     // the old one's; numbers go on from there
  UniqueFd talk;               // to the old master
  UniqueFd shared;             // the segment
  std::vector<uint32_t> rows;  // that the old workers have
  std::vector<ListenSockets::Inherited> sockets;

  // From the environment of this process; none where it was started in the ordinary way. The
  // descriptors are close-on-exec afterwards, and the variable is gone.
  static Result<std::optional<Handover>> take();
};

// The words that the two masters say to each other: one packet each, "failed" with a text behind.
enum class UpgradeWord : uint8_t { kReady, kGo, kInCharge, kFailed };
Result<void> say_upgrade_word(int talk, UpgradeWord word, std::string_view text = {});
struct UpgradeHeard {
  bool closed = false;  // the other one is gone
  std::optional<UpgradeWord> word;
  std::string text;
};
UpgradeHeard hear_upgrade_word(int talk);

// The old master's side.
class Upgrade {
 public:
  Upgrade() = default;
  Upgrade(const Upgrade&) = delete;
  Upgrade& operator=(const Upgrade&) = delete;
  ~Upgrade();  // kills a new master that is not in charge yet

  struct Inheritance {
    uint32_t generation = 0;
    int shared_fd = -1;
    std::vector<uint32_t> rows;
    std::vector<ListenSockets::HandedDown> sockets;
  };
  // Starts the file of the running program with the command line of this process.
  Result<void> start(const Inheritance& inheritance, Moment deadline);
  bool is_running() const { return pid_ >= 0 && !in_charge_; }
  pid_t pid() const { return pid_; }

  enum class Outcome : uint8_t { kPending, kReady, kInCharge, kFailed };
  // To be asked on SIGCHLD, on talk's readiness and at the deadline; each outcome comes once.
  // kReady: hand_over() is next, then kInCharge follows. kFailed: it has been killed and reaped,
  // and failure() says why.
  Outcome turn(Moment now);
  const std::string& failure() const { return failure_; }
  int talk_fd() const { return talk_.get(); }
  std::optional<Moment> deadline() const;
  // After kReady: there is no way back.
  void hand_over(Moment now);
  // It was handed over, and has not said that it is in charge.
  bool is_unconfirmed() const { return in_charge_ && talk_; }
  void cancel(const std::string& why);  // then turn() gives kFailed

 private:
  Outcome fail(const std::string& why);
  pid_t pid_ = -1;
  UniqueFd talk_;
  UniqueFd confirmed_;  // the same, when all has been said; its end tells that we have ended
  Moment deadline_{};
  bool in_charge_ = false;
  std::string cancelled_;
  std::string failure_;
};

}  // namespace gatehouse
