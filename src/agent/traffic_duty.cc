// See traffic_duty.h.
#include "agent/traffic_duty.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/format.h"
#include "core/log.h"

namespace gatehouse {
namespace {

constexpr Duration kLookForDuty{100};
constexpr Duration kTellAgain{250};

nlohmann::json member_json(const Member& member) {
  return {
      {"address", member.address.format()}, {"weight", member.weight}, {"backup", member.backup},
      {"version", member.version},          {"tags", member.tags},     {"line", member.is_line}};
}

}  // namespace

TrafficDuty::TrafficDuty(EventLoop& loop, SharedMemory& shared) : loop_(loop), shared_(shared) {
  timer_.set([](void* self) { static_cast<TrafficDuty*>(self)->turn(); }, this);
}

TrafficDuty::~TrafficDuty() = default;

Result<std::unique_ptr<TrafficDuty>> TrafficDuty::create(EventLoop& loop, SharedMemory& shared) {
  std::unique_ptr<TrafficDuty> duty(new TrafficDuty(loop, shared));
  Result<std::unique_ptr<HealthProbes>> probes = HealthProbes::create(loop);
  if (!probes) return probes.error();
  duty->probes_ = std::move(*probes);
  HealthChecker::Owner owner;
  owner.tell = [self = duty.get()](const std::string& target, TargetVerdict verdict) {
    self->tell(target, verdict);
  };
  owner.before = [self = duty.get()](const std::string& target) { return self->before(target); };
  duty->checker_ = std::make_unique<HealthChecker>(loop, *duty->probes_, std::move(owner));
  Result<std::unique_ptr<JobThread>> reading = JobThread::start(loop);
  if (!reading) return reading.error();
  duty->reading_ = std::move(*reading);
  duty->discovery_ = std::make_unique<TargetDiscovery>(
      loop, *duty->reading_, [self = duty.get()](const std::string& upstream) {
        if (const PlannedUpstream* planned = self->find(upstream)) self->update(*planned);
      });
  duty->registrations_ = std::make_unique<Registrations>(
      loop, *duty->reading_, [self = duty.get()](const std::string& upstream) {
        if (upstream.empty()) return self->update_registering();
        if (const PlannedUpstream* planned = self->find(upstream)) self->update(*planned);
      });
  return duty;
}

void TrafficDuty::serve(TrafficPlan plan, TargetDiscovery::Settings settings,
                        const std::string& state) {
  state_ = state;
  plan_ = std::move(plan);
  settings_ = std::move(settings);
  applied_ = false;
  turn();
}

void TrafficDuty::turn() {
  // An agent that has nothing to do makes no zone, and never gets in another one's way.
  if (!on_duty_ && !plan_.upstreams.empty()) {
    if (!lists_) {
      Result<MemberLists> lists = MemberLists::open(shared_, plan_.capacity);
      if (lists) {
        lists_ = *lists;
      } else if (problem_ != lists.error().message) {
        problem_ = lists.error().message;
        GH_LOG(kError, "no health checks, no discovery: {}", problem_);
      }
    }
    on_duty_ = lists_ && lists_->claim_writing(shared_);
    if (on_duty_) GH_LOG(kInfo, "checking and discovering targets");
  }
  if (on_duty_ && !applied_) apply();
  if (on_duty_) {
    checker_->tell_all();
    discovery_->tick();
  }
  loop_.arm(timer_, on_duty_ ? kTellAgain : kLookForDuty);
}

void TrafficDuty::apply() {
  applied_ = true;
  std::vector<std::string> checked;
  std::vector<std::string> discovered;
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    if (upstream.health.kind != HealthCheck::Kind::kNone) checked.push_back(upstream.name);
    if (has_members(upstream)) discovered.push_back(upstream.name);
  }
  checker_->keep_only(checked);
  const Result<void> set = discovery_->set(plan_, settings_, *lists_);
  if (!set) GH_LOG(kError, "{}", set.error().message);
  // Read by whoever is on duty, so that it has what the one before was told last.
  if (!registering_upstreams().empty()) registrations_->open(state_);
  lists_->keep_only(discovered);
  std::erase_if(members_, [&discovered](const auto& entry) {
    return std::find(discovered.begin(), discovered.end(), entry.first) == discovered.end();
  });
  for (const PlannedUpstream& upstream : plan_.upstreams) update(upstream);
}

const PlannedUpstream* TrafficDuty::find(const std::string& upstream) const {
  const auto found =
      std::find_if(plan_.upstreams.begin(), plan_.upstreams.end(),
                   [&upstream](const PlannedUpstream& one) { return one.name == upstream; });
  return found == plan_.upstreams.end() ? nullptr : &*found;
}

// Publishes the upstream's members, where they are known, and has its targets checked.
void TrafficDuty::update(const PlannedUpstream& upstream) {
  if (!on_duty_) return;
  std::vector<Member>& members = members_[upstream.name];
  if (has_members(upstream)) {
    std::optional<std::vector<Member>> fresh =
        discovery_->members(upstream, registrations_->members(upstream.name), members);
    if (fresh) {
      members = std::move(*fresh);
      publish(upstream, members);
    }
  }
  watch(upstream, members);
}

