// See prometheus_certificates.h.
#include "http/prometheus_certificates.h"

#include "core/format.h"
#include "http/prometheus_text.h"
#include "http/text_template.h"

namespace gatehouse {

void write_certificates(const std::vector<CertificateExpiry>& certificates, TextBuffer& out) {
  if (certificates.empty()) return;
  constexpr std::string_view kMetric = "gatehouse_certificate_expiry_time_seconds";
  write_head(out, kMetric, "gauge", "When each certificate expires, since the epoch");
  for (const CertificateExpiry& certificate : certificates) {
    append_text(out, kMetric);
    append_text(out, "{");
    append_label(out, "certificate", certificate.name);
    fmt::format_to(fmt::appender(out), ",kind=\"{}\"}} {}\n", key_kind_name(certificate.kind),
                   certificate.not_after);
  }
}

void append_certificates(const std::vector<CertificateExpiry>& certificates, TextBuffer& out) {
  append_text(out, ",\"certificates\":[");
  bool first = true;
  for (const CertificateExpiry& certificate : certificates) {
    append_text(out, first ? "{\"name\":\"" : ",{\"name\":\"");
    first = false;
    append_escaped(certificate.name, TextEscape::kJson, out);
    fmt::format_to(fmt::appender(out), "\",\"kind\":\"{}\",\"expiry_time\":{}}}",
                   key_kind_name(certificate.kind), certificate.not_after);
  }
  append_text(out, "]");
}

}  // namespace gatehouse
