// PROXY headers, as anybody who reaches the port may send them.
//
// What must hold for every input: a header ends within the bytes and within its limit; whatever is
// shorter than it is incomplete, and asks for no byte behind it; what it says, written anew, is
// read as the same.
#include "http/proxy_protocol.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

bool same(const ProxyHeader& a, const ProxyHeader& b) {
  return a.local == b.local && a.source == b.source && a.destination == b.destination &&
         a.alpn == b.alpn && a.authority == b.authority && a.unique_id == b.unique_id &&
         a.tls.used == b.tls.used && a.tls.common_name == b.tls.common_name;
}

void run(std::string_view bytes) {
  ProxyHeader header;
  const ProxyParse parsed = parse_proxy_header(bytes, header);
  require((parsed.status == ProxyStatus::kRefused) == (parsed.problem != nullptr),
          "a refusal has words, and nothing else has");
  if (parsed.status == ProxyStatus::kIncomplete) {
    require(parsed.length > 0, "what is incomplete wants more");
    require(bytes.size() + parsed.length <= kProxyHeaderMax, "but not without end");
  }
  if (parsed.status != ProxyStatus::kComplete) return;
  require(parsed.length <= bytes.size() && parsed.length <= kProxyHeaderMax, "a header has an end");
  for (size_t size = 0; size < parsed.length; ++size) {
    // A copy of the exact size, so that a byte read too far is found.
    const auto part = std::make_unique<char[]>(size);
    std::copy_n(bytes.data(), size, part.get());
    ProxyHeader ignored;
    const ProxyParse before = parse_proxy_header({part.get(), size}, ignored);
    require(before.status == ProxyStatus::kIncomplete, "the beginning of a header is incomplete");
    require(size + before.length <= parsed.length, "no byte behind the header is asked for");
  }
  const bool long_texts = header.alpn.size() > 1024 || header.authority.size() > 1024 ||
                          header.tls.common_name.size() > 1024;
  if (header.version != 2 || long_texts) return;
  if (!header.tls.used) header.tls = {};
  const std::string written = format_proxy_header(header, 2, true);
  ProxyHeader again;
  const ProxyParse reread = parse_proxy_header(written, again);
  require(reread.status == ProxyStatus::kComplete && reread.length == written.size(),
          "what is written is a header");
  require(same(header, again), "and says the same");
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatehouse::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
