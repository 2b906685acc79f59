// Checking certificates: parsing what the master has read, and making the bundle that serves.
//
// Run by -t and at start in the process itself, and for a reload in a child of the master with the
// workers' rights; it needs neither the configuration nor any file.
//
// Errors, each with the line that names the file: it could not be read; there is no certificate or
// no key in it; the key belongs to another certificate; a kind of key that TLS clients do not take,
// or an RSA key of less than 2,048 bits; two of a kind in one section; an OCSP response about
// another certificate. Warnings, with which it serves: a certificate that is not valid now; a chain
// that is out of order; a name that the certificate is not made for; an OCSP response that is too
// old or says that the certificate is revoked.
// Leaves out: whether the chain leads to an authority that anybody trusts, and the signature of
// OCSP responses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/certificate_bundle.h"
#include "core/certificate_files.h"
#include "core/certificate_plan.h"
#include "core/config_errors.h"
#include "core/result.h"

namespace gatehouse {

struct CertificateVerdict {
  ConfigErrors errors;
  std::vector<std::string> warnings;  // "FILE:LINE: [certificate NAME] key = value: …"
  std::string bundle;                 // where there is no error; see core/certificate_bundle.h
};

// `texts`: what was read for `plan`. `now`: seconds since 1970. `before`: the edition before, or
// null. A section whose files are byte by byte what they were then is taken over as it is, so that
// one new certificate among ten thousand does not have all of them parsed.
CertificateVerdict check_certificates(const CertificatePlan& plan, const CertificateTexts& texts,
                                      uint32_t edition, int64_t now,
                                      const CertificateBundleView* before = nullptr);

}  // namespace gatehouse
