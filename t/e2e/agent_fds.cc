// What a test in Python cannot make: a shared segment, and configurations as sealed bytes.
//
//   agent_fds SOCKET segment            sends the descriptor of a new segment of 8 MiB
//   agent_fds SOCKET config FILE…       sends one descriptor for each file, in their order
//
// over the unix socket with that number, one message each, and ends.
#include <sys/socket.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "core/config_source.h"
#include "core/shared_memory.h"

namespace {

bool send_fd(int socket, int fd) {
  char byte = 'x';
  iovec bytes{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  return sendmsg(socket, &message, 0) == 1;
}

int complain(const gatehouse::Error& error) {
  std::fprintf(stderr, "agent_fds: %s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace gatehouse;
  int socket = -1;
  if (argc < 3 || std::from_chars(argv[1], argv[1] + std::strlen(argv[1]), socket).ptr == argv[1]) {
    return 2;
  }
  if (std::string_view(argv[2]) == "segment") {
    Result<SharedMemory> shared = SharedMemory::create(8_MiB);
    if (!shared) return complain(shared.error());
    return send_fd(socket, shared->fd()) ? 0 : 1;
  }
  for (int i = 3; i < argc; ++i) {
    Result<ConfigSource> source = ConfigSource::load(argv[i]);
    if (!source) return complain(source.error());
    Result<UniqueFd> sealed = source->to_memfd();
    if (!sealed) return complain(sealed.error());
    if (!send_fd(socket, sealed->get())) return 1;
  }
  return 0;
}
