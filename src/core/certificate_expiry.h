// When each certificate expires, in the shared segment: written by the master whenever others
// serve, read by whoever answers for the metrics (a worker, the agent), which see no certificate at
// all.
//
// Only the master writes. A sequence number, odd while it does, lets a reader see that it has read
// half of it; a master that dies there leaves a list that is not shown until the next one writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/certificates.h"
#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

struct CertificateExpiry {
  std::string name;  // of the section; cut after kExpiryNameMax bytes
  KeyKind kind = KeyKind::kEcdsa;
  int64_t not_after = 0;  // seconds since 1970
};

inline constexpr size_t kExpiryNameMax = 64;

// `set` may be null: there is none.
Result<void> publish_certificate_expiry(SharedMemory& shared, const CertificateSet* set);

// Empty where nothing was ever published, or it is just being written.
std::vector<CertificateExpiry> read_certificate_expiry(SharedMemory& shared);

}  // namespace gatehouse
