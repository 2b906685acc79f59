// The supervisor: one slot for each worker; starts, reaps, replaces, gives orders, and carries a
// generation into all of them or into none.
//
// It owns no loop. The master waits on descriptors() and until next_deadline(), then calls turn(),
// which does whatever is due; every call is cheap where nothing is. Time comes in as an argument.
//
// A slot is a place (pool, index). It has one worker; for a while two, when the process itself has
// to be replaced: the new one is ready before the old one drains. A slot whose place is gone is
// parked: its worker stays until its last tunnel has ended, and is called back where the pool grows
// again, so that no number of reloads piles up processes.
//
//   prepare(next) ─ settled() ─┬─ commit()   every worker switches
//                              └─ discard()  every worker goes on as before
//
// A worker that dies while a generation is being prepared fails it. One that dies after commit() is
// replaced by one that begins with the new generation.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/certificate_load.h"
#include "core/master.h"
#include "core/master_generation.h"
#include "core/process_end.h"
#include "core/process_logs.h"
#include "core/process_sockets.h"
#include "core/supervisor_backoff.h"
#include "core/units.h"
#include "core/worker_process.h"

namespace gatehouse {

class Supervisor {
 public:
  // All references outlive the supervisor. `rows_taken`: rows that a predecessor's workers have;
  // where there is a predecessor (`hold`), the first workers wait for release() before they accept.
  // `certificates`: of the first generation; null where it has none.
  Supervisor(MasterGenerationPtr first, CertificateBundlePtr certificates, SharedMemory& shared,
             const ListenSockets& sockets, const LogSet& logs, const MasterCalls& calls,
             std::vector<uint32_t> rows_taken = {}, bool hold = false);
  // Kills and reaps whatever still runs.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Reads the channels, reaps the dead, sends orders that wait, starts workers that are due.
  // The first call starts all of them.
  void turn(Moment now);

  // ---- A new generation -------------------------------------------------------------------------

  // Has every worker prepare `next`, and starts those for places that are new; they wait. Sockets
  // and logs must have what `next` asks for. `certificates` as above. REQUIRES: nothing is being
  // prepared.
  void prepare(MasterGenerationPtr next, CertificateBundlePtr certificates, Moment now);
  enum class Outcome : uint8_t { kPending, kPrepared, kFailed };
  Outcome outcome() const;
  std::string failures() const;     // of kFailed: lines, without a newline at the end
  std::string waiting_for() const;  // of kPending: names of workers
  void commit();                    // REQUIRES: kPrepared
  void discard();
  bool all_switched() const;  // since commit(): every live worker serves the new one
  MasterGenerationPtr current() const { return current_; }
  MasterGenerationPtr preparing() const { return next_; }  // null: nothing is
  // Kills the workers that have not: two generations must not serve side by side. They are replaced
  // by ones that have the new one. Gives their names.
  std::string kill_unswitched();
  // A worker is being replaced by a new process.
  bool replacing() const;

  // ---- Certificates alone (supervisor_certificates.cc) ------------------------------------------

  // Those that serve, with the current generation; null where it has none.
  CertificateBundlePtr certificates() const { return certificates_; }
  // A number that no bundle has had.
  uint32_t new_edition() { return ++last_edition_; }
  // The same two phases under the generation that serves. A worker that dies in either is no
  // failure: its replacement is told the same. REQUIRES: nothing is being prepared.
  void prepare_certificates(CertificateBundlePtr next);
  Outcome certificates_outcome() const;
  std::string certificates_failures() const;     // of kFailed, as above
  std::string certificates_waiting_for() const;  // of kPending
  void commit_certificates();                    // REQUIRES: kPrepared
  void discard_certificates();
  bool all_have_certificates() const;  // since the commit: every live worker serves them
  std::string kill_without_certificates();

  // ---- Orders -----------------------------------------------------------------------------------

  // Gives every live worker an order.
  void order_all(ChannelVerb verb, uint32_t argument = 0);
  // Hands over the log files as they are now. The result goes to reopened().
  uint32_t reopen_logs();
  bool reopened(uint32_t sequence) const;  // every worker that lives writes to the new files
  // Hands over the error log alone.
  void pass_error_log();
  // No worker is started from now on.
  void stop_restarts() { restarting_ = false; }
  // Drains every worker.
  void drain_all();
  // SIGKILL to every worker that lives. Gives how many there were.
  size_t kill_all();

