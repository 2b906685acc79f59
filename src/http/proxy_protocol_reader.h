// Reading the PROXY header at the start of an accepted connection.
//
// Takes the header's bytes from the socket and not one more, so that whoever comes next, be it TLS
// or HTTP, finds the socket as if there had been none: what has arrived is first looked at
// (MSG_PEEK) and then consumed as far as it belongs to the header. A header that comes in one
// packet costs two system calls, one in pieces two more for each.
#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/task.h"
#include "core/units.h"
#include "http/proxy_protocol.h"

namespace gatehouse {

struct ProxyRead {
  enum class Status : uint8_t {
    kRead,
    kNothing,  // the peer left, or the time was over, without a byte: a probe of the port
    kLate,     // the header did not come in time
    kCut,      // the connection ended in the middle of it
    kRefused,  // it is none; see `problem`
  };
  Status status = Status::kNothing;
  const char* problem = nullptr;
};

// REQUIRES: `stream` is open and plain, nothing has been read of it; `stream` and `into` outlive
// the Task. `timeout` is for the whole header.
Task<ProxyRead> read_proxy_header(Stream& stream, Duration timeout, ProxyHeader& into);

}  // namespace gatehouse
