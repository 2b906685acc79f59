// SRV records out of a DNS answer's bytes (RFC 2782), with the time that they may be kept.
//
// A pure function of bytes that came over the network: what is malformed is refused. Here because
// c-ares 1.18 reads the records, but not how long they are good for.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"

namespace gatehouse {

inline constexpr size_t kSrvRecordsMax = 256;  // further ones are left out

struct SrvRecord {
  std::string host;  // "." never: such a record says that there is no service
  uint16_t port = 0;
  uint16_t priority = 0;
  uint16_t weight = 0;
};

struct SrvRecords {
  std::vector<SrvRecord> records;
  std::chrono::seconds ttl{0};  // the least of all records on the way
};

Result<SrvRecords> parse_srv_records(std::span<const uint8_t> answer);

}  // namespace gatehouse
