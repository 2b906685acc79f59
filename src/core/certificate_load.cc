// See certificate_load.h.
#include "core/certificate_load.h"

#include <openssl/crypto.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "core/certificate_bundle.h"
#include "core/certificate_check.h"
#include "core/clock.h"
#include "core/packer.h"
#include "core/sealed_bytes.h"

namespace gatehouse {
namespace {

// How long the master reads at a time.
constexpr Duration kSlice{5};
constexpr std::string_view kMagic = "gatehouse certificates checked 1\n";
constexpr size_t kWarningsMax = 1000;

Result<CertificateBundlePtr> hold_bundle(UniqueFd fd) {
  auto bundle = std::make_shared<CertificateBundle>();
  Result<std::shared_ptr<const CertificateSet>> set = CertificateSet::from_bundle(fd.get());
  if (!set) return set.error();
  Result<SealedView> locked = SealedView::map(fd.get(), kCertificateBundleMax);
  if (!locked) return locked.error();
  bundle->locked = std::move(*locked);
  bundle->locked.lock();
  bundle->set = std::move(*set);
  bundle->edition = bundle->set->edition();
  bundle->fd = std::move(fd);
  return CertificateBundlePtr(std::move(bundle));
}

Result<UniqueFd> new_bundle() {
  UniqueFd fd(::memfd_create("gatehouse certificates", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_error("memfd_create for certificates", errno);
  return fd;
}

// Checks what was read, writes the bundle where nothing is wrong. Gives errors and warnings,
// packed.
std::string check(const CertificatePlan& plan, int texts_fd, int bundle_fd, uint32_t edition,
                  int before_fd) {
  const Result<CertificateTexts> texts = CertificateTexts::open(texts_fd);
  std::string errors;
  std::vector<std::string> warnings;
  if (texts) {
    std::optional<CertificateBundleView> before;
    if (before_fd >= 0) {
      Result<CertificateBundleView> mapped = CertificateBundleView::map(before_fd);
      if (mapped) before = std::move(*mapped);
    }
    CertificateVerdict verdict = check_certificates(
        plan, *texts, edition, wall_clock_us() / 1'000'000, before ? &*before : nullptr);
    errors = verdict.errors.text();
    warnings = std::move(verdict.warnings);
    if (errors.empty()) {
      const Result<void> written = write_and_seal(bundle_fd, verdict.bundle);
      if (!written) errors = "the certificates' bundle: " + written.error().message + "\n";
      OPENSSL_cleanse(verdict.bundle.data(), verdict.bundle.size());
    }
  } else {
    errors = texts.error().message + "\n";
  }
  Packer packer(kMagic);
  packer.put(std::string_view(errors));
  packer.put(warnings.size());
  for (const std::string& warning : warnings) packer.put(std::string_view(warning));
  return packer.take();
}

Result<LoadedCertificates> take_checked(std::string_view result, UniqueFd bundle_fd) {
  Unpacker unpacker(result, kMagic);
  const std::string errors = unpacker.text();
  LoadedCertificates loaded;
  for (uint64_t left = unpacker.number(kWarningsMax); left > 0 && unpacker.ok(); --left) {
    loaded.warnings.push_back(unpacker.text());
  }
  if (!unpacker.at_end()) return Error{"what the checker says of the certificates is malformed"};
  if (!errors.empty()) return Error{errors};
  Result<CertificateBundlePtr> bundle = hold_bundle(std::move(bundle_fd));
  if (!bundle) return bundle.error();
  loaded.bundle = std::move(*bundle);
  return loaded;
}

}  // namespace

Result<LoadedCertificates> load_certificates(const CertificatePlan& plan, uint32_t edition) {
  if (plan.empty()) return LoadedCertificates{};
  Result<CertificateReader> reader = CertificateReader::start(plan);
  if (!reader) return reader.error();
  const Result<bool> read = reader->read_until(Moment{INT64_MAX});
  if (!read) return read.error();
  const Result<UniqueFd> texts = reader->seal();
  if (!texts) return texts.error();
  Result<UniqueFd> bundle = new_bundle();
  if (!bundle) return bundle.error();
  const std::string result = check(plan, texts->get(), bundle->get(), edition, -1);
  return take_checked(result, std::move(*bundle));
}

std::optional<Result<LoadedCertificates>> CertificateLoad::turn(Moment now) {
  using Outcome = Result<LoadedCertificates>;
  if (child_) {
    std::optional<Result<std::string>> result = child_->poll(now);
    if (!result) return std::nullopt;
    child_.reset();
    if (!*result) return Outcome(Error{"not checked: " + result->error().message});
    return take_checked(**result, std::move(bundle_));
  }
  if (plan_.empty()) return Outcome(LoadedCertificates{});
  if (!reader_) {
    Result<CertificateReader> reader = CertificateReader::start(plan_);
    if (!reader) return Outcome(reader.error());
    reader_.emplace(std::move(*reader));
  }
  const Result<bool> read = reader_->read_until(monotonic_now() + kSlice);
  if (!read) return Outcome(read.error());
  if (!*read) return std::nullopt;
  if (const Result<void> started = start_child(now); !started) return Outcome(started.error());
  return std::nullopt;
}

Result<void> CertificateLoad::start_child(Moment now) {
  const Result<UniqueFd> texts = reader_->seal();
  if (!texts) return texts.error();
  Result<UniqueFd> bundle = new_bundle();
  if (!bundle) return bundle.error();
  bundle_ = std::move(*bundle);
  const int from = texts->get();
  const int to = bundle_.get();
  const int before = before_ ? before_->fd.get() : -1;
  Result<ChildTask> child = ChildTask::start(
      "certificate checker", run_as_, {from, to, before},
      std::min(limits_.deadline, now + limits_.check),
      [this, from, to, before] { return check(plan_, from, to, edition_, before); });
  if (!child) return child.error();
  child_.emplace(std::move(*child));
  reader_.reset();
  return {};
}

}  // namespace gatehouse
