// Carrying certificates alone into the workers, under the generation that serves. See supervisor.h.
#include <fmt/format.h>
#include <signal.h>

#include <set>
#include <utility>

#include "core/log.h"
#include "core/supervisor.h"

namespace gatehouse {
namespace {

void add_name(std::string& names, const std::string& name) {
  if (!names.empty()) names += ", ";
  names += name;
}

}  // namespace

// Those that leave make no new connection that would show one.
template <typename Do>
void Supervisor::each_in_place(Do what) const {
  for (const auto& slot : slots_) {
    if (slot->worker) what(*slot->worker);
    if (slot->incoming) what(*slot->incoming);
  }
}

void Supervisor::prepare_certificates_of(WorkerProcess& worker) const {
  if (worker.order(ChannelVerb::kPrepareCertificates, swap_->edition, {swap_->fd.get()})) return;
  worker.certificates_failed = swap_->edition;
  worker.certificates_failure = "it could not be told";
}

void Supervisor::prepare_certificates(CertificateBundlePtr next) {
  swap_ = std::move(next);
  each_in_place([this](WorkerProcess& worker) { prepare_certificates_of(worker); });
}

Supervisor::Outcome Supervisor::certificates_outcome() const {
  Outcome outcome = Outcome::kPrepared;
  each_in_place([this, &outcome](const WorkerProcess& worker) {
    if (worker.certificates_failed == swap_->edition) outcome = Outcome::kFailed;
    if (outcome == Outcome::kPrepared && worker.certificates_prepared != swap_->edition) {
      outcome = Outcome::kPending;
    }
  });
  return outcome;
}

std::string Supervisor::certificates_failures() const {
  std::string text;
  std::set<std::string> said;
  each_in_place([&](const WorkerProcess& worker) {
    if (worker.certificates_failed != swap_->edition) return;
    if (!said.insert(worker.certificates_failure).second) return;
    if (!text.empty()) text += '\n';
    text += fmt::format("{} cannot prepare the certificates: {}", worker.name(),
                        worker.certificates_failure);
  });
  return text;
}

std::string Supervisor::certificates_waiting_for() const {
  std::string names;
  each_in_place([&](const WorkerProcess& worker) {
    if (worker.certificates_prepared != swap_->edition) add_name(names, worker.name());
  });
  return names;
}

void Supervisor::commit_certificates() {
  certificates_ = std::exchange(swap_, nullptr);
  each_in_place([this](WorkerProcess& worker) {
    (void)worker.order(ChannelVerb::kSwitchCertificates, certificates_->edition);
  });
}

void Supervisor::discard_certificates() {
  if (!swap_) return;
  each_in_place([this](WorkerProcess& worker) {
    (void)worker.order(ChannelVerb::kDiscardCertificates, swap_->edition);
  });
  swap_.reset();
}

bool Supervisor::all_have_certificates() const {
  bool all = true;
  each_in_place([this, &all](const WorkerProcess& worker) {
    if (worker.certificates != certificates_->edition) all = false;
  });
  return all;
}

std::string Supervisor::kill_without_certificates() {
  std::string names;
  each_in_place([&](const WorkerProcess& worker) {
    if (worker.certificates == certificates_->edition) return;
    add_name(names, worker.name());
    kill(worker.pid, SIGKILL);
  });
  return names;
}

}  // namespace gatehouse
