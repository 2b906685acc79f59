// What the metrics say of certificates: when each expires.
#pragma once

#include <vector>

#include "core/certificate_expiry.h"
#include "http/variables.h"

namespace gatehouse {

// gatehouse_certificate_expiry_time_seconds{certificate="main",kind="ecdsa"}; nothing where there
// is no certificate.
void write_certificates(const std::vector<CertificateExpiry>& certificates, TextBuffer& out);

// ,"certificates":[…] of the metrics as JSON.
void append_certificates(const std::vector<CertificateExpiry>& certificates, TextBuffer& out);

}  // namespace gatehouse
