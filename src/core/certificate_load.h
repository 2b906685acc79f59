// Loading certificates: reading their files, having them checked, and keeping the bundle.
//
// The master reads (in slices), a child with the workers' rights checks and writes the bundle,
// which the master then only passes on. So what a file says is never parsed by a process with
// rights, and one that makes the parser crash or loop costs a child.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/certificate_files.h"
#include "core/certificate_plan.h"
#include "core/certificates.h"
#include "core/child_task.h"
#include "core/process_privileges.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

// A bundle as the master holds it. Its pages are locked in memory where the master may do so.
struct CertificateBundle {
  uint32_t edition = 0;
  UniqueFd fd;  // sealed
  std::shared_ptr<const CertificateSet> set;
  SealedView locked;
};
using CertificateBundlePtr = std::shared_ptr<const CertificateBundle>;

struct LoadedCertificates {
  CertificateBundlePtr bundle;  // null where the plan has no certificate
  std::vector<std::string> warnings;
};

// Reads and checks in this process, for its start and -t. The error has all that is wrong: lines,
// each ended with a newline.
Result<LoadedCertificates> load_certificates(const CertificatePlan& plan, uint32_t edition);

class CertificateLoad {
 public:
  struct Limits {
    Duration check{};   // for the child
    Moment deadline{};  // for all of it
  };
  // `plan` outlives it. `before`: what serves, or null; see check_certificates().
  CertificateLoad(const CertificatePlan& plan, const RunAs& run_as, uint32_t edition, Limits limits,
                  CertificateBundlePtr before)
      : plan_(plan),
        run_as_(run_as),
        edition_(edition),
        limits_(limits),
        before_(std::move(before)) {}
  CertificateLoad(const CertificateLoad&) = delete;
  CertificateLoad& operator=(const CertificateLoad&) = delete;

  // Goes on, for some milliseconds at most; what came of it, once. To be called on SIGCHLD and at
  // the deadline.
  std::optional<Result<LoadedCertificates>> turn(Moment now);
  // When turn() has something to do: at once (0) while it reads.
  Moment deadline() const { return child_ ? child_->deadline() : Moment{0}; }

 private:
  Result<void> start_child(Moment now);

  const CertificatePlan& plan_;
  const RunAs run_as_;
  const uint32_t edition_;
  const Limits limits_;
  const CertificateBundlePtr before_;
  std::optional<CertificateReader> reader_;
  UniqueFd bundle_;  // written by the child
  std::optional<ChildTask> child_;
};

}  // namespace gatehouse
