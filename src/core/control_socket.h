// The control socket's file: made so that it is never seen half done, and never in the way of a
// live one.
//
// The socket is bound at a temporary name beside its path (PATH.PID), gets its owner and mode and a
// queue for connections, and is then put at the path in one step. So a path never leads to a socket
// that nobody listens on or that has wrong rights, and a symbolic link in the last place is never
// followed. What a crash left behind is replaced; a socket that is answered (unless its place is to
// be taken) and anything else in the way are errors.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

struct ControlPlace {
  std::string path;
  std::optional<uid_t> owner = {};    // of the socket; none: whom this process runs as
  std::optional<gid_t> readers = {};  // mode 0660 and this group; none: mode 0600
  // Take the place of a live socket (a new master, from the one that it replaces).
  bool replace_live = false;
};

// A listening SOCK_SEQPACKET socket, not blocking, and what tells its file from another one.
struct ControlSocket {
  UniqueFd listener;
  dev_t device = 0;
  ino_t inode = 0;
};

// Makes the last folder of the path, too, where it is missing (mode 0755). After a failure all is
// as before.
Result<ControlSocket> make_control_socket(const ControlPlace& place);

// Whether the path still leads to this socket.
bool is_control_socket(const std::string& path, dev_t device, ino_t inode);

}  // namespace gatehouse
