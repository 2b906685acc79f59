// Reading the files of certificates and keys: the one place in gatehouse that opens a key.
//
// Only the master calls it (and -t, for itself), with the rights that it was started with. The
// bytes go into a sealed memfd as they are, for a child with the workers' rights to look into
// (core/certificate_check.h); here nothing is parsed. Reading is done in slices, so that ten
// thousand files do not keep the master from its workers.
//
// A file has to be a regular one of at most kCertificateFileMax bytes; one that cannot be opened,
// or changes under the reading three times, is noted with the reason, which the check then tells
// with all the other errors. A pipe is never opened for reading, so that nobody waits for it.
//
// Layout of the memfd: magic, count; for each file of the plan (visit_certificate_files) whether it
// could be read, its offset and size; then the contents, or the reasons.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificate_plan.h"
#include "core/result.h"
#include "core/sealed_bytes.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr size_t kCertificateFileMax = size_t{1} << 20;
inline constexpr size_t kCertificateFilesMax = size_t{512} << 20;  // all files together

class CertificateReader {
 public:
  // `plan` outlives it.
  static Result<CertificateReader> start(const CertificatePlan& plan);

  // Reads on until all is read (true) or the monotonic clock says `until`. Fails only where the
  // bytes cannot be kept; what is wrong with a file is noted in its place.
  Result<bool> read_until(Moment until);

  // REQUIRES: all is read.
  Result<UniqueFd> seal();

 private:
  struct Place {
    uint64_t readable = 0;
    uint64_t at = 0;
    uint64_t size = 0;
  };
  explicit CertificateReader(UniqueFd memory) : memory_(std::move(memory)) {}
  Result<void> take(const std::string& path);
  Result<void> note(std::string_view reason);

  UniqueFd memory_;
  std::vector<const std::string*> paths_;
  std::vector<Place> places_;  // of those that are done
  uint64_t end_ = 0;
};

// What was read, as the check sees it.
class CertificateTexts {
 public:
  // Maps it; fails unless it is sealed and well formed.
  static Result<CertificateTexts> open(int fd);

  size_t size() const { return places_.size(); }
  bool readable(size_t file) const { return places_[file].readable; }
  // The content, or why there is none.
  std::string_view text(size_t file) const { return places_[file].text; }

 private:
  struct Place {
    bool readable = false;
    std::string_view text;
  };
  explicit CertificateTexts(SealedView view) : view_(std::move(view)) {}
  SealedView view_;
  std::vector<Place> places_;
};

}  // namespace gatehouse
