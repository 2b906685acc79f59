// What an OCSP response (RFC 6960) says, as far as it decides which certificate it is stapled to.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace gatehouse {

struct OcspFacts {
  struct Single {
    std::string serial;       // DER content of the INTEGER
    std::string issuer_hash;  // of the issuer's name
    int digest = 0;           // NID of the hash's algorithm
    bool revoked = false;
    int64_t next_update = 0;  // seconds since 1970; 0: not said
  };
  std::vector<Single> singles;

  // Null where it says nothing about the certificate.
  const Single* about(const X509& leaf) const;
};

// Fails where it is none, or one that refuses to answer. Does not look at the signature.
Result<OcspFacts> ocsp_facts(std::string_view der);

}  // namespace gatehouse
