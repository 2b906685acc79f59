// Addresses, network prefixes, and sockets on the loopback.
#include "core/sockets.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace {

using gatehouse::check_unused;
using gatehouse::connect_result;
using gatehouse::ConnectStart;
using gatehouse::IpAddress;
using gatehouse::listen_at;
using gatehouse::local_address;
using gatehouse::NetworkPrefix;
using gatehouse::Result;
using gatehouse::SocketAddress;
using gatehouse::start_connect;
using gatehouse::UniqueFd;

std::string round_trip(std::string_view text) {
  Result<SocketAddress> address = SocketAddress::parse(text);
  return address ? address->format() : "error: " + address.error().message;
}

bool refused(std::string_view text) {
  return !SocketAddress::parse(text);
}

bool inside(const char* prefix, const char* address) {
  Result<NetworkPrefix> parsed = NetworkPrefix::parse(prefix);
  return parsed && parsed->contains(*IpAddress::parse(address));
}

int option(const UniqueFd& fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  getsockopt(fd.get(), level, name, &value, &size);
  return value;
}

std::string temporary_directory() {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  return mkdtemp(name) != nullptr ? name : "";
}

}  // namespace

Test(sockets, addresses_round_trip) {
  cr_assert(round_trip("127.0.0.1:80") == "127.0.0.1:80");
  cr_assert(round_trip("[::1]:443") == "[::1]:443");
  cr_assert(round_trip("[2001:DB8:0:0:0:0:0:1]:1") == "[2001:db8::1]:1");
  cr_assert(round_trip("*:80") == "0.0.0.0:80");
  cr_assert(round_trip("0.0.0.0:0") == "0.0.0.0:0");
  cr_assert(round_trip("unix:/run/a b.sock") == "unix:/run/a b.sock");
  cr_assert(round_trip("[::ffff:192.0.2.1]:80") == "192.0.2.1:80");
}

Test(sockets, bad_addresses_are_refused) {
  for (const char* text : {"",
                           ":80",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:65536",
                           "127.0.0.1:+1",
                           "127.0.0.1:080",
                           "127.0.0.1:8o",
                           "1.2.3:80",
                           "01.2.3.4:80",
                           "example.com:80",
                           "::1:80",
                           "[::1]",
                           "[::1]80",
                           "[::1",
                           "[127.0.0.1]:80",
                           "[*]:80",
                           "[]:80",
                           "unix:",
                           "unix:relative",
                           "127.0.0.1:80 ",
                           "[fe80::1%eth0]:80",
                           "*"}) {
    cr_assert(refused(text), "%s", text);
  }
  std::string nul("127.0.0.1\0:80", 13);
  cr_assert(refused(nul));
  cr_assert(refused("unix:/" + std::string(107, 'x')));
  cr_assert_not(refused("unix:/" + std::string(106, 'x')));
}

Test(sockets, default_port_stands_in) {
  cr_assert(SocketAddress::parse("127.0.0.1", 80)->format() == "127.0.0.1:80");
  cr_assert(SocketAddress::parse("[::1]", 443)->format() == "[::1]:443");
  cr_assert(SocketAddress::parse("*", 80)->format() == "0.0.0.0:80");
  cr_assert(SocketAddress::parse("127.0.0.1:8080", 80)->port() == 8080);
}

Test(sockets, addresses_compare_by_value) {
  SocketAddress a = *SocketAddress::parse("127.0.0.1:80");
  SocketAddress b = *SocketAddress::parse("127.0.0.1:81");
  cr_assert(a == *SocketAddress::parse("127.0.0.1:80"));
  cr_assert(a != b);
  cr_assert(a < b || b < a);
  cr_assert(*SocketAddress::parse("unix:/a") != *SocketAddress::parse("unix:/ab"));
  b.set_port(80);
  cr_assert(a == b);
  cr_assert(SocketAddress().is_none());
}

Test(sockets, kernel_addresses_lose_the_mapping) {
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(99);
  mapped.sin6_addr = IN6ADDR_ANY_INIT;
  mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
  mapped.sin6_addr.s6_addr[12] = 10;
  mapped.sin6_addr.s6_addr[15] = 7;
  auto address = SocketAddress::from_kernel(reinterpret_cast<sockaddr*>(&mapped), sizeof mapped);
  cr_assert(address.format() == "10.0.0.7:99");
  cr_assert(inside("10.0.0.0/8", "10.0.0.7"));
  cr_assert(SocketAddress::from_kernel(reinterpret_cast<sockaddr*>(&mapped), 3).is_none());
}

