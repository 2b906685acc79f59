// See target_discovery.h.
#include "agent/target_discovery.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

WatchedName watched(const PlannedUpstream& upstream, const PlannedTarget& line) {
  return {line.text, upstream.discover.kind == Discovery::Kind::kSrv};
}

bool expands(const PlannedUpstream& upstream) {
  return upstream.discover.kind == Discovery::Kind::kDns ||
         upstream.discover.kind == Discovery::Kind::kSrv;
}

// One address for a line that is one target: the one that it has, as long as the name still means
// it; or else the first, IPv4 before IPv6.
SocketAddress choose_one(const std::vector<FoundServer>& servers, uint64_t source,
                         const std::vector<Member>& now) {
  for (const Member& member : now) {
    if (member.source != source || !member.is_line) continue;
    for (const FoundServer& server : servers) {
      if (server.address == member.address) return server.address;
    }
  }
  for (const FoundServer& server : servers) {
    if (server.address.family() == AF_INET) return server.address;
  }
  return servers.front().address;
}

void add_servers(std::vector<Member>& members, const PlannedUpstream& upstream,
                 const PlannedTarget& line, const std::vector<FoundServer>& servers) {
  const bool srv = upstream.discover.kind == Discovery::Kind::kSrv;
  uint16_t least = UINT16_MAX;
  uint32_t heaviest = 1;
  for (const FoundServer& server : servers) {
    least = std::min(least, server.priority);
    heaviest = std::max<uint32_t>(heaviest, server.weight);
  }
  for (const FoundServer& server : servers) {
    Member member;
    member.address = server.address;
    member.source = member_source(line.text);
    member.weight = line.weight;
    if (srv) {
      // SRV weights go up to 65535; what matters is how they compare.
      const uint32_t scaled =
          heaviest > kMemberWeightMax ? server.weight * kMemberWeightMax / heaviest : server.weight;
      member.weight = std::max(scaled, 1U);
      member.backup = server.priority > least;
    }
    members.push_back(std::move(member));
  }
}

}  // namespace

bool has_members(const PlannedUpstream& upstream) {
  return upstream.discover.kind != Discovery::Kind::kNone ||
         std::any_of(upstream.targets.begin(), upstream.targets.end(),
                     [](const PlannedTarget& line) { return line.address.is_none(); });
}

std::optional<std::vector<Member>> put_together(
    const PlannedUpstream& upstream,
    const std::function<const NameState*(const WatchedName&)>& name,
    const std::vector<Member>* others, const std::vector<Member>& now) {
  std::vector<Member> all;
  for (const PlannedTarget& line : upstream.targets) {
    if (!line.address.is_none()) continue;
    const NameState* state = name(watched(upstream, line));
    if (state == nullptr || !state->known) return std::nullopt;
    if (state->servers.empty()) continue;
    if (expands(upstream)) {
      add_servers(all, upstream, line, state->servers);
      continue;
    }
    Member member;
    member.source = member_source(line.text);
    member.is_line = true;
    member.weight = line.weight;
    member.address = choose_one(state->servers, member.source, now);
    all.push_back(std::move(member));
  }
  const auto kind = upstream.discover.kind;
  if (kind == Discovery::Kind::kFile || kind == Discovery::Kind::kApi) {
    if (others == nullptr) return std::nullopt;
    all.insert(all.end(), others->begin(), others->end());
  }
  // A server that two sources name is one target, and one that a line names is that line's.
  std::vector<Member> once;
  for (Member& member : all) {
    if (!member.is_line) {
      const auto same = [&member](const auto& other) { return other.address == member.address; };
      if (std::any_of(once.begin(), once.end(), same) ||
          std::any_of(upstream.targets.begin(), upstream.targets.end(), same)) {
        continue;
      }
    }
    once.push_back(std::move(member));
  }
  return once;
}

TargetDiscovery::TargetDiscovery(EventLoop& loop, JobThread& reading,
                                 std::function<void(const std::string&)> changed)
    : loop_(loop),
      changed_(std::move(changed)),
      files_(loop, reading, [this](const std::string& path) { file_changed(path); }) {}

