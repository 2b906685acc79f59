// HTTP/2 (RFC 9113) with a client.
#include <memory>
#include <string_view>

#include "core/buffer.h"
#include "http/client_connection.h"
#include "http/session.h"

namespace gatehouse {

void start_h2_session(ClientConnection&& connection, Buffer) {
  // SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED.
  static constexpr char kFrames[] =
      "\0\0\0\4\0\0\0\0\0"
      "\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\15";
  const ClientConnection taken(std::move(connection));
  Stream::WriteAwaiter write =
      taken.stream().write(std::string_view(kFrames, sizeof(kFrames) - 1), Duration::zero());
  (void)write.await_ready();
}

}  // namespace gatehouse
