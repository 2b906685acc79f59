// See certificate_swap.h.
#include "core/certificate_swap.h"

#include <fmt/format.h>

#include <utility>

#include "core/clock.h"
#include "core/log.h"

namespace gatehouse {
namespace {

// After the commit: how long the caller waits until every worker says that it has switched.
constexpr Duration kSwitchTimeout{10'000};

std::string summary(const std::vector<std::string>& changed) {
  constexpr size_t kNamesMax = 5;
  if (changed.empty()) return "none has changed";
  std::string text = "changed: ";
  for (size_t i = 0; i < changed.size() && i < kNamesMax; ++i) {
    if (i > 0) text += ", ";
    text += changed[i];
  }
  if (changed.size() > kNamesMax) text += fmt::format(" and {} more", changed.size() - kNamesMax);
  return text;
}

}  // namespace

void CertificateSwap::turn(Moment now, bool may_begin) {
  switch (step_) {
    case Step::kIdle:
      if (may_begin && !waiting_.empty()) begin(now);
      break;
    case Step::kLoading:
      if (std::optional<Result<LoadedCertificates>> loaded = load_->turn(now)) {
        load_.reset();
        on_loaded(std::move(*loaded));
      } else if (now >= deadline_) {
        fail("the files of the certificates were not read within reload_timeout");
      }
      break;
    case Step::kPreparing:
      switch (supervisor_.certificates_outcome()) {
        case Supervisor::Outcome::kPrepared:
          commit(now);
          break;
        case Supervisor::Outcome::kFailed:
          fail(supervisor_.certificates_failures());
          break;
        case Supervisor::Outcome::kPending:
          if (now >= deadline_) {
            fail("not prepared within reload_timeout: " + supervisor_.certificates_waiting_for());
          }
          break;
      }
      break;
    case Step::kSwitching:
      if (supervisor_.all_have_certificates()) {
        finish(true, {});
      } else if (now >= deadline_) {
        const std::string stuck = supervisor_.kill_without_certificates();
        warnings_.push_back(stuck + " did not switch in time and was killed");
        finish(true, {});
      }
      break;
  }
}

std::optional<Moment> CertificateSwap::next_deadline(bool may_begin) const {
  switch (step_) {
    case Step::kIdle:
      return may_begin && !waiting_.empty() ? std::optional<Moment>(Moment{0}) : std::nullopt;
    case Step::kLoading:
      return load_->deadline();
    case Step::kPreparing:
      return supervisor_.certificates_outcome() == Supervisor::Outcome::kPending ? deadline_
                                                                                 : Moment{0};
    case Step::kSwitching:
      return supervisor_.all_have_certificates() ? Moment{0} : deadline_;
  }
  return std::nullopt;
}

void CertificateSwap::begin(Moment now) {
  for (SwapRequest& request : std::exchange(waiting_, {})) asked_.push_back(std::move(request));
  GH_LOG(kInfo, "certificates: {} asks for the files to be read", asked_[0].by);
  generation_ = supervisor_.current();
  const ProcessPlan& plan = generation_->plan;
  deadline_ = now + plan.reload_timeout;
  if (plan.certificates.empty()) return fail("the configuration has no [certificate]");
  step_ = Step::kLoading;
  load_ = std::make_unique<CertificateLoad>(
      plan.certificates, generation_->run_as, supervisor_.new_edition(),
      CertificateLoad::Limits{plan.check_timeout, deadline_}, supervisor_.certificates());
}

void CertificateSwap::on_loaded(Result<LoadedCertificates> loaded) {
  if (!loaded) return fail(loaded.error().message);
  warnings_ = std::move(loaded->warnings);
  const CertificateSet& next = *loaded->bundle->set;
  const CertificateBundlePtr before = supervisor_.certificates();
  for (uint32_t number = 0; number < next.size() && !before; ++number) {
    changed_.emplace_back(next.name_of(number));
  }
  if (before) {
    for (const uint32_t number : next.changed_since(*before->set)) {
      changed_.emplace_back(next.name_of(number));
    }
  }
  step_ = Step::kPreparing;
  supervisor_.prepare_certificates(std::move(loaded->bundle));
}

void CertificateSwap::commit(Moment now) {
  supervisor_.commit_certificates();
  step_ = Step::kSwitching;
  deadline_ = now + kSwitchTimeout;
}

void CertificateSwap::refuse_all(const std::string& why) {
  if (step_ == Step::kSwitching) {
    warnings_.push_back(why + "; not every worker has switched");
    finish(true, {});
  } else if (step_ != Step::kIdle) {
    fail(why);
  }
  const CertificateBundlePtr bundle = supervisor_.certificates();
  for (SwapRequest& request : std::exchange(waiting_, {})) {
    if (request.done) request.done({false, bundle ? bundle->edition : 0, why, {}, {}});
  }
}

void CertificateSwap::fail(const std::string& error) {
  load_.reset();
  supervisor_.discard_certificates();
  changed_.clear();
  finish(false, error);
}

void CertificateSwap::finish(bool ok, const std::string& error) {
  step_ = Step::kIdle;
  generation_.reset();
  const CertificateBundlePtr bundle = supervisor_.certificates();
  SwapOutcome outcome{ok, bundle ? bundle->edition : 0, error, std::exchange(warnings_, {}),
                      std::exchange(changed_, {})};
  while (outcome.error.ends_with('\n')) outcome.error.pop_back();
  for (const std::string& warning : outcome.warnings) GH_LOG(kWarn, "certificates: {}", warning);
  if (ok) {
    GH_LOG(kNotice, "certificates: edition {} serves, {}", outcome.edition,
           summary(outcome.changed));
  } else {
    GH_LOG(kError, "certificates: refused, edition {} goes on: {}", outcome.edition, outcome.error);
  }
  std::vector<SwapRequest> asked = std::exchange(asked_, {});
  last_ = {wall_clock_us(), asked.empty() ? "" : asked[0].by, outcome};
  for (const SwapRequest& request : asked) {
    if (request.done) request.done(outcome);
  }
}

}  // namespace gatehouse