void TrafficDuty::publish(const PlannedUpstream& upstream, const std::vector<Member>& members) {
  const Result<MemberLists::Published> published = lists_->publish(upstream.name, members);
  if (!published) {
    GH_LOG(kError, "discovery: {}", published.error().message);
    return;
  }
  const size_t before = std::exchange(left_out_[upstream.name], published->left_out);
  if (published->left_out > 0 && before == 0) {
    GH_LOG(kError, "upstream {} has {} targets, {} too many: discovered_targets is {}",
           upstream.name, members.size(), published->left_out, lists_->capacity().members);
  }
  if (!published->changed) return;
  ++published_;
  GH_LOG(kNotice, "upstream {} has {} discovered targets now", upstream.name, members.size());
}

void TrafficDuty::watch(const PlannedUpstream& upstream, const std::vector<Member>& members) {
  if (upstream.health.kind == HealthCheck::Kind::kNone) return;
  std::vector<CheckedTarget> targets;
  for (const PlannedTarget& target : upstream.targets) {
    if (target.address.is_none()) continue;
    const std::string host = target.address.is_unix() ? "localhost" : target.text;
    targets.push_back({upstream.name + "/" + target.text, target.address, host, target.secure});
  }
  for (const Member& member : members) {
    const auto line = std::find_if(
        upstream.targets.begin(), upstream.targets.end(), [&member](const PlannedTarget& one) {
          return member.source != 0 && member_source(one.text) == member.source;
        });
    const std::string address = member.address.format();
    const std::string host = line != upstream.targets.end() ? line->text
                             : member.address.is_unix()     ? "localhost"
                                                            : address;
    const bool is_line = member.is_line && line != upstream.targets.end();
    const bool secure =
        line != upstream.targets.end() ? line->secure : upstream.health.transport.secure;
    targets.push_back(
        {upstream.name + "/" + (is_line ? line->text : address), member.address, host, secure});
  }
  checker_->set(upstream.name, upstream.health, targets);
}

// ---- Registrations
// -------------------------------------------------------------------------------

void TrafficDuty::update_registering() {
  for (const std::string& upstream : registering_upstreams()) {
    if (const PlannedUpstream* planned = find(upstream)) update(*planned);
  }
}

std::vector<std::string> TrafficDuty::registering_upstreams() const {
  std::vector<std::string> names;
  for (const PlannedUpstream& upstream : plan_.upstreams) {
    if (upstream.discover.kind == Discovery::Kind::kApi) names.push_back(upstream.name);
  }
  return names;
}

std::string TrafficDuty::why_no_registrations(const std::string& upstream) const {
  const PlannedUpstream* planned = find(upstream);
  if (planned != nullptr && planned->discover.kind == Discovery::Kind::kApi) return {};
  return "there is no [upstream " + upstream + "] with discover = api";
}

std::vector<Registration> TrafficDuty::registered(const std::string& upstream) const {
  return registrations_->list(upstream);
}

void TrafficDuty::put_registration(Registration registration, const ApiDone& done) {
  registrations_->put(std::move(registration), lists_->capacity().members,
                      [done](Result<Registrations::Outcome> outcome) {
                        if (!outcome) return done({507, {{"error", outcome.error().message}}});
                        nlohmann::json body = registration_json(outcome->registration);
                        body["kept"] = outcome->kept;
                        done({outcome->created ? 201 : 200, std::move(body)});
                      });
}

void TrafficDuty::remove_registration(const std::string& upstream, const SocketAddress& address,
                                      const ApiDone& done) {
  registrations_->remove(upstream, address,
                         [done, text = address.format()](const Result<bool>& was_there) {
                           if (!was_there)
                             return done({507, {{"error", was_there.error().message}}});
                           if (!*was_there)
                             return done({404, {{"error", text + " is not registered"}}});
                           done({200, {{"removed", true}}});
                         });
}

// ---- Verdicts -----------------------------------------------------------------------------------

// Made by the workers, who know how large it shall be.
TrafficTable* TrafficDuty::table() {
  if (table_) return table_.get();
  const std::vector<ZoneInfo> zones = shared_.zones();
  const bool there = std::any_of(zones.begin(), zones.end(), [](const ZoneInfo& zone) {
    return zone.name == "traffic.rows" && !zone.retired;
  });
  if (!there) return nullptr;
  Result<std::unique_ptr<TrafficTable>> opened = TrafficTable::open(shared_);
  if (!opened) {
    GH_LOG(kError, "health checks: {}", opened.error().message);
    return nullptr;
  }
  table_ = std::move(*opened);
  return table_.get();
}

void TrafficDuty::tell(const std::string& target, TargetVerdict verdict) {
  TrafficTable* rows = table();
  if (rows == nullptr) return;
  const std::optional<uint32_t> index = rows->find(TrafficKind::kTarget, target);
  if (!index) return;  // no worker names it yet; tell_all() comes again
  std::atomic<uint64_t>& word = rows->row(*index).health;
  const uint64_t packed = verdict.pack();
  if (word.load(std::memory_order_relaxed) != packed) {
    word.store(packed, std::memory_order_release);
  }
}

