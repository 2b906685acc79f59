// Binding the control socket. See control_socket.h.
#include "core/control_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace gatehouse {
namespace {

constexpr mode_t kFolderMode = 0755;
constexpr int kBacklog = 64;
constexpr size_t kPathMax = sizeof(sockaddr_un::sun_path) - 1;

// What stands at the path now.
enum class Present : uint8_t { kNothing, kStale, kLive };

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<Present> look_at(const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) < 0) {
    if (errno == ENOENT) return Present::kNothing;
    return errno_error("cannot examine " + path, errno);
  }
  if (!S_ISSOCK(status.st_mode)) return Error{path + " is there already and is no socket"};
  UniqueFd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) return errno_error("cannot make a socket", errno);
  const sockaddr_un address = address_of(path);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return Present::kLive;
  }
  if (errno == ECONNREFUSED) return Present::kStale;
  if (errno == ENOENT) return Present::kNothing;
  if (errno == EPROTOTYPE) return Error{path + " is the socket of another program"};
  return errno_error("cannot tell whether anybody answers at " + path, errno);
}

// Gives the folder's name where it was missing and has been made, or "".
Result<std::string> make_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return std::string();
  std::string folder = path.substr(0, slash);
  if (mkdir(folder.c_str(), kFolderMode) < 0) {
    if (errno == EEXIST) return std::string();
    return errno_error("cannot make the folder " + folder, errno);
  }
  // The mask of this process shall not decide who gets to the socket.
  if (chmod(folder.c_str(), kFolderMode) < 0) {
    Error error = errno_error("cannot set the mode of " + folder, errno);
    rmdir(folder.c_str());
    return error;
  }
  return folder;
}

Result<ControlSocket> bind_temporary(const std::string& temporary, const ControlPlace& place) {
  ControlSocket made;
  made.listener.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!made.listener) return errno_error("cannot make a socket", errno);
  // The file takes this mode, less the mask, when it is bound: nobody else gets in meanwhile.
  if (fchmod(made.listener.get(), S_IRUSR | S_IWUSR) < 0) {
    return errno_error("cannot set the mode of a socket", errno);
  }
  // A leftover of an earlier process with this id.
  unlink(temporary.c_str());
  const sockaddr_un address = address_of(temporary);
  if (bind(made.listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    return errno_error("cannot bind " + temporary, errno);
  }
  const auto fail = [&temporary](const std::string& what) {
    Error error = errno_error("cannot " + what + " " + temporary, errno);
    unlink(temporary.c_str());
    return error;
  };
  const mode_t mode = place.readers ? S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP : S_IRUSR | S_IWUSR;
  if ((place.owner || place.readers) &&
      lchown(temporary.c_str(), place.owner.value_or(static_cast<uid_t>(-1)),
             place.readers.value_or(static_cast<gid_t>(-1))) < 0) {
    return fail("set the owner of");
  }
  if (fchmodat(AT_FDCWD, temporary.c_str(), mode, AT_SYMLINK_NOFOLLOW) < 0) {
    return fail("set the mode of");
  }
  if (listen(made.listener.get(), kBacklog) < 0) return fail("listen on");
  struct stat status {};
  if (lstat(temporary.c_str(), &status) < 0) return fail("examine");
  made.device = status.st_dev;
  made.inode = status.st_ino;
  return made;
}

Result<void> put_in_place(const std::string& temporary, const std::string& path, Present present) {
  if (present == Present::kNothing) {
    // Refuses where another start was faster; rename() would not.
    if (link(temporary.c_str(), path.c_str()) < 0) {
      return errno_error("cannot put the control socket at " + path, errno);
    }
    unlink(temporary.c_str());
    return {};
  }
  if (rename(temporary.c_str(), path.c_str()) < 0) {
    return errno_error("cannot replace " + path, errno);
  }
  return {};
}

Result<ControlSocket> make_in_folder(const ControlPlace& place) {
  const Result<Present> present = look_at(place.path);
  if (!present) return present.error();
  if (*present == Present::kLive && !place.replace_live) {
    return Error{"another gatehouse answers at " + place.path};
  }
  const std::string temporary = fmt::format("{}.{}", place.path, getpid());
  Result<ControlSocket> made = bind_temporary(temporary, place);
  if (!made) return made;
  if (Result<void> placed = put_in_place(temporary, place.path, *present); !placed) {
    unlink(temporary.c_str());
    return placed.error();
  }
  return made;
}

}  // namespace

Result<ControlSocket> make_control_socket(const ControlPlace& place) {
  // With room for the process id of the temporary name.
  if (place.path.empty() || place.path.size() + 12 > kPathMax) {
    return Error{fmt::format("the path of the control socket must have 1 to {} bytes: {}",
                             kPathMax - 12, place.path)};
  }
  const Result<std::string> folder = make_folder(place.path);
  if (!folder) return folder.error();
  Result<ControlSocket> made = make_in_folder(place);
  if (!made && !folder->empty()) rmdir(folder->c_str());
  return made;
}

bool is_control_socket(const std::string& path, dev_t device, ino_t inode) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && status.st_dev == device &&
         status.st_ino == inode;
}

}  // namespace gatehouse
