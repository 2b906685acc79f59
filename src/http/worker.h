// Worker: one proxy process's event loop, its listeners, sessions and current generation.
//
// Worker::run is what run_master() calls after the fork. It builds the generation from the very
// bytes the master read, binds it, accepts connections on the sockets it was given, and obeys the
// master's channel: drain (finish exchanges, then exit), stop, reopen a log, and the two phases of
// a reload, which are in worker_reload.cc:
//
//   kPrepare   the helper thread makes the next generation ready, while the loop serves; whatever
//              can fail fails there. Then the loop binds the targets' states, a slice in each turn.
//   kSwitch    the pointer is exchanged, and with it sockets and log writers. Cannot fail.
//   kDiscard   what was prepared is dropped, also while it is being made.
//
// Certificates can be swapped alone, by two phases of their own (worker_certificates.cc).
//
// What outlives a generation lives here, found by name: target states with their idle upstream
// connections, log writers, acceptors. A generation is freed by the helper thread once the last
// exchange that began under it is over.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/channel.h"
#include "core/event_loop.h"
#include "core/helper_thread.h"
#include "core/metrics.h"
#include "core/worker_context.h"
#include "http/acceptor.h"
#include "http/bound_generation.h"
#include "http/generation.h"
#include "http/session.h"
#include "http/shedding.h"
#include "http/target_states.h"

namespace gatehouse {

class Worker {
 public:
  // Runs a worker process to its end; the result is its exit code.
  static int run(WorkerContext context, const Schema& schema,
                 std::span<const Module* const> modules);

  Worker(WorkerContext context, std::unique_ptr<EventLoop> loop, std::unique_ptr<Metrics> metrics,
         std::unique_ptr<TrafficTable> traffic, const Schema& schema,
         std::span<const Module* const> modules);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  EventLoop& loop() { return *loop_; }
  Metrics& metrics() { return *metrics_; }
  TrafficTable& traffic() { return *traffic_; }
  WorkerCells& cells() { return *cells_; }
  SharedMemory& shared() { return *context_.shared; }
  uint32_t row() const { return context_.row; }
  uint32_t index() const { return context_.index; }
  const std::string& pool_name() const { return context_.pool; }
  SeriesCells& pool_cells() { return *pool_cells_; }

  // "Fri, 20 Nov 2026 09:30:00 GMT" of this second (RFC 9110 §5.6.7).
  std::string_view date();

  // The generation that serves.
  const Generation& generation() const { return *current_->generation; }

  // Turns requests away when this worker is at its limit.
  LoadShedder& shedder() { return shedder_; }

  // Sessions register themselves; a finished one is destroyed at the end of the turn.
  void add_session(Session& session);
  void retire_session(Session& session);
  // Calls `visit` for each session of the acceptor; it may retire the one it is given.
  template <typename Visit>
  void for_each_session(const AcceptorState& acceptor, Visit visit) {
    sessions_.for_each([&](Session& session) {
      if (session.acceptor() == &acceptor) visit(session);
    });
  }
  // Looks at the end of the turn for what nobody uses any more.
  void defer_reap() { loop_->defer(reap_); }
  bool draining() const { return draining_; }
  uint32_t connections() const { return connections_; }
  uint32_t connections_max() const { return current_->plan.connections_max; }

 private:
  // A generation on its way: arriving, being made, having its targets bound, ready.
  struct Preparation;
  // A generation that lets go of its targets before it is freed.
  struct Retiring;
  class PrepareJob;
  class FreeJob;

  // Builds the first generation, watches the channel, begins to accept and tells the master.
  Result<void> open();
  static void on_channel(void* self, uint8_t ready);
  static void on_outbox(void* self);
  static void on_drain_deadline(void* self);
  static void reap(void* self);
  void handle_channel();
  // False where the loop is to stop.
  bool obey(ChannelMessage& message);
  void reopen_log(ChannelMessage& message);
  void tell_master(ChannelVerb verb, uint32_t argument, UniqueFd fd = UniqueFd());
  void drain();
  void stop_if_drained();
  void tell_if_idle();

  // worker_reload.cc
  Result<void> bind_first_generation();
  Result<HelperThread*> helper();
  void take_new_fds(ChannelMessage& message);
  void prepare(ChannelMessage& message);
  void prepared(PrepareJob& job);
  void refuse_preparation(uint32_t generation, const std::string& why);
  Result<void> check_sockets(const WorkerPlan& plan) const;
  void discard(uint32_t generation);
  void drop_preparation();
  void switch_to(uint32_t generation);
  bool bind_targets(std::chrono::steady_clock::time_point deadline);
  void publish(std::unique_ptr<BoundGeneration> next);
  void begin_serving();
  void adopt_sockets();
  void leave(std::unique_ptr<Acceptor> acceptor);

  // worker_certificates.cc
  void prepare_certificates(ChannelMessage& message);
  void refuse_certificates(uint32_t edition, const std::string& why);
  void switch_certificates(uint32_t edition);
  void keep_parsed_certificates(const Generation& before);
  static void on_unheld(void* self, const Generation& generation);
  void retire_unheld();
  void retire(std::unique_ptr<BoundGeneration> bound);
  static void on_slice(void* self);
  void work_a_slice();

  WorkerContext context_;  // but for the plan, which is the current generation's
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Metrics> metrics_;
  WorkerCells* cells_;
  SeriesCells* pool_cells_;
  std::unique_ptr<TrafficTable> traffic_;
  TargetStates target_states_;
  LoadShedder shedder_{*loop_};
  GenerationBinder binder_;
  std::unique_ptr<BoundGeneration> current_;
  std::vector<std::unique_ptr<BoundGeneration>> replaced_;  // exchanges or acceptors hold them
  std::unique_ptr<Preparation> preparation_;
  std::list<Retiring> retiring_;
  std::shared_ptr<const CertificateSet> next_certificates_;  // prepared alone
  std::unique_ptr<HelperThread> helper_;                     // made by the first prepare
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::unique_ptr<Acceptor>> leaving_;
  SessionList sessions_;
  SessionList finished_;
  uint32_t connections_ = 0;
  bool draining_ = false;
  bool waiting_ = false;    // for the switch to the first generation
  bool idle_told_ = false;  // kIdle was sent since the last switch
  Watch channel_watch_;
  std::deque<ChannelMessage> outbox_;  // what the channel had no room for
  Timer outbox_retry_{&Worker::on_outbox, this};
  Deferred reap_{&Worker::reap, this};
  Timer drain_deadline_{&Worker::on_drain_deadline, this};
  int64_t date_second_ = -1;
  char date_[32] = {};
  size_t date_size_ = 0;
};

}  // namespace gatehouse
