// NameWatcher: what host names mean now, asked again when the answer's TTL is over.
//
// A name that does not exist, or has no address, means nothing from then on: its targets are down.
// Where nobody can say (the resolver does not answer, or fails), the last answer stays good for
// `stale` longer, since a resolver that is away says nothing about the servers; then it means
// nothing, too. Both are asked again soon, and said once in the log.
//
// An answer is used for a second at least and an hour at most, whatever its TTL says.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/dns_client.h"
#include "core/event_loop.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr Duration kNameTtlMin = std::chrono::seconds(1);
inline constexpr Duration kNameTtlMax = std::chrono::hours(1);
inline constexpr Duration kNameAgainMax = std::chrono::seconds(5);

struct WatchedName {
  std::string text;  // HOST[:PORT]; port 80 where none is written
  bool srv = false;  // its SRV records are meant; the port is theirs
  friend auto operator<=>(const WatchedName&, const WatchedName&) = default;
};

struct NameState {
  bool known = false;  // an answer came, or somebody knew one
  std::vector<FoundServer> servers;
  uint64_t questions = 0;
  uint64_t failures = 0;    // without an answer
  int64_t answered_us = 0;  // wall clock: of the last answer
  std::string problem;      // of the last question; empty where it went well
};

class NameWatcher {
 public:
  // `changed` is told of each name whose servers have changed or are known now.
  NameWatcher(EventLoop& loop, DnsClient& dns, std::function<void(const WatchedName&)> changed);
  NameWatcher(const NameWatcher&) = delete;
  NameWatcher& operator=(const NameWatcher&) = delete;
  ~NameWatcher();

  struct Wish {
    WatchedName name;
    Duration every{0};  // asks at least so often; 0: as the TTL says
    // What is known of it from before, used until there is an answer.
    std::vector<FoundServer> before;
  };
  // From now on these names, and no others. `stale`: see above.
  void set(const std::vector<Wish>& wishes, Duration stale);
  // Asks all of them now: there is another resolver.
  void ask_all();

  // Null for a name that is not watched.
  const NameState* find(const WatchedName& name) const;
  std::vector<std::pair<WatchedName, NameState>> all() const;

 private:
  struct Entry;
  void ask(Entry& entry);
  void answered(Entry& entry, const DnsAnswer& answer);

  EventLoop& loop_;
  DnsClient& dns_;
  std::function<void(const WatchedName&)> changed_;
  Duration stale_ = std::chrono::hours(1);
  std::map<WatchedName, std::shared_ptr<Entry>> entries_;
};

}  // namespace gatehouse
