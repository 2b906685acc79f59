// What a worker process is given when it starts; all of it is its own.
//
// The descriptors are numbers and not UniqueFd, because the worker keeps them until it exits and
// nothing in it may close one by accident. The configuration comes as sealed bytes, the same that
// every other worker of its generation has.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/worker_plan.h"

namespace gatehouse {

class SharedMemory;

struct WorkerContext {
  std::string pool;
  uint32_t index = 0;  // in the pool, from 0
  // The worker's row in shared tables, from 0 over all pools. It belongs to the process: of an old
  // and a new worker in one place each has its own. One that ended is given away again.
  uint32_t row = 0;
  uint32_t rows = 0;         // how many rows there were at the fork
  int config_fd = -1;        // the sealed configuration of plan.generation
  int certificates_fd = -1;  // the sealed bundle of its certificates; -1: it has none
  WorkerPlan plan;
  // The generation is not committed yet: say kPrepared, and begin to accept at kSwitch.
  bool wait_for_switch = false;
  int channel_fd = -1;  // see core/channel.h
  SharedMemory* shared = nullptr;
  uint32_t nofile = 0;  // the descriptor limit that is in force
};

// Runs in the worker process; what it returns is the process's exit code.
using WorkerMain = std::function<int(WorkerContext)>;

}  // namespace gatehouse
