// Socket addresses, network prefixes, and the sockets that listen and connect.
//
// Nothing here resolves a name: that is done off the request path, by others. Nothing blocks: every
// socket made here is O_NONBLOCK and O_CLOEXEC.
//
// IpAddress is the compact form (18 bytes) that a connection keeps; SocketAddress is what the
// kernel wants (IPv4, IPv6 or a unix path). An IPv4-mapped IPv6 address (::ffff:192.0.2.1) is
// turned into the IPv4 address it stands for, so that a prefix such as 192.0.2.0/24 means one thing
// only.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// An IPv4 or IPv6 address without port. Default: none (neither v4 nor v6).
class IpAddress {
 public:
  // Room that write() needs: the longest IPv6 text.
  static constexpr size_t kTextMax = 46;

  IpAddress() = default;
  // "192.0.2.1", "2001:db8::1" (no brackets, no zone id, no leading zeros in IPv4 parts).
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(uint32_t host_order);
  static IpAddress from_bytes(std::span<const uint8_t, 4> bytes);
  static IpAddress from_bytes(std::span<const uint8_t, 16> bytes);

  bool is_none() const { return family_ == 0; }
  bool is_v4() const { return family_ == 4; }
  bool is_v6() const { return family_ == 6; }
  // 4 bytes, 16 bytes, or none; network order.
  std::span<const uint8_t> bytes() const {
    return {bytes_.data(), is_v4() ? 4U : is_v6() ? 16U : 0U};
  }

  // The text form (RFC 5952) in `buffer`, which is not NUL-terminated; "" for none.
  std::string_view write(std::span<char, kTextMax> buffer) const;
  std::string format() const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  uint8_t family_ = 0;
  std::array<uint8_t, 16> bytes_{};
};

// "10.0.0.0/8", "2001:db8::/32", or one address: a set of addresses that share leading bits.
class NetworkPrefix {
 public:
  // Refuses bits set beyond the prefix length: 10.0.0.1/8 is more likely a mistake than a wish.
  // An IPv4-mapped prefix (::ffff:10.0.0.0/104) is the IPv4 prefix it stands for.
  static Result<NetworkPrefix> parse(std::string_view text);

  bool contains(const IpAddress& address) const;
  std::string format() const;
  friend bool operator==(const NetworkPrefix&, const NetworkPrefix&) = default;

 private:
  IpAddress base_;
  uint8_t bits_ = 0;
};

class SocketAddress {
 public:
  // No address: family() is AF_UNSPEC.
  SocketAddress() = default;

  // "127.0.0.1:80", "[::1]:80", "*:80" (0.0.0.0:80, as nginx users expect), "unix:/run/x.sock"
  // (absolute, at most 107 bytes). Without ":port", `default_port` is taken where it is given;
  // otherwise the port is required. Port 0 ("the kernel picks") is allowed.
  static Result<SocketAddress> parse(std::string_view text,
                                     std::optional<uint16_t> default_port = std::nullopt);
  static SocketAddress ip(const IpAddress& address, uint16_t port);
  // What accept(), getsockname() or recvfrom() filled in. An unknown family gives no address. A
  // mapped IPv4 address becomes IPv4.
  static SocketAddress from_kernel(const sockaddr* address, socklen_t size);

  const sockaddr* data() const { return &storage_.generic; }
  socklen_t size() const { return size_; }
  int family() const { return storage_.generic.sa_family; }
  bool is_none() const { return family() == AF_UNSPEC; }
  bool is_unix() const { return family() == AF_UNIX; }

  // None for a unix address.
  IpAddress ip() const;
  // 0 for a unix address.
  uint16_t port() const;
  // REQUIRES: not a unix address.
  void set_port(uint16_t port);
  // The path of a unix address, without "unix:"; empty otherwise and for an unnamed peer.
  std::string_view path() const;

  // The text that parse() takes.
  std::string format() const;

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);
  friend std::strong_ordering operator<=>(const SocketAddress& a, const SocketAddress& b);

 private:
  union Storage {
    sockaddr generic;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_un local;
  };
  Storage storage_{.local = {}};
  socklen_t size_ = sizeof(sa_family_t);
};

struct ListenOptions {
  int backlog = 4096;  // the kernel cuts it to net.core.somaxconn
  // Several sockets share the address, and the kernel spreads the connections over them.
  bool reuse_port = true;
  // False: only bound. No connection waits in it before the owner calls listen().
  bool start = true;
  // Permissions of a unix socket's path. A path needs no more than this: the directory guards it.
  mode_t unix_mode = 0666;
};

// A socket that listens at `address`. IPv6 sockets take IPv6 only, so that [::]:80 and 0.0.0.0:80
// stand side by side. TCP_NODELAY is set here because accepted sockets inherit it, which saves a
// system call for each connection. A unix path that nobody listens at any more is replaced; one
// that is in use, or that is not a socket, is an error and stays.
// Errors name the address, the cause, and what usually helps.
Result<UniqueFd> listen_at(const SocketAddress& address, const ListenOptions& options);

// Fails where some other socket is bound to `address`. Sockets with SO_REUSEPORT share an address
// silently with any other process of the same user; asked first, this keeps a second gatehouse from
// taking half of the first one's connections. Succeeds for unix addresses and for port 0.
Result<void> check_unused(const SocketAddress& address);

// The address that a socket is bound to (the port that the kernel picked for port 0).
Result<SocketAddress> local_address(int fd);

// A connection under way.
struct ConnectStart {
  UniqueFd fd;  // none where error is neither 0 nor EINPROGRESS
  int error =
      0;  // 0: connected; EINPROGRESS: wait for writability, then connect_result(); else why
};

// Begins a non-blocking TCP (TCP_NODELAY set) or unix connection. Allocates nothing. EAGAIN means
// that a unix listener's queue is full. `from`, where given, is the local address to use.
ConnectStart start_connect(const SocketAddress& address, const SocketAddress* from = nullptr);

// The outcome of a connection that has become writable: 0 or an errno value.
int connect_result(int fd);

}  // namespace gatehouse
