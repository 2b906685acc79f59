// Binding all listeners of a plan. See process_sockets.h.
#include "core/process_sockets.h"

#include <fmt/format.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

const PoolPlan* find_pool(const ProcessPlan& plan, const std::string& name) {
  auto found = std::find_if(plan.pools.begin(), plan.pools.end(),
                            [&](const PoolPlan& pool) { return pool.name == name; });
  return found == plan.pools.end() ? nullptr : &*found;
}

Error in_listener(const ListenerPlan& listener, size_t address, const Error& error) {
  if (address < listener.where.size()) return Error{listener.where[address] + error.message};
  return Error{fmt::format("listener {}: {}", listener.name, error.message)};
}

bool is_any(const IpAddress& address) {
  const std::span<const uint8_t> bytes = address.bytes();
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// Whether a socket at one of them is in the way of one at the other.
bool overlap(const SocketAddress& a, const SocketAddress& b) {
  if (a.is_unix() || b.is_unix()) return a == b;
  if (a.family() != b.family() || a.port() != b.port()) return false;
  return a.ip() == b.ip() || is_any(a.ip()) || is_any(b.ip());
}

bool kernel_picks(const SocketAddress& address) {
  return !address.is_unix() && address.port() == 0;
}

// Which of the equal addresses before it this is: each `127.0.0.1:0` is a socket of its own.
size_t ordinal_of(const ListenerPlan& listener, size_t address) {
  return static_cast<size_t>(std::count(
      listener.addresses.begin(), listener.addresses.begin() + static_cast<std::ptrdiff_t>(address),
      listener.addresses[address]));
}

// Brings new connections to the first `workers` sockets of the group only, evenly. The kernel
// numbers them in the order in which they began to listen, which is that of their ids.
void steer(int fd, size_t sockets, uint32_t workers) {
  if (sockets <= workers) {
    // Fails where nothing was steered, and that is well.
    constexpr int kDetach = 68;  // SO_DETACH_REUSEPORT_BPF
    int unused = 0;
    (void)setsockopt(fd, SOL_SOCKET, kDetach, &unused, sizeof(unused));
    return;
  }
  sock_filter code[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)},
      {BPF_ALU | BPF_MOD | BPF_K, 0, 0, workers},
      {BPF_RET | BPF_A, 0, 0, 0},
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) != 0) {
    // Connections go to all sockets then, which all have a worker.
    GH_LOG(kInfo, "connections are not spread evenly: {}", std::strerror(errno));
  }
}

}  // namespace

uint32_t descriptors_of_master(const ProcessPlan& plan) {
  constexpr uint64_t kAside = 128;
  uint64_t wanted = plan.log_files.size();
  for (const PoolPlan& pool : plan.pools) {
    wanted += pool.workers;
    for (const ListenerPlan& listener : plan.listeners) {
      if (listener.pool == pool.name) wanted += listener.addresses.size() * pool.workers;
    }
  }
  return static_cast<uint32_t>(std::min<uint64_t>(2 * wanted + kAside, INT32_MAX));
}

const ListenSockets::Bound* ListenSockets::find(const ListenerPlan& listener,
                                                size_t address) const {
  const SocketAddress& asked = listener.addresses[address];
  if (!kernel_picks(asked)) {
    const auto found = std::find_if(bound_.begin(), bound_.end(),
                                    [&](const Bound& bound) { return bound.asked == asked; });
    return found == bound_.end() ? nullptr : &*found;
  }
  size_t ordinal = ordinal_of(listener, address);
  for (const Bound& bound : bound_) {
    if (bound.asked == asked && bound.listener == listener.name && ordinal-- == 0) return &bound;
  }
  return nullptr;
}

ListenSockets::Bound* ListenSockets::find(const ListenerPlan& listener, size_t address) {
  return const_cast<Bound*>(std::as_const(*this).find(listener, address));
}

