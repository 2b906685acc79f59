// The master's listening sockets: one for each worker and address.
//
// With SO_REUSEPORT the kernel spreads new connections over the workers' own queues; the master
// keeps every socket open, so a queue survives its worker. Port 0 is picked once: the workers share
// the port that the first socket got. A unix path can be bound only once, so its workers share one
// socket.
//
// New sockets are only bound at first, which finds every conflict: the kernel puts connections into
// the queue of whatever listens, and those that were in the queue of a socket that is given up
// again would be reset. They begin to listen when nothing else can fail any more.
//
// An address that a reload keeps, keeps its sockets, whatever listener or pool it belongs to now.
// A pool that shrinks leaves more sockets than workers: they are shared out among those that stay,
// so that nobody who waits in a queue is lost, and the kernel is told to bring new connections to
// the first ones only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/process_plan.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/unique_fd.h"
#include "core/worker_plan.h"

namespace gatehouse {

// How many descriptors a master may need while it serves this plan, or goes over to it: sockets,
// channels and logs of two generations, and some aside.
uint32_t descriptors_of_master(const ProcessPlan& plan);

class ListenSockets {
 public:
  ListenSockets() = default;
  ListenSockets(const ListenSockets&) = delete;
  ListenSockets& operator=(const ListenSockets&) = delete;
  ~ListenSockets() { close(); }

  // Opens what the plan asks for and is not there yet, or nothing: gives every reason why not
  // (none: success). Then either start_listening() and commit(), or discard().
  std::vector<Error> prepare(const ProcessPlan& plan);
  // From here on connections wait in the new sockets, too. Gives every reason why not.
  std::vector<Error> start_listening(const ProcessPlan& plan);
  // What the prepared plan does not ask for is closed here; the workers' copies live on.
  void commit(const ProcessPlan& plan);
  // Closes what prepare() opened.
  void discard();

  // What worker `index` of `pool` listens on under `plan`: the committed one, or the prepared one,
  // which has the new sockets, too.
  enum class Which : uint8_t { kCommitted, kPrepared };
  std::vector<WorkerSocket> of_worker(const ProcessPlan& plan, const std::string& pool,
                                      uint32_t index, Which which = Which::kCommitted) const;
  size_t count() const;

  // A socket that another master of ours has handed down: prepare() finds it there. A unix path
  // stays the other's, which carries on where we fail: it is left alone until take_paths().
  struct Inherited {
    std::string listener;
    SocketAddress asked;
    SocketAddress address;
    std::vector<UniqueFd> fds;
  };
  void inherit(Inherited inherited);
  // What to hand down; the descriptors stay ours.
  struct HandedDown {
    std::string listener;
    SocketAddress asked;
    SocketAddress address;
    std::vector<int> fds;
  };
  std::vector<HandedDown> hand_down() const;
  // The other master has let go: its paths are ours, and those that are not wanted are removed.
  void take_paths();
  // A successor serves them now: close() leaves the unix paths alone.
  void keep_paths() { keep_paths_ = true; }

  // Closes the sockets and removes the unix paths that were made here (unless somebody else has
  // put another socket there). The workers' copies live on.
  void close();

 private:
  struct Socket {
    uint64_t id = 0;
    bool is_new = true;  // not committed yet
    UniqueFd fd;
  };
  struct Bound {
    std::string listener;   // which it belongs to; tells apart those with a port that was picked
    SocketAddress asked;    // as the configuration says
    SocketAddress address;  // with the picked port
    std::vector<Socket> sockets;
    dev_t device = 0;  // of the unix path
    ino_t inode = 0;
    bool is_new = true;
    bool borrowed = false;  // the path is another master's
  };
  const Bound* find(const ListenerPlan& listener, size_t address) const;
  Bound* find(const ListenerPlan& listener, size_t address);
  std::vector<Error> check_addresses(const ProcessPlan& plan) const;
  Result<void> open(Bound& bound, const ListenerPlan& listener, uint32_t workers);
  void remove_path(Bound& bound);

  std::vector<Bound> bound_;
  std::vector<Bound> unwanted_;  // borrowed, and in no plan of ours; without their sockets
  uint64_t last_id_ = 0;
  bool keep_paths_ = false;
};

}  // namespace gatehouse
