// BoundGeneration: a generation together with what one worker has for it; and how it is made.
//
// Making one (reading the sealed bytes, compiling, registering the metric series, finding the log
// writers) takes tenths of a second for 10,000 routes, so that GenerationBinder does it off the
// loop, on the helper thread, while the generation before goes on serving. It changes nothing that
// the loop uses: a log writer that both generations share is passed along as a pointer, and a new
// one is made but used by nobody. All that can fail fails here; what is left for the loop is
// binding the targets' states (in slices), and publishing the pointer.
//
// The helper thread has the allocator's arena of its own. What it makes it also frees, all but log
// writers: where the loop freed it, it would wait for the arena's lock, which a thread of lower
// priority may hold while it is not running. At a worker's start the same code runs on the only
// thread there is.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/event_loop.h"
#include "core/log_writer.h"
#include "core/member_lists.h"
#include "core/metrics.h"
#include "core/shared_memory.h"
#include "core/tls_ticket_keys.h"
#include "core/traffic_table.h"
#include "core/unique_fd.h"
#include "core/worker_plan.h"
#include "http/generation.h"
#include "http/row_holds.h"

namespace gatehouse {

// An open log file. Closed when the last generation that has it is gone.
struct LogFile {
  uint64_t id = 0;
  std::string path;
  UniqueFd fd;
};

// What writes a [log NAME] section's lines: the same over all generations where name and file stay.
struct BoundLog {
  std::string name;
  std::shared_ptr<LogFile> file;
  std::shared_ptr<LogWriter> writer;
  LogWriter::Options options;  // of this generation
};

struct BoundGeneration {
  BoundGeneration(SharedMemory& segment, uint32_t worker_row) : shared(segment), row(worker_row) {}

  SharedMemory& shared;
  uint32_t row;  // the worker's, in shared tables
  WorkerPlan plan;
  std::vector<std::shared_ptr<LogFile>> files;  // in the order of plan.logs
  std::vector<BoundLog> logs;
  std::map<uint64_t, UniqueFd> new_sockets;  // by id; each acceptor takes its own
  std::unique_ptr<Generation> generation;
  std::optional<MemberLists> lists;      // where an upstream has members to discover
  RowHolds rows;                         // of its upstreams and targets
  std::vector<std::string> target_keys;  // see TargetStates, in the order of the targets

  // The writer of a [log NAME] section's file; null where the generation has no such section.
  LogWriter* log_writer(std::string_view log_name) const;
};

class GenerationBinder {
 public:
  struct Worker {
    EventLoop& loop;
    SharedMemory& shared;
    uint32_t row;
    uint32_t rows;
    const Schema& schema;
    std::span<const Module* const> modules;
  };
  explicit GenerationBinder(const Worker& worker) : worker_(worker) {}

  struct Order {
    UniqueFd config;        // see ConfigSource::from_memfd
    UniqueFd certificates;  // see CertificateSet::from_bundle; none where there is no section
    WorkerPlan plan;
    std::vector<UniqueFd> new_fds;  // in the order of the plan's entries that are new
    // What the worker has already.
    std::vector<std::shared_ptr<LogFile>> files;
    std::vector<BoundLog> logs;
  };

  // One call at a time, on any thread. The error has a line for each thing that is wrong.
  // `discarded`, once true, makes it fail early.
  Result<std::unique_ptr<BoundGeneration>> bind(Order order, const std::atomic<bool>& discarded);

 private:
  Result<void> take_descriptors(Order& order, BoundGeneration& bound);
  Result<void> compile(Order& order, BoundGeneration& bound);
  Result<void> bind_certificates(Order& order, Generation& generation);
  Result<void> bind_cells(Generation& generation);
  Result<void> bind_rows(BoundGeneration& bound);
  Result<void> bind_tickets(Generation& generation);
  Result<void> bind_logs(Order& order, BoundGeneration& bound);

  Worker worker_;
  // Its own, over the same segment: the loop's has an index that only one thread may change.
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<TrafficTable> traffic_;
  // Made here, used by the loop from the first switch on.
  std::shared_ptr<TlsTicketKeys> ticket_keys_;
};

}  // namespace gatehouse
