// WorkerPlan: what one worker has and does under one generation, besides the configuration itself.
//
// A worker gets its first plan at the fork and another one with each prepare, packed in a memfd.
// Sockets and log files have ids that the master gives and never uses twice: by them a worker sees
// what it has already, what is new (its descriptor came with the order) and what is gone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/resolver.h"
#include "core/result.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

// A listening, non-blocking socket; the worker's own, or shared with others.
struct WorkerSocket {
  uint64_t id = 0;
  std::string listener;   // the section's name
  SocketAddress address;  // with the port that the kernel picked, where the configuration said 0
  bool is_new = true;     // the worker has not had it before
  int fd = -1;            // not packed: inherited, or passed for new ones
};

// A log file, open for appending.
struct WorkerLog {
  uint64_t id = 0;
  std::string path;
  bool is_new = true;
  int fd = -1;  // not packed
};

struct WorkerPlan {
  uint32_t generation = 1;
  // The worker's place is gone (its pool shrank): it accepts nothing, finishes its exchanges, keeps
  // its tunnels, and may be called back by a later plan.
  bool parked = false;
  uint32_t connections_max = 0;
  Duration drain_timeout{};
  NameTable names;  // what the targets' host names mean
  std::vector<WorkerSocket> sockets;
  std::vector<WorkerLog> logs;
};

std::string pack_worker_plan(const WorkerPlan& plan);
// Descriptors are -1 in the result. Fails where the bytes are not what pack_worker_plan() made.
Result<WorkerPlan> unpack_worker_plan(std::string_view bytes);

// A packed plan is never larger.
inline constexpr size_t kWorkerPlanMax = size_t{64} << 20;

}  // namespace gatehouse
