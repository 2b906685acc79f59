// Certificates swapped alone inside a live worker: a new set is mapped beside the one that serves,
// and with the switch takes its place. Connections keep what they have been given. See worker.h.
#include <utility>

#include "core/certificate_conf.h"
#include "core/log.h"
#include "core/sealed_bytes.h"
#include "http/worker.h"
#include "http/worker_preparation.h"

namespace gatehouse {

// Done on the loop: mapping is a matter of microseconds, and nothing is parsed.
void Worker::prepare_certificates(ChannelMessage& message) {
  const uint32_t edition = message.argument;
  next_certificates_.reset();
  if (message.fds.size() != 1) return refuse_certificates(edition, "one descriptor was expected");
  Result<std::shared_ptr<const CertificateSet>> set =
      CertificateSet::from_bundle(message.fds[0].get());
  if (!set) return refuse_certificates(edition, set.error().message);
  if ((*set)->edition() != edition ||
      (*set)->sections_hash() != sections_hash_of(current_->generation->config())) {
    return refuse_certificates(edition, "they are not those of the generation that serves");
  }
  next_certificates_ = std::move(*set);
  tell_master(ChannelVerb::kCertificatesPrepared, edition);
}

void Worker::refuse_certificates(uint32_t edition, const std::string& why) {
  Result<UniqueFd> text = seal_bytes("gatehouse-errors", why);
  if (!text) GH_LOG(kError, "certificates: edition {}: {}", edition, why);
  tell_master(ChannelVerb::kCertificatesFailed, edition, text ? std::move(*text) : UniqueFd());
}

void Worker::switch_certificates(uint32_t edition) {
  if (next_certificates_ == nullptr || next_certificates_->edition() != edition) {
    // The master will not hear what it waits for, and replaces this worker.
    GH_LOG(kError, "told to switch to certificates of edition {}, which are not prepared", edition);
    return;
  }
  CertificateHolder& holder = current_->generation->certificates();
  std::shared_ptr<const CertificateSet> before = holder.exchange(std::move(next_certificates_));
  if (before != nullptr) holder.get()->adopt_parsed(*before);
  tell_master(ChannelVerb::kCertificatesSwitched, edition);
}

// What was parsed under the generation before is parsed under the one that serves now.
void Worker::keep_parsed_certificates(const Generation& before) {
  const CertificateSet* now = current_->generation->certificates().get();
  if (now != nullptr && before.certificates().get() != nullptr) {
    now->adopt_parsed(*before.certificates().get());
  }
}

}  // namespace gatehouse