TargetVerdict TrafficDuty::before(const std::string& target) {
  TrafficTable* rows = table();
  if (rows == nullptr) return {};
  const std::optional<uint32_t> index = rows->find(TrafficKind::kTarget, target);
  if (!index) return {};
  return TargetVerdict::unpack(rows->row(*index).health.load(std::memory_order_relaxed));
}

// ---- What it tells ------------------------------------------------------------------------------

std::string TrafficDuty::metrics() const {
  fmt::memory_buffer text;
  const auto to = std::back_inserter(text);
  fmt::format_to(to,
                 "# HELP gatehouse_agent_health_checks_total Health checks, by their result.\n"
                 "# TYPE gatehouse_agent_health_checks_total counter\n"
                 "gatehouse_agent_health_checks_total{{result=\"good\"}} {}\n"
                 "gatehouse_agent_health_checks_total{{result=\"bad\"}} {}\n",
                 checker_->checks_good(), checker_->checks_bad());
  size_t up = 0;
  size_t down = 0;
  for (const TargetHealth& target : checker_->status()) {
    if (target.up) ++(*target.up ? up : down);
  }
  fmt::format_to(to,
                 "# HELP gatehouse_agent_checked_targets Targets that are checked, by what the "
                 "checks say.\n"
                 "# TYPE gatehouse_agent_checked_targets gauge\n"
                 "gatehouse_agent_checked_targets{{state=\"up\"}} {}\n"
                 "gatehouse_agent_checked_targets{{state=\"down\"}} {}\n",
                 up, down);
  uint64_t questions = 0;
  uint64_t failures = 0;
  for (const auto& [name, state] : discovery_->names()) {
    questions += state.questions;
    failures += state.failures;
  }
  size_t members = 0;
  for (const auto& [upstream, list] : members_) members += list.size();
  fmt::format_to(to,
                 "# HELP gatehouse_agent_name_lookups_total Questions to DNS servers, of the names "
                 "in use.\n"
                 "# TYPE gatehouse_agent_name_lookups_total counter\n"
                 "gatehouse_agent_name_lookups_total {}\n"
                 "# HELP gatehouse_agent_name_failures_total Those that nobody answered.\n"
                 "# TYPE gatehouse_agent_name_failures_total counter\n"
                 "gatehouse_agent_name_failures_total {}\n"
                 "# HELP gatehouse_agent_discovered_targets Targets that were discovered.\n"
                 "# TYPE gatehouse_agent_discovered_targets gauge\n"
                 "gatehouse_agent_discovered_targets {}\n"
                 "# HELP gatehouse_agent_registered_targets Registrations.\n"
                 "# TYPE gatehouse_agent_registered_targets gauge\n"
                 "gatehouse_agent_registered_targets {}\n"
                 "# HELP gatehouse_agent_discovery_changes_total Lists of targets that were "
                 "published.\n"
                 "# TYPE gatehouse_agent_discovery_changes_total counter\n"
                 "gatehouse_agent_discovery_changes_total {}\n",
                 questions, failures, members, registrations_->size(), published_);
  return fmt::to_string(text);
}

nlohmann::json TrafficDuty::status() const {
  nlohmann::json targets = nlohmann::json::array();
  for (const TargetHealth& target : checker_->status()) {
    targets.push_back({{"target", target.name},
                       {"address", target.address},
                       {"state", !target.up   ? "unknown"
                                 : *target.up ? "up"
                                              : "down"},
                       {"checks", target.checks},
                       {"failures", target.failures},
                       {"since_us", target.since_us},
                       {"last_us", target.last_us},
                       {"error", target.error}});
  }
  nlohmann::json names = nlohmann::json::array();
  for (const auto& [name, state] : discovery_->names()) {
    nlohmann::json addresses = nlohmann::json::array();
    for (const FoundServer& server : state.servers) addresses.push_back(server.address.format());
    names.push_back({{"name", name.text},
                     {"srv", name.srv},
                     {"known", state.known},
                     {"addresses", std::move(addresses)},
                     {"questions", state.questions},
                     {"answered_us", state.answered_us},
                     {"error", state.problem}});
  }
  nlohmann::json files = nlohmann::json::array();
  for (const auto& [path, state] : discovery_->files()) {
    files.push_back({{"file", path},
                     {"known", state.known},
                     {"targets", state.members.size()},
                     {"read_us", state.read_us},
                     {"error", state.problem}});
  }
  nlohmann::json upstreams = nlohmann::json::object();
  for (const auto& [upstream, members] : members_) {
    nlohmann::json list = nlohmann::json::array();
    for (const Member& member : members) list.push_back(member_json(member));
    upstreams[upstream] = std::move(list);
  }
  return {
      {"on_duty", on_duty_},
      {"error", on_duty_ ? std::string() : problem_},
      {"health", std::move(targets)},
      {"names", std::move(names)},
      {"files", std::move(files)},
      {"registrations", {{"count", registrations_->size()}, {"error", registrations_->problem()}}},
      {"members", std::move(upstreams)}};
}

}  // namespace gatehouse
