// What a worker process is given when it starts; all of it is its own.
//
// The descriptors are numbers and not UniqueFd, because the worker keeps them until it exits and
// nothing in it may close one by accident. Everything else (the configuration) comes to the worker
// through the closure that run_master() was given: fork copied it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

class SharedMemory;

struct WorkerListener {
  std::string listener;   // the section's name
  SocketAddress address;  // with the port that the kernel picked, where the plan said 0
  int fd = -1;            // listening, non-blocking; this worker's own, or shared if a unix path
};

struct WorkerLogFile {
  std::string path;
  int fd = -1;
};

struct WorkerContext {
  std::string pool;
  uint32_t index = 0;  // in the pool, from 0
  // The worker's row in shared tables, from 0 over all pools. It belongs to the slot: a replacement
  // gets the row of the worker that died.
  uint32_t row = 0;
  uint32_t rows = 0;  // how many rows there are: all workers of all pools
  std::vector<WorkerListener> listeners;
  int channel_fd = -1;  // see core/channel.h
  SharedMemory* shared = nullptr;
  std::vector<WorkerLogFile> log_files;  // in the order of ProcessPlan::log_files
  uint32_t connections_max = 0;
  uint32_t nofile = 0;  // the descriptor limit that is in force
  Duration drain_timeout{};
};

}  // namespace gatehouse
