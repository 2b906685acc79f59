// Reading a PROXY header from a socket: in one piece, in many, and never a byte too far.
#include "http/proxy_protocol_reader.h"

#include <criterion/criterion.h>

#include <array>
#include <string>
#include <string_view>

#include "core/task.h"
#include "loopback.h"

namespace gatehouse {
namespace {

using namespace loopback;
using std::chrono::milliseconds;
using Status = ProxyRead::Status;

constexpr std::string_view kLine = "PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n";

ProxyRead finish(EventLoop& loop, Task<ProxyRead>& task) {
  cr_assert(turn_until(loop, [&] { return task.done(); }), "it still waits");
  return task.take();
}

std::string rest_of(Stream& stream) {
  std::array<char, 256> block;
  const IoResult got = stream.read_now(block);
  return got.ok() ? std::string(block.data(), got.bytes) : std::string();
}

void reads_and_leaves_the_rest(const std::string& header) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  tcp.send(header + "GET / HTTP/1.1\r\n");
  Task<ProxyRead> task = read_proxy_header(*tcp.stream, kLong, into);
  task.start();
  cr_assert(finish(*loop, task).status == Status::kRead);
  cr_assert(into.source.format() == "192.0.2.7:50000");
  cr_assert(rest_of(*tcp.stream) == "GET / HTTP/1.1\r\n");
}

void reads_byte_by_byte(const std::string& header) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  Task<ProxyRead> task = read_proxy_header(*tcp.stream, kLong, into);
  task.start();
  for (const char c : header) {
    cr_assert_not(task.done());
    tcp.send({&c, 1});
    loop->turn(false);
  }
  cr_assert(finish(*loop, task).status == Status::kRead);
  tcp.send("rest");
  turn_for(*loop, milliseconds(2));
  cr_assert(rest_of(*tcp.stream) == "rest");
}

ProxyRead after(std::string_view bytes, bool hang_up, Duration timeout) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  Task<ProxyRead> task = read_proxy_header(*tcp.stream, timeout, into);
  task.start();
  if (!bytes.empty()) tcp.send(bytes);
  if (hang_up) tcp.hang_up();
  return finish(*loop, task);
}

std::string binary() {
  ProxyHeader told;
  told.source = *SocketAddress::parse("192.0.2.7:50000");
  told.destination = *SocketAddress::parse("198.51.100.1:443");
  told.authority = std::string(40, 'a');
  return format_proxy_header(told, 2, true);
}

}  // namespace

Test(proxy_protocol_reader, leaves_what_comes_behind) {
  reads_and_leaves_the_rest(std::string(kLine));
  reads_and_leaves_the_rest(binary());
}

Test(proxy_protocol_reader, takes_any_pieces) {
  reads_byte_by_byte(std::string(kLine));
  reads_byte_by_byte(binary());
}

Test(proxy_protocol_reader, tells_a_probe_from_a_failure) {
  cr_assert(after("", true, kLong).status == Status::kNothing);
  cr_assert(after("", false, milliseconds(30)).status == Status::kNothing);
  cr_assert(after("PROXY TC", true, kLong).status == Status::kCut);
  cr_assert(after("PROXY TC", false, milliseconds(30)).status == Status::kLate);
  const ProxyRead refused = after("GET / HTTP/1.1\r\n", false, kLong);
  cr_assert(refused.status == Status::kRefused && refused.problem != nullptr);
}

Test(proxy_protocol_reader, a_reset_ends_it) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  Task<ProxyRead> task = read_proxy_header(*tcp.stream, kLong, into);
  task.start();
  tcp.reset();
  cr_assert(finish(*loop, task).status == Status::kNothing);
}

Test(proxy_protocol_reader, the_time_is_for_the_whole_header) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  Task<ProxyRead> task = read_proxy_header(*tcp.stream, milliseconds(60), into);
  task.start();
  for (size_t at = 0; at < kLine.size() && !task.done(); ++at) {
    tcp.send(kLine.substr(at, 1));
    turn_for(*loop, milliseconds(10));
  }
  cr_assert(task.done() && task.take().status == Status::kLate);
}

Test(proxy_protocol_reader, may_be_cancelled) {
  auto loop = make_loop();
  Connection tcp(*loop);
  ProxyHeader into;
  {
    Task<ProxyRead> task = read_proxy_header(*tcp.stream, kLong, into);
    task.start();
    tcp.send("PROXY TCP4 ");
    turn_for(*loop, milliseconds(5));
    cr_assert_not(task.done());
  }
  tcp.send("later");
  turn_for(*loop, milliseconds(5));
}

}  // namespace gatehouse