Test(sockets, prefixes_contain_what_they_say) {
  cr_assert(inside("10.0.0.0/8", "10.255.1.2"));
  cr_assert_not(inside("10.0.0.0/8", "11.0.0.0"));
  cr_assert(inside("192.0.2.128/25", "192.0.2.200"));
  cr_assert_not(inside("192.0.2.128/25", "192.0.2.127"));
  cr_assert(inside("0.0.0.0/0", "8.8.8.8"));
  cr_assert_not(inside("0.0.0.0/0", "::1"));
  cr_assert(inside("::/0", "2001:db8::1"));
  cr_assert(inside("2001:db8::/33", "2001:db8:7fff::"));
  cr_assert_not(inside("2001:db8::/33", "2001:db8:8000::"));
  cr_assert(inside("192.0.2.7", "192.0.2.7"));
  cr_assert_not(inside("192.0.2.7", "192.0.2.6"));
  cr_assert(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
  cr_assert(inside("::ffff:10.0.0.0/104", "10.1.1.1"));
  cr_assert(NetworkPrefix::parse("::ffff:10.0.0.0/104")->format() == "10.0.0.0/8");
  cr_assert_not(NetworkPrefix().contains(*IpAddress::parse("0.0.0.0")));
}

Test(sockets, bad_prefixes_are_refused) {
  for (const char* text :
       {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/08",
        "2001:db8::/129", "2001:db8::1/64", "10.0.0.0/8/8", "x", "::ffff:0.0.0.0/95", "unix:/a"}) {
    cr_assert_not(NetworkPrefix::parse(text).ok(), "%s", text);
  }
}

Test(sockets, listener_has_the_options_that_connections_inherit) {
  SocketAddress address = *SocketAddress::parse("127.0.0.1:0");
  Result<UniqueFd> listener = listen_at(address, {});
  cr_assert(listener.ok());
  cr_assert(option(*listener, IPPROTO_TCP, TCP_NODELAY) != 0);
  cr_assert(option(*listener, SOL_SOCKET, SO_REUSEPORT) != 0);
  cr_assert((fcntl(listener->get(), F_GETFL) & O_NONBLOCK) != 0);
  cr_assert((fcntl(listener->get(), F_GETFD) & FD_CLOEXEC) != 0);

  SocketAddress bound = *local_address(listener->get());
  cr_assert(bound.port() != 0);
  ConnectStart start = start_connect(bound);
  cr_assert(start.error == 0 || start.error == EINPROGRESS);
  pollfd waiting{.fd = start.fd.get(), .events = POLLOUT, .revents = 0};
  cr_assert(poll(&waiting, 1, 5000) == 1);
  cr_assert(connect_result(start.fd.get()) == 0);
  UniqueFd accepted(accept4(listener->get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  cr_assert(bool(accepted));
  cr_assert(option(accepted, IPPROTO_TCP, TCP_NODELAY) != 0);
}

Test(sockets, an_address_in_use_is_noticed_although_it_could_be_shared) {
  Result<UniqueFd> first = listen_at(*SocketAddress::parse("127.0.0.1:0"), {});
  SocketAddress bound = *local_address(first->get());
  cr_assert(listen_at(bound, {}).ok(), "two sockets of one user share the address");
  Result<void> unused = check_unused(bound);
  cr_assert_not(unused.ok());
  cr_assert(unused.error().message.find(bound.format()) != std::string::npos);
  cr_assert(unused.error().message.find("another program") != std::string::npos);
  first->reset();
  cr_assert(check_unused(bound).ok());
}

Test(sockets, an_address_of_no_interface_is_explained) {
  Result<UniqueFd> listener = listen_at(*SocketAddress::parse("192.0.2.1:0"), {});
  cr_assert_not(listener.ok());
  cr_assert(listener.error().message.find("192.0.2.1:0") != std::string::npos);
  cr_assert(listener.error().message.find("no interface") != std::string::npos);
}

Test(sockets, a_refused_connection_says_so) {
  Result<UniqueFd> listener = listen_at(*SocketAddress::parse("127.0.0.1:0"), {});
  SocketAddress bound = *local_address(listener->get());
  listener->reset();
  ConnectStart start = start_connect(bound);
  int error = start.error;
  if (error == EINPROGRESS) {
    pollfd waiting{.fd = start.fd.get(), .events = POLLOUT, .revents = 0};
    cr_assert(poll(&waiting, 1, 5000) == 1);
    error = connect_result(start.fd.get());
  }
  cr_assert(error == ECONNREFUSED);
}

Test(sockets, a_stale_unix_path_is_replaced_and_a_live_one_is_not) {
  std::string directory = temporary_directory();
  SocketAddress address = *SocketAddress::parse("unix:" + directory + "/s");
  gatehouse::ListenOptions options;
  options.unix_mode = 0600;
  Result<UniqueFd> first = listen_at(address, options);
  cr_assert(first.ok());
  struct stat info {};
  cr_assert(stat((directory + "/s").c_str(), &info) == 0 && (info.st_mode & 0777) == 0600);

  Result<UniqueFd> second = listen_at(address, options);
  cr_assert_not(second.ok());
  cr_assert(second.error().message.find("another program") != std::string::npos);

  first->reset();  // dies without removing the path
  cr_assert(listen_at(address, options).ok());
  unlink((directory + "/s").c_str());

  UniqueFd file(open((directory + "/s").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  cr_assert_not(listen_at(address, options).ok(), "a plain file is not removed");
  cr_assert(access((directory + "/s").c_str(), F_OK) == 0);
  unlink((directory + "/s").c_str());
  rmdir(directory.c_str());
}