TargetDiscovery::~TargetDiscovery() = default;

Result<void> TargetDiscovery::set(const TrafficPlan& plan, const Settings& settings,
                                  const MemberLists& lists) {
  plan_ = plan;
  if (dns_ == nullptr || settings_.resolver != settings.resolver) {
    names_.reset();
    dns_.reset();
    Result<std::unique_ptr<DnsClient>> dns = DnsClient::create(loop_, settings.resolver);
    if (dns) {
      dns_ = std::move(*dns);
      names_ = std::make_unique<NameWatcher>(
          loop_, *dns_, [this](const WatchedName& name) { name_changed(name); });
    } else {
      set_files(lists);
      return dns.error();
    }
  }
  settings_ = settings;
  set_names(lists);
  set_files(lists);
  return {};
}

void TargetDiscovery::set_names(const MemberLists& lists) {
  std::vector<NameWatcher::Wish> wishes;
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    if (!has_members(upstream)) continue;
    MemberHandle handle{upstream.name};
    const Result<MemberList> list = lists.read(handle);
    for (const PlannedTarget& line : upstream.targets) {
      if (!line.address.is_none()) continue;
      NameWatcher::Wish wish;
      wish.name = watched(upstream, line);
      wish.every = upstream.discover.every;
      const uint64_t source = member_source(line.text);
      if (list && list->known) {
        for (const Member& member : list->members) {
          if (member.source != source) continue;
          const auto priority = static_cast<uint16_t>(member.backup ? 1 : 0);
          wish.before.push_back({member.address, priority, static_cast<uint16_t>(member.weight)});
        }
      } else if (!line.last_known.is_none()) {
        wish.before.push_back({line.last_known, 0, 0});
      }
      wishes.push_back(std::move(wish));
    }
  }
  names_->set(wishes, settings_.resolver_stale);
}

void TargetDiscovery::set_files(const MemberLists& lists) {
  std::vector<MemberFiles::Wish> wishes;
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    if (upstream.discover.kind != Discovery::Kind::kFile) continue;
    MemberFiles::Wish wish;
    wish.path = upstream.discover.path;
    wish.every = upstream.discover.every;
    MemberHandle handle{upstream.name};
    const Result<MemberList> list = lists.read(handle);
    if (list && list->known) {
      wish.has_before = true;
      for (const Member& member : list->members) {
        if (member.source == 0) wish.before.push_back(member);
      }
    }
    wishes.push_back(std::move(wish));
  }
  files_.set(wishes);
}

std::optional<std::vector<Member>> TargetDiscovery::members(const PlannedUpstream& upstream,
                                                            const std::vector<Member>* registered,
                                                            const std::vector<Member>& now) const {
  const std::vector<Member>* others = registered;
  if (upstream.discover.kind == Discovery::Kind::kFile) {
    const MemberFileState* file = files_.find(upstream.discover.path);
    others = file != nullptr && file->known ? &file->members : nullptr;
  }
  const auto name = [this](const WatchedName& wanted) {
    return names_ ? names_->find(wanted) : nullptr;
  };
  return put_together(upstream, name, others, now);
}

void TargetDiscovery::tick() {
  if (dns_) dns_->look_at_system();
}

void TargetDiscovery::name_changed(const WatchedName& name) {
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    const bool uses = std::any_of(
        upstream.targets.begin(), upstream.targets.end(), [&](const PlannedTarget& line) {
          return line.address.is_none() && watched(upstream, line) == name;
        });
    if (uses) changed_(upstream.name);
  }
}

void TargetDiscovery::file_changed(const std::string& path) {
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    if (upstream.discover.kind == Discovery::Kind::kFile && upstream.discover.path == path) {
      changed_(upstream.name);
    }
  }
}

std::vector<std::pair<WatchedName, NameState>> TargetDiscovery::names() const {
  return names_ ? names_->all() : std::vector<std::pair<WatchedName, NameState>>();
}

}  // namespace gatehouse
