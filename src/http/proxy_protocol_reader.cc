// Reading the PROXY header of a connection; see proxy_protocol_reader.h.
#include "http/proxy_protocol_reader.h"

#include <sys/socket.h>

#include <chrono>

#include "core/buffer.h"

namespace gatehouse {

Task<ProxyRead> read_proxy_header(Stream& stream, Duration timeout, ProxyHeader& into) {
  static_assert(kProxyHeaderMax <= kBufferSizes[static_cast<unsigned>(BufferClass::kHead)] / 2);
  using Status = ProxyRead::Status;
  const Moment deadline = stream.loop().now() + timeout;
  Buffer bytes;
  for (;;) {
    const Duration left = std::chrono::duration_cast<Duration>(deadline - stream.loop().now());
    if (left <= Duration::zero()) {
      co_return {bytes.empty() ? Status::kNothing : Status::kLate, nullptr};
    }
    if (bytes.empty() && !stream.may_read()) {
      // A connection that has said nothing yet holds no buffer.
      const IoResult ready = co_await stream.readable(left);
      if (!ready.ok()) co_return {Status::kNothing, nullptr};
    }
    if (!bytes) bytes = Buffer(BufferClass::kHead);
    // Bytes that the stream has not been told of yet are left for later: it would not read them.
    const ssize_t peeked =
        stream.may_read() ? ::recv(stream.fd(), bytes.tail(), kProxyHeaderMax, MSG_PEEK) : 0;
    const size_t there = peeked > 0 ? static_cast<size_t>(peeked) : 0;
    const ProxyParse parsed = parse_proxy_header({bytes.view().data(), bytes.size() + there}, into);
    if (parsed.status == ProxyStatus::kRefused) co_return {Status::kRefused, parsed.problem};
    const bool complete = parsed.status == ProxyStatus::kComplete;
    const size_t header_part = complete ? parsed.length - bytes.size() : there;
    // All of `there` belongs to an incomplete header, and so do the bytes that it still wants. This
    // asks the kernel, so that the stream learns where nothing is left to read.
    for (size_t left_over = header_part; left_over > 0;) {
      const IoResult got = stream.read_now({bytes.tail(), left_over});
      if (!got.ok()) co_return {Status::kCut, nullptr};
      bytes.commit(got.bytes);
      left_over -= got.bytes;
    }
    if (complete) co_return {Status::kRead, nullptr};
    const IoResult got = co_await stream.read({bytes.tail(), parsed.length}, left);
    if (!got.ok()) {
      if (bytes.empty()) co_return {Status::kNothing, nullptr};
      co_return {got.status == IoStatus::kTimeout ? Status::kLate : Status::kCut, nullptr};
    }
    bytes.commit(got.bytes);
  }
}

}  // namespace gatehouse
