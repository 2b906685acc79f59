// See name_watcher.h.
#include "agent/name_watcher.h"

#include <algorithm>
#include <utility>

#include "core/config_values.h"
#include "core/log.h"

namespace gatehouse {
namespace {

constexpr uint16_t kDefaultPort = 80;
constexpr Duration kAgainFirst{1000};

std::string what(const WatchedName& name) {
  return (name.srv ? "the SRV records of " : "the name ") + name.text;
}

}  // namespace

struct NameWatcher::Entry : std::enable_shared_from_this<Entry> {
  NameWatcher* owner = nullptr;
  WatchedName name;
  Duration every{0};
  NameState state;
  Timer timer;
  bool asking = false;
  Duration again{0};    // how long the next pause is, after a question without a good answer
  Moment good_until{};  // of the servers, once nobody answers
  bool complained = false;
};

NameWatcher::NameWatcher(EventLoop& loop, DnsClient& dns,
                         std::function<void(const WatchedName&)> changed)
    : loop_(loop), dns_(dns), changed_(std::move(changed)) {}

NameWatcher::~NameWatcher() = default;

void NameWatcher::set(const std::vector<Wish>& wishes, Duration stale) {
  stale_ = stale;
  std::map<WatchedName, std::shared_ptr<Entry>> kept;
  for (const Wish& wish : wishes) {
    std::shared_ptr<Entry>& place = kept[wish.name];
    const bool first = place == nullptr;
    if (first) {
      if (const auto found = entries_.find(wish.name); found != entries_.end()) {
        place = found->second;
      }
    }
    if (place == nullptr) {
      place = std::make_shared<Entry>();
      place->owner = this;
      place->name = wish.name;
      place->state.servers = wish.before;
      place->state.known = !wish.before.empty();
      place->good_until = loop_.now() + stale_;
      place->timer.set(
          [](void* self) {
            auto& entry = *static_cast<Entry*>(self);
            entry.owner->ask(entry);
          },
          place.get());
    }
    // Several upstreams may wish for the same name: the most impatient one counts.
    const Duration every = wish.every.count() == 0 ? kNameTtlMax : wish.every;
    const Duration before =
        std::exchange(place->every, first ? every : std::min(place->every, every));
    const bool sooner = before.count() != 0 && place->every < before;
    if (!place->timer.armed() || sooner) loop_.arm(place->timer, Duration(0));
  }
  entries_ = std::move(kept);
}

void NameWatcher::ask_all() {
  for (const auto& [name, entry] : entries_) loop_.arm(entry->timer, Duration(0));
}

void NameWatcher::ask(Entry& entry) {
  if (entry.asking) return;
  entry.asking = true;
  ++entry.state.questions;
  const std::string& text = entry.name.text;
  const size_t colon = text.rfind(':');
  const std::string host = text.substr(0, colon);
  uint16_t port = kDefaultPort;
  if (colon != std::string::npos) {
    const Result<uint64_t> number = parse_unsigned(text.substr(colon + 1), 65535);
    if (number) port = static_cast<uint16_t>(*number);
  }
  // The entry may be gone when the answer comes.
  DnsClient::Done done = [weak = entry.weak_from_this()](const DnsAnswer& answer) {
    const std::shared_ptr<Entry> found = weak.lock();
    if (found) found->owner->answered(*found, answer);
  };
  if (entry.name.srv) {
    dns_.find_servers(host, std::move(done));
  } else {
    dns_.find_addresses(host, port, std::move(done));
  }
}

void NameWatcher::answered(Entry& entry, const DnsAnswer& answer) {
  entry.asking = false;
  NameState& state = entry.state;
  state.problem = answer.problem;
  const bool was_known = state.known;
  std::vector<FoundServer> before = state.servers;
  Duration pause{0};
  if (answer.kind == DnsAnswer::Kind::kFound) {
    state.servers = answer.servers;
    state.known = true;
    state.answered_us = loop_.wall_us();
    state.problem.clear();
    entry.again = Duration(0);
    pause = std::clamp(std::min(answer.ttl, entry.every), kNameTtlMin, kNameTtlMax);
    entry.good_until = loop_.now() + pause + stale_;
    if (std::exchange(entry.complained, false)) {
      GH_LOG(kNotice, "{} resolves again", what(entry.name));
    }
  } else {
    const bool none = answer.kind == DnsAnswer::Kind::kNone;
    if (none) state.answered_us = loop_.wall_us();
    if (!none) ++state.failures;
    const bool over = none || loop_.now() >= entry.good_until;
    if (over) state.servers.clear();
    // Without anything from before there is nothing to wait for either.
    if (over || state.servers.empty()) state.known = true;
    entry.again = entry.again.count() == 0 ? kAgainFirst : std::min(2 * entry.again, kNameAgainMax);
    pause = std::min(entry.again, entry.every);
    if (!std::exchange(entry.complained, true)) {
      GH_LOG(kWarn, "{} does not resolve{}: {}", what(entry.name),
             state.servers.empty() ? "" : "; the last answer stays for now", answer.problem);
    }
    if (over && !before.empty() && !none) {
      GH_LOG(kWarn, "{} has not been answered for too long: its targets are down",
             what(entry.name));
    }
  }
  loop_.arm(entry.timer, pause);
  if (state.known && (!was_known || before != state.servers)) changed_(entry.name);
}

const NameState* NameWatcher::find(const WatchedName& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second->state;
}

std::vector<std::pair<WatchedName, NameState>> NameWatcher::all() const {
  std::vector<std::pair<WatchedName, NameState>> all;
  for (const auto& [name, entry] : entries_) all.emplace_back(name, entry->state);
  return all;
}

}  // namespace gatehouse
