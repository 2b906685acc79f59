// What the control socket asks about certificates, and what the metrics say of them:
//
//   certificate_reload           -> {"edition", "changed": [names], "warnings"}
//   certificate_list {"name"?}   -> {"edition", "certificates": [{"name", "names", "entries":
//        [{"kind", "not_before", "not_after" (seconds since 1970), "fingerprint" (SHA-256, hex),
//          "serial", "subject", "issuer", "ocsp"}]}]}
//
// Nothing here has to do with keys: it is told from the index of the bundle.
#include <memory>
#include <utility>

#include "core/certificate_expiry.h"
#include "core/clock.h"
#include "core/format.h"
#include "core/log.h"
#include "core/master_process.h"
#include "core/state_commands.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

Json json_of(const CertificateSet& set, uint32_t number) {
  Json entries = Json::array();
  for (const CertificateEntry& entry : set.entries_of(number)) {
    entries.push_back({{"kind", key_kind_name(entry.kind)},
                       {"not_before", entry.not_before},
                       {"not_after", entry.not_after},
                       {"fingerprint", entry.fingerprint},
                       {"serial", entry.serial},
                       {"subject", entry.subject},
                       {"issuer", entry.issuer},
                       {"ocsp", entry.has_ocsp}});
  }
  return {{"name", set.name_of(number)},
          {"names", set.names_of(number)},
          {"entries", std::move(entries)}};
}

}  // namespace

void Master::answer_certificate_reload(const ControlRequest& request) {
  const auto reply = [this, client = request.client, id = request.id](const SwapOutcome& outcome) {
    Json body = {
        {"edition", outcome.edition}, {"changed", outcome.changed}, {"warnings", outcome.warnings}};
    control_.reply(client, id,
                   outcome.ok ? attach_if_large(std::move(body))
                              : control_error(outcome.error, std::move(body)));
  };
  if (phase_ != Phase::kRunning) {
    return reply({false, 0, fmt::format("the gateway is {}", phase_name()), {}, {}});
  }
  if (upgrade_.is_running()) return reply({false, 0, "an upgrade is under way", {}, {}});
  swap_->request({fmt::format("uid {} pid {}", request.uid, request.pid), reply});
}

ControlReply Master::list_certificates(const Json& asked) const {
  const CertificateBundlePtr bundle = supervisor_->certificates();
  const std::string name = control_text(asked, "name");
  Json list = Json::array();
  for (uint32_t number = 0; bundle && number < bundle->set->size(); ++number) {
    if (!name.empty() && bundle->set->name_of(number) != name) continue;
    list.push_back(json_of(*bundle->set, number));
  }
  if (!name.empty() && list.empty()) {
    return control_error("there is no [certificate " + name + "]");
  }
  return attach_if_large(
      {{"edition", bundle ? bundle->edition : 0}, {"certificates", std::move(list)}});
}

Json Master::certificates_status() const {
  const CertificateSet& set = *supervisor_->certificates()->set;
  const int64_t now = wall_clock_us() / 1'000'000;
  int64_t next = 0;
  std::string_view first;
  size_t expired = 0;
  for (uint32_t number = 0; number < set.size(); ++number) {
    for (const CertificateEntry& entry : set.entries_of(number)) {
      if (entry.not_after <= now) {
        ++expired;
        continue;
      }
      if (first.empty() || entry.not_after < next) {
        next = entry.not_after;
        first = set.name_of(number);
      }
    }
  }
  Json status = {{"edition", set.edition()},
                 {"count", set.size()},
                 {"expired", expired},
                 {"next_expiry", next},
                 {"next_to_expire", first}};
  const CertificateSwap::Last& last = swap_->last();
  if (last.time_us != 0) {
    status["last"] = {{"time_us", last.time_us},
                      {"ok", last.outcome.ok},
                      {"by", last.by},
                      {"error", last.outcome.error}};
  }
  return status;
}

// Other processes read it from the shared segment.
void Master::list_for_metrics() {
  listed_ = supervisor_->certificates();
  const Result<void> listed =
      publish_certificate_expiry(shared_, listed_ ? listed_->set.get() : nullptr);
  if (!listed) GH_LOG(kWarn, "certificates in the metrics: {}", listed.error().message);
}

}  // namespace gatehouse