// Addresses named twice, unknown pools, and addresses that another program holds. All are asked
// before any is bound: 0.0.0.0:80 of ours would look like a stranger's to 127.0.0.1:80 of ours. For
// the same reason an address that one of ours is in the way of is not asked about.
std::vector<Error> ListenSockets::check_addresses(const ProcessPlan& plan) const {
  std::vector<Error> errors;
  std::vector<std::pair<SocketAddress, std::string>> seen;
  for (const ListenerPlan& listener : plan.listeners) {
    if (find_pool(plan, listener.pool) == nullptr) {
      errors.push_back(in_listener(listener, 0, Error{"there is no pool " + listener.pool}));
    }
    for (size_t i = 0; i < listener.addresses.size(); ++i) {
      const SocketAddress& address = listener.addresses[i];
      auto twin = std::find_if(seen.begin(), seen.end(),
                               [&](const auto& entry) { return entry.first == address; });
      if (twin != seen.end() && !kernel_picks(address)) {
        errors.push_back(in_listener(
            listener, i,
            Error{fmt::format("{} is listener {}'s already", address.format(), twin->second)}));
        continue;
      }
      seen.emplace_back(address, listener.name);
      const bool ours = std::any_of(bound_.begin(), bound_.end(), [&](const Bound& bound) {
        return overlap(bound.address, address);
      });
      if (ours) continue;
      if (Result<void> unused = check_unused(address); !unused) {
        errors.push_back(in_listener(listener, i, unused.error()));
      }
    }
  }
  return errors;
}

std::vector<Error> ListenSockets::prepare(const ProcessPlan& plan) {
  std::vector<Error> errors = check_addresses(plan);
  if (!errors.empty()) return errors;
  for (const ListenerPlan& listener : plan.listeners) {
    const uint32_t workers = find_pool(plan, listener.pool)->workers;
    for (size_t i = 0; i < listener.addresses.size(); ++i) {
      Bound* bound = find(listener, i);
      if (bound == nullptr) {
        Bound fresh;
        fresh.listener = listener.name;
        fresh.asked = fresh.address = listener.addresses[i];
        bound_.push_back(std::move(fresh));
        bound = &bound_.back();
      }
      if (Result<void> opened = open(*bound, listener, workers); !opened) {
        errors.push_back(in_listener(listener, i, opened.error()));
      }
    }
  }
  if (!errors.empty()) discard();
  return errors;
}

// Adds the sockets that are missing.
Result<void> ListenSockets::open(Bound& bound, const ListenerPlan& listener, uint32_t workers) {
  ListenOptions options;
  options.backlog = listener.backlog;
  options.start = false;
  const size_t wanted = bound.address.is_unix() ? 1 : workers;
  while (bound.sockets.size() < wanted) {
    Result<UniqueFd> fd = listen_at(bound.address, options);
    if (!fd) return fd.error();
    if (kernel_picks(bound.address)) {
      Result<SocketAddress> picked = local_address(fd->get());
      if (!picked) return picked.error();
      bound.address = *picked;
    }
    bound.sockets.push_back({.id = ++last_id_, .fd = std::move(*fd)});
  }
  if (bound.address.is_unix() && bound.is_new) {
    struct stat info {};
    if (lstat(std::string(bound.address.path()).c_str(), &info) == 0) {
      bound.device = info.st_dev;
      bound.inode = info.st_ino;
    }
  }
  return {};
}

std::vector<Error> ListenSockets::start_listening(const ProcessPlan& plan) {
  std::vector<Error> errors;
  for (const ListenerPlan& listener : plan.listeners) {
    for (size_t i = 0; i < listener.addresses.size(); ++i) {
      const Bound* bound = find(listener, i);
      if (bound == nullptr) continue;
      for (const Socket& socket : bound->sockets) {
        if (!socket.is_new || listen(socket.fd.get(), listener.backlog) == 0) continue;
        errors.push_back(in_listener(
            listener, i, errno_error("cannot listen on " + bound->address.format(), errno)));
        break;
      }
    }
  }
  return errors;
}

