// Swapping the certificates alone: new files into all workers, or into none, under the generation
// that serves.
//
//   loading (core/certificate_load.h) ─ preparing ─┬─ switching ─ done
//                                                  └─ discarded, with the reason
//
// Nothing is compiled and no connection is touched: each worker maps the new bundle, and with the
// switch exchanges one pointer, so that the handshakes from then on show the new certificates. A
// worker that dies meanwhile is replaced by one that has what counts then. A reload of the
// configuration reads the files anew as well; the two never go on at once.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/certificate_load.h"
#include "core/supervisor.h"
#include "core/units.h"

namespace gatehouse {

struct SwapOutcome {
  bool ok = false;
  uint32_t edition = 0;  // that serves now
  std::string error;     // lines
  std::vector<std::string> warnings;
  std::vector<std::string> changed;  // names of sections
};

struct SwapRequest {
  std::string by;                                // who asked, for the log
  std::function<void(const SwapOutcome&)> done;  // may be empty
};

class CertificateSwap {
 public:
  // `supervisor` outlives it.
  explicit CertificateSwap(Supervisor& supervisor) : supervisor_(supervisor) {}
  CertificateSwap(const CertificateSwap&) = delete;
  CertificateSwap& operator=(const CertificateSwap&) = delete;

  // Queues it; all that wait are answered together by the next reading of the files.
  void request(SwapRequest request) { waiting_.push_back(std::move(request)); }
  // `may_begin`: no reload is under way.
  void turn(Moment now, bool may_begin);
  std::optional<Moment> next_deadline(bool may_begin) const;
  // One is under way (and not only waiting).
  bool is_busy() const { return step_ != Step::kIdle; }
  // Gives up what is under way, if it is not committed, and refuses what waits.
  void refuse_all(const std::string& why);

  struct Last {
    int64_t time_us = 0;  // wall clock; 0: there was none
    std::string by;
    SwapOutcome outcome;
  };
  const Last& last() const { return last_; }

 private:
  enum class Step : uint8_t { kIdle, kLoading, kPreparing, kSwitching };

  void begin(Moment now);
  void on_loaded(Result<LoadedCertificates> loaded);
  void commit(Moment now);
  void fail(const std::string& error);
  void finish(bool ok, const std::string& error);

  Supervisor& supervisor_;
  std::deque<SwapRequest> waiting_;
  std::vector<SwapRequest> asked_;
  Step step_ = Step::kIdle;
  Moment deadline_{};
  MasterGenerationPtr generation_;  // whose plan is being loaded
  std::unique_ptr<CertificateLoad> load_;
  std::vector<std::string> warnings_;
  std::vector<std::string> changed_;
  Last last_;
};

}  // namespace gatehouse