  // Of a supervisor that holds its first workers: all of them have compiled the configuration.
  bool all_waiting() const;
  void release();
  bool all_ready() const;  // each slot has a live worker that accepts connections
  bool none_alive() const;
  bool failed_early() const { return failed_early_; }  // one died before it was ever ready
  size_t size() const { return slots_.size(); }
  std::string unready() const;  // names, for a message

  // For status: every process, also those that leave.
  struct View {
    const WorkerProcess* process = nullptr;  // null: none lives in this slot
    std::string pool;
    uint32_t index = 0;
    bool waits_for_restart = false;
  };
  std::vector<View> view() const;
  std::vector<uint32_t> rows_in_use() const;
  void free_rows(const std::vector<uint32_t>& rows);  // a predecessor's, once it is gone

  void add_descriptors(std::vector<pollfd>& list) const;
  // When the next thing is due, if any is.
  std::optional<Moment> next_deadline(Moment now) const;

 private:
  struct Slot {
    std::string pool;
    uint32_t index = 0;
    std::unique_ptr<WorkerProcess> worker;
    std::unique_ptr<WorkerProcess> incoming;  // will replace `worker` once it is ready
    std::optional<Moment> start_at;           // set while no worker lives and one shall
    bool parked = false;                      // the current generation has no such place
    bool replace = false;                     // the process itself is out of date
    bool ever_ready = false;
    RestartBackoff backoff;
  };
  enum class Purpose : uint8_t { kServe, kWait };

  Slot& slot_of(const std::string& pool, uint32_t index);
  std::string name_of(const Slot& slot) const;
  const PoolPlan* place_of(const Slot& slot, const MasterGeneration& generation) const;
  WorkerPlan plan_of(const Slot& slot, const MasterGeneration& generation) const;
  WorkerProcess::Make make_of(const Slot& slot, const MasterGeneration& generation) const;
  Result<std::unique_ptr<WorkerProcess>> fork_worker(const Slot& slot,
                                                     const MasterGeneration& generation, bool waits,
                                                     Moment now);
  void start(Slot& slot, Moment now);
  void start_failed(Slot& slot, Moment now, const Error& error);
  void reap(Slot& slot, Moment now);
  void bury(Slot& slot, Moment now, const ProcessEnd& how);
  void release(WorkerProcess& worker);
  void reap_leaving(Moment now);
  void leave(std::unique_ptr<WorkerProcess> worker, ChannelVerb verb, uint32_t argument = 0);
  void prepare_worker(Slot& slot);
  void prepare_certificates_of(WorkerProcess& worker) const;
  template <typename Do>
  void each_in_place(Do what) const;
  void continue_replacing(Moment now);
  void stop_idle_parked();
  bool hangs_in_start(const WorkerProcess& worker, Moment now) const;
  template <typename Do>
  void each_worker(Do what) const;
  Result<uint32_t> take_row(const std::string& pool, uint32_t index);
  uint32_t descriptors_wanted(const PoolPlan& pool, size_t sockets, size_t logs) const;

  MasterGenerationPtr current_;             // committed
  MasterGenerationPtr next_;                // while one is being prepared
  CertificateBundlePtr certificates_;       // of current_
  CertificateBundlePtr next_certificates_;  // of next_
  CertificateBundlePtr swap_;               // while certificates are being prepared alone
  uint32_t last_edition_ = 0;
  SharedMemory& shared_;
  const ListenSockets& sockets_;
  const LogSet& logs_;
  const MasterCalls& calls_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<std::unique_ptr<WorkerProcess>> leaving_;
  std::vector<std::string> deaths_;  // while a generation is being prepared
  struct Row {
    bool taken = false;
    std::string last;  // who had it: its counters go on best in the same place
  };
  std::vector<Row> rows_;
  uint32_t reopen_sequence_ = 0;
  bool holding_ = false;
  bool restarting_ = true;
  bool failed_early_ = false;
};

}  // namespace gatehouse