void ListenSockets::commit(const ProcessPlan& plan) {
  std::vector<const Bound*> wanted;
  for (const ListenerPlan& listener : plan.listeners) {
    const uint32_t workers = find_pool(plan, listener.pool)->workers;
    for (size_t i = 0; i < listener.addresses.size(); ++i) {
      Bound* bound = find(listener, i);
      if (bound == nullptr) continue;
      wanted.push_back(bound);
      if (bound->is_new || bound->listener != listener.name) {
        GH_LOG(kNotice, "listener {}: listening on {}", listener.name, bound->address.format());
      }
      bound->listener = listener.name;
      bound->is_new = false;
      for (Socket& socket : bound->sockets) {
        socket.is_new = false;
        // Once more for the sake of a backlog that may have changed.
        (void)listen(socket.fd.get(), listener.backlog);
      }
      if (!bound->address.is_unix()) {
        steer(bound->sockets.front().fd.get(), bound->sockets.size(), workers);
      }
    }
  }
  std::vector<Bound> kept;
  for (Bound& bound : bound_) {
    if (std::find(wanted.begin(), wanted.end(), &bound) != wanted.end()) {
      kept.push_back(std::move(bound));
    } else {
      GH_LOG(kNotice, "listener {}: {} is closed", bound.listener, bound.address.format());
      remove_path(bound);
    }
  }
  bound_ = std::move(kept);
}

void ListenSockets::discard() {
  for (Bound& bound : bound_) {
    if (bound.is_new) remove_path(bound);
    std::erase_if(bound.sockets, [](const Socket& socket) { return socket.is_new; });
  }
  std::erase_if(bound_, [](const Bound& bound) { return bound.is_new; });
}

std::vector<WorkerSocket> ListenSockets::of_worker(const ProcessPlan& plan, const std::string& pool,
                                                   uint32_t index, Which which) const {
  std::vector<WorkerSocket> list;
  const PoolPlan* place = find_pool(plan, pool);
  if (place == nullptr || index >= place->workers) return list;
  for (const ListenerPlan& listener : plan.listeners) {
    if (listener.pool != pool) continue;
    for (size_t i = 0; i < listener.addresses.size(); ++i) {
      const Bound* bound = find(listener, i);
      if (bound == nullptr) continue;
      for (size_t k = 0; k < bound->sockets.size(); ++k) {
        if (!bound->address.is_unix() && k % place->workers != index) continue;
        const Socket& socket = bound->sockets[k];
        if (socket.is_new && which == Which::kCommitted) continue;
        list.push_back({.id = socket.id,
                        .listener = listener.name,
                        .address = bound->address,
                        .fd = socket.fd.get()});
      }
    }
  }
  return list;
}

size_t ListenSockets::count() const {
  size_t count = 0;
  for (const Bound& bound : bound_) count += bound.sockets.size();
  return count;
}

void ListenSockets::inherit(Inherited inherited) {
  Bound bound;
  bound.listener = std::move(inherited.listener);
  bound.asked = inherited.asked;
  bound.address = inherited.address;
  bound.is_new = false;
  bound.borrowed = true;
  for (UniqueFd& fd : inherited.fds) {
    bound.sockets.push_back({.id = ++last_id_, .is_new = false, .fd = std::move(fd)});
  }
  struct stat info {};
  if (bound.address.is_unix() && lstat(std::string(bound.address.path()).c_str(), &info) == 0) {
    bound.device = info.st_dev;
    bound.inode = info.st_ino;
  }
  bound_.push_back(std::move(bound));
}

std::vector<ListenSockets::HandedDown> ListenSockets::hand_down() const {
  std::vector<HandedDown> list;
  for (const Bound& bound : bound_) {
    HandedDown entry{bound.listener, bound.asked, bound.address, {}};
    for (const Socket& socket : bound.sockets) entry.fds.push_back(socket.fd.get());
    list.push_back(std::move(entry));
  }
  return list;
}

void ListenSockets::take_paths() {
  for (Bound& bound : bound_) bound.borrowed = false;
  for (Bound& bound : std::exchange(unwanted_, {})) {
    bound.borrowed = false;
    remove_path(bound);
  }
}

// Removes the path, if it is ours and still leads to our socket.
void ListenSockets::remove_path(Bound& bound) {
  if (!bound.address.is_unix() || bound.inode == 0 || keep_paths_) return;
  if (bound.borrowed) {
    bound.sockets.clear();
    unwanted_.push_back(std::move(bound));
    return;
  }
  const std::string path(bound.address.path());
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0 && info.st_dev == bound.device &&
      info.st_ino == bound.inode) {
    unlink(path.c_str());
  }
}

void ListenSockets::close() {
  for (Bound& bound : bound_) remove_path(bound);
  bound_.clear();
}

}  // namespace gatehouse
