// Binding all listeners of a plan. See process_sockets.h.
#include "core/process_sockets.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

const PoolPlan* find_pool(const ProcessPlan& plan, const std::string& name) {
  auto found = std::find_if(plan.pools.begin(), plan.pools.end(),
                            [&](const PoolPlan& pool) { return pool.name == name; });
  return found == plan.pools.end() ? nullptr : &*found;
}

Error in_listener(const std::string& listener, const Error& error) {
  return Error{fmt::format("listener {}: {}", listener, error.message)};
}

// Addresses named twice, unknown pools, and addresses that another program holds. All are asked
// before any is bound: 0.0.0.0:80 of ours would look like a stranger's to 127.0.0.1:80 of ours.
std::vector<Error> check_addresses(const ProcessPlan& plan) {
  std::vector<Error> errors;
  std::vector<std::pair<SocketAddress, std::string>> seen;
  for (const ListenerPlan& listener : plan.listeners) {
    if (find_pool(plan, listener.pool) == nullptr) {
      errors.push_back(in_listener(listener.name, Error{"there is no pool " + listener.pool}));
    }
    for (const SocketAddress& address : listener.addresses) {
      bool kernel_picks = !address.is_unix() && address.port() == 0;
      auto twin = std::find_if(seen.begin(), seen.end(),
                               [&](const auto& entry) { return entry.first == address; });
      if (twin != seen.end() && !kernel_picks) {
        errors.push_back(in_listener(
            listener.name,
            Error{fmt::format("{} is listener {}'s already", address.format(), twin->second)}));
        continue;
      }
      seen.emplace_back(address, listener.name);
      if (Result<void> unused = check_unused(address); !unused) {
        errors.push_back(in_listener(listener.name, unused.error()));
      }
    }
  }
  return errors;
}

}  // namespace

std::vector<Error> ListenSockets::bind(const ProcessPlan& plan) {
  std::vector<Error> errors = check_addresses(plan);
  if (!errors.empty()) return errors;
  for (const ListenerPlan& listener : plan.listeners) {
    uint32_t workers = find_pool(plan, listener.pool)->workers;
    for (const SocketAddress& address : listener.addresses) {
      Result<Bound> bound = bind_one(listener, address, workers);
      if (bound) {
        bound_.push_back(std::move(*bound));
      } else {
        errors.push_back(in_listener(listener.name, bound.error()));
      }
    }
  }
  if (!errors.empty()) close();
  return errors;
}

Result<ListenSockets::Bound> ListenSockets::bind_one(const ListenerPlan& listener,
                                                     const SocketAddress& address,
                                                     uint32_t workers) {
  Bound bound;
  bound.listener = listener.name;
  bound.pool = listener.pool;
  bound.address = address;
  ListenOptions options;
  options.backlog = listener.backlog;
  uint32_t sockets = address.is_unix() ? 1 : workers;
  for (uint32_t i = 0; i < sockets; ++i) {
    Result<UniqueFd> fd = listen_at(bound.address, options);
    if (!fd) return fd.error();
    if (!address.is_unix() && bound.address.port() == 0) {
      Result<SocketAddress> picked = local_address(fd->get());
      if (!picked) return picked.error();
      bound.address = *picked;
    }
    bound.fds.push_back(std::move(*fd));
  }
  if (address.is_unix()) {
    struct stat info {};
    if (lstat(std::string(address.path()).c_str(), &info) == 0) {
      bound.device = info.st_dev;
      bound.inode = info.st_ino;
    }
  }
  GH_LOG(kNotice, "listener {}: listening on {}", listener.name, bound.address.format());
  return bound;
}

std::vector<WorkerSocket> ListenSockets::of_worker(const std::string& pool, uint32_t index) const {
  std::vector<WorkerSocket> listeners;
  for (const Bound& bound : bound_) {
    if (bound.pool != pool) continue;
    size_t which = bound.address.is_unix() ? 0 : index;
    if (which < bound.fds.size()) {
      listeners.push_back({.id = listeners.size() + 1,
                           .listener = bound.listener,
                           .address = bound.address,
                           .fd = bound.fds[which].get()});
    }
  }
  return listeners;
}

size_t ListenSockets::count() const {
  size_t count = 0;
  for (const Bound& bound : bound_) count += bound.fds.size();
  return count;
}

void ListenSockets::close() {
  for (const Bound& bound : bound_) {
    if (!bound.address.is_unix()) continue;
    std::string path(bound.address.path());
    struct stat info {};
    if (lstat(path.c_str(), &info) == 0 && info.st_dev == bound.device &&
        info.st_ino == bound.inode) {
      unlink(path.c_str());
    }
  }
  bound_.clear();
}

}  // namespace gatehouse
