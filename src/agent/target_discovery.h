// TargetDiscovery: the members of each upstream now, put together from where they come from.
//
//   a line with an address         stays with the workers as it is; not a member
//   a line with a name             one member, that line's target; its address follows the name
//     with discover = dns          each of the name's addresses is a member
//     with discover = dns srv      each server of the name's SRV records is one: those of the least
//                                  priority are served, the others are backups
//   discover = file                the members that the file lists
//   discover = api                 those that registered
//
// Members are told once all of an upstream's sources are known: what is still being looked up for
// the first time would look as if it had gone. A new agent begins with the lists that the one
// before has published.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/dns_client.h"
#include "agent/job_thread.h"
#include "agent/member_files.h"
#include "agent/name_watcher.h"
#include "core/event_loop.h"
#include "core/member_lists.h"
#include "core/traffic_plan.h"

namespace gatehouse {

// Puts an upstream's members together; none where a source is not known yet. A pure function.
// `name`: what is known of a name, null where nothing is. `others`: from the file or the
// registrations, null where that is not known yet. `now`: the members that are in force.
std::optional<std::vector<Member>> put_together(
    const PlannedUpstream& upstream,
    const std::function<const NameState*(const WatchedName&)>& name,
    const std::vector<Member>* others, const std::vector<Member>& now);

class TargetDiscovery {
 public:
  struct Settings {
    std::vector<SocketAddress> resolver;
    Duration resolver_stale = std::chrono::hours(1);
  };

  // `changed`: the members of an upstream may be others now.
  TargetDiscovery(EventLoop& loop, JobThread& reading,
                  std::function<void(const std::string&)> changed);
  TargetDiscovery(const TargetDiscovery&) = delete;
  TargetDiscovery& operator=(const TargetDiscovery&) = delete;
  ~TargetDiscovery();

  // From now on the upstreams of this plan. `lists`: what was published so far. Fails where names
  // cannot be looked up at all; files are read all the same.
  Result<void> set(const TrafficPlan& plan, const Settings& settings, const MemberLists& lists);

  // None where they are not known yet, or where the upstream has nothing to discover. `registered`:
  // for discover = api; null where they are not known yet.
  std::optional<std::vector<Member>> members(const PlannedUpstream& upstream,
                                             const std::vector<Member>* registered,
                                             const std::vector<Member>& now) const;

  // Call it about once a second.
  void tick();

  std::vector<std::pair<WatchedName, NameState>> names() const;
  std::vector<std::pair<std::string, MemberFileState>> files() const { return files_.all(); }

 private:
  void set_names(const MemberLists& lists);
  void set_files(const MemberLists& lists);
  void name_changed(const WatchedName& name);
  void file_changed(const std::string& path);

  EventLoop& loop_;
  std::function<void(const std::string&)> changed_;
  Settings settings_;
  std::unique_ptr<DnsClient> dns_;
  std::unique_ptr<NameWatcher> names_;
  MemberFiles files_;
  TrafficPlan plan_;
};

// Whether the upstream has members at all, that workers have to look for.
bool has_members(const PlannedUpstream& upstream);

}  // namespace gatehouse
