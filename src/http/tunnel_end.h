// The client's end of a tunnel: a connection, or one stream of a connection that has others.
//
// Over HTTP/1 a tunnel has the whole connection. Over HTTP/2 it is one stream among others, whose
// bytes come and go in DATA frames (RFC 8441).
#pragma once

#include <span>
#include <string_view>

#include "core/stream.h"
#include "core/task.h"
#include "core/units.h"

namespace gatehouse {

// One stream of a connection, with the functions of Stream that a tunnel uses.
class TunnelEnd {
 public:
  virtual Task<IoResult> readable(Duration timeout) = 0;
  virtual IoResult read_now(std::span<char> into) = 0;
  virtual Task<IoResult> write(std::string_view bytes, Duration timeout) = 0;
  virtual void shutdown_write() = 0;
  virtual EventLoop& loop() = 0;

 protected:
  ~TunnelEnd() = default;
};

// Exactly one of them is set.
struct ClientTunnel {
  Stream* connection = nullptr;
  TunnelEnd* stream = nullptr;
};

}  // namespace gatehouse
