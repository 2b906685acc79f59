// The master's listening sockets: one for each worker and address.
//
// With SO_REUSEPORT the kernel spreads new connections over the workers' own queues; the master
// keeps every socket open, so a queue survives its worker. Port 0 is picked once: the workers share
// the port that the first socket got. A unix path can be bound only once, so its workers share one
// socket.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/process_plan.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/unique_fd.h"
#include "core/worker_context.h"

namespace gatehouse {

class ListenSockets {
 public:
  ListenSockets() = default;
  ListenSockets(const ListenSockets&) = delete;
  ListenSockets& operator=(const ListenSockets&) = delete;
  ~ListenSockets() { close(); }

  // Binds all that the plan asks for, or nothing: gives every reason why not (none: success).
  std::vector<Error> bind(const ProcessPlan& plan);

  // What worker `index` of `pool` listens on.
  std::vector<WorkerSocket> of_worker(const std::string& pool, uint32_t index) const;
  size_t count() const;

  // Closes the sockets and removes the unix paths that were made here (unless somebody else has
  // put another socket there). The workers' copies live on.
  void close();

 private:
  struct Bound {
    std::string listener;
    std::string pool;
    SocketAddress address;
    std::vector<UniqueFd> fds;  // one for each worker of the pool; a single one for a unix path
    dev_t device = 0;           // of the unix path
    ino_t inode = 0;
  };
  Result<Bound> bind_one(const ListenerPlan& listener, const SocketAddress& address,
                         uint32_t workers);
  std::vector<Bound> bound_;
};

}  // namespace gatehouse
