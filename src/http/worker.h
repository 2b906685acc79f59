// Worker: one proxy process's event loop, its listeners, sessions and current generation.
//
// Worker::run is what run_master() calls after the fork. It builds the generation from the very
// bytes the master read, attaches it, accepts connections on the sockets it was given, and obeys
// the master's channel: drain (finish exchanges, then exit), stop, reopen a log.
//
// What outlives a generation lives here, found by name: target states with their idle upstream
// connections, balancer positions, log writers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/channel.h"
#include "core/event_loop.h"
#include "core/log_writer.h"
#include "core/metrics.h"
#include "core/worker_context.h"
#include "http/generation.h"
#include "http/session.h"

namespace gatehouse {

class Worker {
 public:
  // Runs a worker process to its end; the result is its exit code.
  static int run(WorkerContext context, const Schema& schema,
                 std::span<const Module* const> modules);

  Worker(WorkerContext context, std::unique_ptr<EventLoop> loop, std::unique_ptr<Metrics> metrics);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  EventLoop& loop() { return *loop_; }
  Metrics& metrics() { return *metrics_; }
  WorkerCells& cells() { return *cells_; }
  uint32_t row() const { return context_.row; }
  uint32_t index() const { return context_.index; }
  const std::string& pool_name() const { return context_.pool; }
  SeriesCells& pool_cells() { return *pool_cells_; }

  // The writer of a [log NAME] section's file; null where the generation has no such section.
  LogWriter* log_writer(std::string_view log_name);

  // "Fri, 20 Nov 2026 09:30:00 GMT" of this second (RFC 9110 §5.6.7).
  std::string_view date();

  // The generation new exchanges begin under.
  const Generation& generation() const { return *generation_; }
  // Makes `generation` the current one. Fails, changing nothing, where a module cannot attach.
  Result<void> attach(std::unique_ptr<Generation> generation);

  TargetState& target_state(const UpstreamTarget& target);
  UpstreamState& upstream_state(const Upstream& upstream);

  // Sessions register themselves; a finished one is destroyed at the end of the turn.
  void add_session(Session& session);
  void retire_session(Session& session);
  bool draining() const { return draining_; }
  uint32_t connections() const { return connections_; }

 private:
  class Acceptor;

  // Begins to accept, and tells the master.
  Result<void> open();
  Result<void> add_log_writer(const ConfigSection& section);
  static void on_channel(void* self, uint8_t ready);
  static void on_drain_deadline(void* self);
  static void reap(void* self);
  void handle_channel();
  void drain();
  void stop_if_drained();

  WorkerContext context_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Metrics> metrics_;
  WorkerCells* cells_;
  SeriesCells* pool_cells_;
  std::map<std::string, std::unique_ptr<LogWriter>, std::less<>> log_writers_;
  std::unordered_map<std::string, std::unique_ptr<TargetState>> target_states_;
  std::unordered_map<std::string, std::unique_ptr<UpstreamState>> upstream_states_;
  std::unique_ptr<Generation> generation_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  SessionList sessions_;
  SessionList finished_;
  uint32_t connections_ = 0;
  bool draining_ = false;
  Watch channel_watch_;
  Deferred reap_{&Worker::reap, this};
  Timer drain_deadline_{&Worker::on_drain_deadline, this};
  int64_t date_second_ = -1;
  char date_[32] = {};
  size_t date_size_ = 0;
};

}  // namespace gatehouse
