// Dropping privileges in a worker. See process_privileges.h.
#include "core/process_privileges.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <memory>
#include <optional>

#include "core/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define GH_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(leak_sanitizer)
#define GH_SANITIZED 1
#endif
#endif

namespace gatehouse {
namespace {

struct CapFree {
  void operator()(_cap_struct* set) const { cap_free(set); }
};
using Capabilities = std::unique_ptr<_cap_struct, CapFree>;

// A decimal id; the highest is reserved ("no change" to the system calls).
std::optional<uint32_t> parse_id(const std::string& text) {
  uint32_t id = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (problem != std::errc{} || end != text.data() + text.size() || id == UINT32_MAX) {
    return std::nullopt;
  }
  return id;
}

Result<gid_t> resolve_group(const std::string& name) {
  errno = 0;
  if (const group* found = getgrnam(name.c_str()); found != nullptr) return found->gr_gid;
  if (std::optional<uint32_t> id = parse_id(name)) return gid_t{*id};
  if (errno != 0 && errno != ENOENT) return errno_error("cannot look up group " + name, errno);
  return Error{fmt::format("group '{}' does not exist on this machine", name)};
}

std::vector<gid_t> groups_of(const std::string& user, gid_t group) {
  std::vector<gid_t> groups(16);
  int count = static_cast<int>(groups.size());
  while (getgrouplist(user.c_str(), group, groups.data(), &count) < 0) {
    // The list may grow between two calls, and some libraries do not tell by how much.
    groups.resize(std::max(static_cast<size_t>(std::max(count, 0)), groups.size() * 2));
    count = static_cast<int>(groups.size());
  }
  groups.resize(static_cast<size_t>(count));
  return groups;
}

Result<void> change_user(const RunAs& run_as) {
  if (setgroups(run_as.groups.size(), run_as.groups.data()) < 0) {
    return errno_error("cannot set the supplementary groups", errno);
  }
  if (setresgid(run_as.group, run_as.group, run_as.group) < 0) {
    return errno_error(fmt::format("cannot change to group {}", run_as.group), errno);
  }
  if (setresuid(run_as.user, run_as.user, run_as.user) < 0) {
    return errno_error(fmt::format("cannot change to user {}", run_as.name), errno);
  }
  return {};
}

// Asks the kernel what we are now, instead of believing that each call did what it said.
Result<void> verify_user(const RunAs& run_as) {
  uid_t real_user, user, saved_user;
  gid_t real_group, group, saved_group;
  if (getresuid(&real_user, &user, &saved_user) < 0 ||
      getresgid(&real_group, &group, &saved_group) < 0) {
    return errno_error("cannot ask who this process is", errno);
  }
  if (real_user != run_as.user || user != run_as.user || saved_user != run_as.user ||
      real_group != run_as.group || group != run_as.group || saved_group != run_as.group) {
    return Error{fmt::format("the process is not wholly user {} after the change", run_as.name)};
  }
  if (run_as.user != 0 && setresuid(0, 0, 0) == 0) {
    return Error{"the process could become root again after the change"};
  }
  return {};
}

Result<void> drop_capabilities() {
  Capabilities none(cap_init());
  if (!none || cap_set_proc(none.get()) < 0) return errno_error("cannot drop capabilities", errno);
  Capabilities now(cap_get_proc());
  if (!now || cap_compare(now.get(), none.get()) != 0) {
    return Error{"the process kept capabilities after they were dropped"};
  }
  return {};
}

}  // namespace

Result<RunAs> resolve_run_as(const std::string& user, const std::string& group) {
  RunAs run_as;
  run_as.user = geteuid();
  run_as.group = getegid();
  run_as.name = fmt::format("{}", run_as.user);
  if (geteuid() != 0) {
    if (!user.empty()) {
      GH_LOG(kNotice, "not started as root: the workers run as user {}, `user` has no effect",
             run_as.user);
    }
    return run_as;
  }
  if (user.empty()) {
    GH_LOG(kWarn, "no `user` is set: the workers run as root");
    return run_as;
  }
  errno = 0;
  const passwd* found = getpwnam(user.c_str());
  std::optional<uint32_t> id;
  if (found == nullptr) {
    id = parse_id(user);
    if (!id && errno != 0 && errno != ENOENT)
      return errno_error("cannot look up user " + user, errno);
    if (!id) return Error{fmt::format("user '{}' does not exist on this machine", user)};
    found = getpwuid(*id);
  }
  run_as.change = true;
  run_as.name = user;
  run_as.user = found != nullptr ? found->pw_uid : *id;
  if (found != nullptr) run_as.group = found->pw_gid;
  std::string account = found != nullptr ? found->pw_name : "";
  if (!group.empty()) {
    Result<gid_t> resolved = resolve_group(group);
    if (!resolved) return resolved.error();
    run_as.group = *resolved;
  } else if (found == nullptr) {
    return Error{fmt::format("user {} has no account on this machine: set `group` too", user)};
  }
  run_as.groups =
      account.empty() ? std::vector<gid_t>{run_as.group} : groups_of(account, run_as.group);
  if (run_as.user == 0) GH_LOG(kWarn, "`user` is root: the workers run as root");
  return run_as;
}

Result<void> drop_privileges(const RunAs& run_as) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return errno_error("cannot forbid new privileges", errno);
  }
  if (run_as.change) {
    // The bounding set needs CAP_SETPCAP, which goes with the user; a container may withhold it,
    // and with no_new_privs nothing can be gained from that set anyway.
    for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap) {
      prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    if (Result<void> changed = change_user(run_as); !changed) return changed;
    if (Result<void> verified = verify_user(run_as); !verified) return verified;
  }
  bool stays_root = geteuid() == 0;
  if (!stays_root) {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (Result<void> dropped = drop_capabilities(); !dropped) return dropped;
  }
  // Other processes of the same user may not read a worker's memory. The leak checker of a
  // sanitizer build does just that.
#if defined(GH_SANITIZED)
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
#else
  if (run_as.change && !stays_root) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
  return {};
}

uint32_t raise_descriptor_limit(uint32_t wanted) {
  rlimit limit{};
  auto bounded = [](rlim_t value) {
    return static_cast<uint32_t>(std::min<rlim_t>(value, std::numeric_limits<int>::max()));
  };
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
    GH_LOG(kWarn, "cannot ask for the descriptor limit: {}", std::strerror(errno));
    return 0;
  }
  if (limit.rlim_cur >= wanted) return bounded(limit.rlim_cur);
  rlimit raised{.rlim_cur = wanted, .rlim_max = std::max<rlim_t>(limit.rlim_max, wanted)};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return wanted;
  raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
  uint32_t got = bounded(setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur);
  if (got < wanted) {
    GH_LOG(kWarn,
           "the descriptor limit is {}, {} would be needed: raise it with `ulimit -n` or "
           "LimitNOFILE",
           got, wanted);
  }
  return got;
}

}  // namespace gatehouse
