// Choosing a target for a try; see target_choice.h.
#include "http/target_choice.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "http/balancer.h"
#include "http/exchange.h"
#include "http/member_targets.h"
#include "http/peak_latency.h"
#include "http/sticky_cookie.h"
#include "http/target_fitness.h"
#include "http/target_states.h"
#include "http/upstream.h"

namespace gatehouse {

namespace {

// How often a place is asked for anew where another worker may just have taken one back.
constexpr int kPlaceTries = 4;

bool shares_load(BalanceMethod method) {
  return method == BalanceMethod::kLeastConn || method == BalanceMethod::kLeastTime;
}

// The first 64 bits of an IPv6 address: what one household or host has.
uint64_t key_of_client(const IpAddress& address) {
  const std::span<const uint8_t> bytes = address.bytes();
  return hash_key({reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 8)});
}

}  // namespace

class TargetChooser {
 public:
  TargetChooser(const Upstream& upstream, ChoiceContext& context)
      : upstream_(upstream), conf_(*upstream.conf), context_(context) {
    follow_set();
    const bool breaks = upstream.policy != nullptr && upstream.policy->conf->breaker.rules.any();
    if (breaks) breaker_ = &upstream.policy->conf->breaker.rules;
  }

  Choice choose(bool waited);

 private:
  // Those of the primaries, or of the backups, that may be chosen.
  enum class Group : uint8_t { kPrimary, kBackup };

  TargetSet& set() const { return *context_.set; }
  bool was_tried(size_t i) const { return i < 64 && (context_.tried >> i & 1) != 0; }
  void follow_set();
  UpstreamTarget* choose_plain();
  UpstreamTarget* sole_target();
  Choice choose_sticky();
  bool collect(Group group);
  void collect_ejected();
  void add_candidate(size_t i);
  Choice choose_candidate();
  size_t pick();
  bool find_key();
  bool take_place(UpstreamTarget& target);
  bool count_in(UpstreamTarget& target);
  BreakerCells breaker_cells(const UpstreamTarget& target) const;
  Choice lease(UpstreamTarget& target);
  Choice none() const;

  const Upstream& upstream_;
  const UpstreamConf& conf_;
  ChoiceContext& context_;
  TargetStates* states_ = nullptr;
  FitnessView view_;
  const BreakerRules* breaker_ = nullptr;  // of the targets; null: they have none
  BreakerPass pass_;                       // of the one whose place was taken
  bool open_ = false;                      // one was left out by its breaker
  bool waited_ = false;                    // it is the first of the queue
  bool busy_ = false;                      // one was left out because it has its fill
  bool keep_cookie_ = false;               // its target is only busy
};

// Chooses from the set of this moment; what was tried of another one is left out here too.
void TargetChooser::follow_set() {
  if (upstream_.members != nullptr) upstream_.members->follow();
  TargetSet& now = upstream_.targets();
  TargetSet* const before = context_.set.get();
  if (before == &now) return;
  if (before != nullptr && context_.tried != 0) {
    uint64_t tried = 0;
    for (size_t i = 0; i < now.targets.size() && i < 64; ++i) {
      for (size_t j = 0; j < before->targets.size() && j < 64; ++j) {
        const bool same = now.targets[i].state == before->targets[j].state;
        if (same && (context_.tried >> j & 1) != 0) tried |= uint64_t{1} << i;
      }
    }
    context_.tried = tried;
  }
  context_.set = TargetSetRef(now);
}

Choice TargetChooser::choose(bool waited) {
  waited_ = waited;
  if (upstream_.plain) {
    UpstreamTarget* const target = choose_plain();
    return target != nullptr ? lease(*target) : Choice{};
  }
  states_ = &upstream_.state->states();
  view_.now_ms = static_cast<uint64_t>(upstream_.state->loop().now().us / 1000);
  view_.verdicts = upstream_.checked && states_->verdicts_count();
  if (!waited && !upstream_.state->queue().empty()) {
    busy_ = true;
    return none();
  }
  if (conf_.balance.method == BalanceMethod::kSticky) {
    Choice sticky = choose_sticky();
    if (sticky.lease) return sticky;
  } else if (UpstreamTarget* const only = sole_target(); only != nullptr && take_place(*only)) {
    return lease(*only);
  }
  std::vector<Candidate>& candidates = states_->candidates();
  candidates.clear();
  const bool some_ejected = collect(Group::kPrimary);
  Choice choice = choose_candidate();
  if (choice.lease || (busy_ && conf_.queue != 0)) return choice;
  collect(Group::kBackup);
  choice = choose_candidate();
  if (choice.lease || !some_ejected) return choice;
  collect_ejected();
  return choose_candidate();
}

// Without rows: by turns, mostly of one.
UpstreamTarget* TargetChooser::choose_plain() {
  std::vector<UpstreamTarget>& targets = set().targets;
  if (targets.size() == 1) {
    return targets[0].resolved && !was_tried(0) ? &targets[0] : nullptr;
  }
  int64_t total = 0;
  UpstreamTarget* best = nullptr;
  for (size_t i = 0; i < targets.size(); ++i) {
    UpstreamTarget& target = targets[i];
    if (!target.resolved || was_tried(i)) continue;
    total += target.weight;
    target.state->position += target.weight;
    if (best == nullptr || target.state->position > best->state->position) best = &target;
  }
  if (best != nullptr) best->state->position -= total;
  return best;
}

// Where there is one target, and nothing keeps it out, there is nothing to choose among. Null: the
// whole choice has to be made.
UpstreamTarget* TargetChooser::sole_target() {
  std::vector<UpstreamTarget>& targets = set().targets;
  if (targets.size() != 1 || was_tried(0)) return nullptr;
  UpstreamTarget& target = targets[0];
  const bool fit = target.resolved && admin_of(*target.row) == TargetAdmin::kNormal &&
                   !is_down(*target.row, view_) && !is_ejected(*target.row, view_);
  return fit ? &target : nullptr;
}

// The target that the client's cookie names, if it may have it.
Choice TargetChooser::choose_sticky() {
  const std::optional<uint64_t> id =
      find_sticky_cookie(context_.exchange.request.fields, conf_.balance.cookie);
  if (!id) return {};
  std::vector<UpstreamTarget>& targets = set().targets;
  for (size_t i = 0; i < targets.size(); ++i) {
    UpstreamTarget& target = targets[i];
    if (target.sticky_id != *id) continue;
    if (!target.resolved || was_tried(i) || admin_of(*target.row) == TargetAdmin::kDisabled ||
        is_down(*target.row, view_) || is_ejected(*target.row, view_)) {
      return {};
    }
    if (take_place(target)) return lease(target);
    keep_cookie_ = busy_;
    return {};
  }
  return {};
}

// Adds the candidates of the group. True where some were left out because they are ejected.
bool TargetChooser::collect(Group group) {
  const std::vector<UpstreamTarget>& targets = set().targets;
  size_t total = 0;
  size_t healthy = 0;
  size_t left_out = 0;
  size_t ejected = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const UpstreamTarget& target = targets[i];
    if (target.backup != (group == Group::kBackup)) continue;
    if (admin_of(*target.row) != TargetAdmin::kNormal) continue;
    ++total;
    if (!target.resolved) continue;
    const bool down = is_down(*target.row, view_);
    const bool out = is_ejected(*target.row, view_);
    if (!down && !out) {
      ++healthy;
      if (!was_tried(i)) add_candidate(i);
    } else if (!was_tried(i)) {
      ++left_out;
      if (!down) ++ejected;
    }
  }
  if (left_out == 0 || healthy * 10'000 >= conf_.panic.hundredths * total) return ejected != 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const UpstreamTarget& target = targets[i];
    if (target.backup != (group == Group::kBackup)) continue;
    if (!target.resolved || was_tried(i)) continue;
    if (admin_of(*target.row) != TargetAdmin::kNormal) continue;
    if (is_down(*target.row, view_) || is_ejected(*target.row, view_)) add_candidate(i);
  }
  return false;
}

// Nothing else is left: whoever is only ejected is better than nobody.
void TargetChooser::collect_ejected() {
  const std::vector<UpstreamTarget>& targets = set().targets;
  for (size_t i = 0; i < targets.size(); ++i) {
    const UpstreamTarget& target = targets[i];
    if (!target.resolved || was_tried(i) || is_down(*target.row, view_)) continue;
    if (admin_of(*target.row) != TargetAdmin::kNormal) continue;
    if (is_ejected(*target.row, view_)) add_candidate(i);
  }
}

void TargetChooser::add_candidate(size_t i) {
  const UpstreamTarget& target = set().targets[i];
  if (breaker_ != nullptr &&
      breaker_look(breaker_cells(target), *breaker_, view_.now_ms) == BreakerVerdict::kRefuse) {
    open_ = true;
    return;
  }
  Candidate candidate;
  candidate.index = static_cast<uint32_t>(i);
  candidate.weight = weight_now(target, static_cast<uint64_t>(conf_.slow_start.count()), view_);
  candidate.position = &target.state->position;
  candidate.seed = target.seed;
  if (shares_load(conf_.balance.chooser()) || conf_.balance.bound_percent != 0) {
    candidate.load = states_->table()->sum(target.row_index, &TrafficCell::in_flight);
  }
  if (conf_.balance.chooser() == BalanceMethod::kLeastTime) {
    candidate.latency_us =
        peak_latency(target.row->latency.load(std::memory_order_relaxed), view_.now_ms);
  }
  states_->candidates().push_back(candidate);
}

// The balancer's choice of those that have a place to give.
Choice TargetChooser::choose_candidate() {
  std::vector<Candidate>& candidates = states_->candidates();
  while (!candidates.empty()) {
    const size_t picked = candidates.size() == 1 ? 0 : pick();
    UpstreamTarget& target = set().targets[candidates[picked].index];
    if (take_place(target)) {
      if (conf_.balance.method == BalanceMethod::kSticky && !keep_cookie_) {
        set_sticky_cookie(context_.exchange, conf_.balance, target.sticky_id,
                          context_.sticky_field);
      }
      return lease(target);
    }
    candidates.erase(candidates.begin() + static_cast<std::ptrdiff_t>(picked));
  }
  return none();
}

size_t TargetChooser::pick() {
  const std::vector<Candidate>& candidates = states_->candidates();
  switch (conf_.balance.chooser()) {
    case BalanceMethod::kLeastConn:
      return pick_least_conn(candidates);
    case BalanceMethod::kLeastTime:
      return pick_least_time(candidates, states_->dice().next());
    case BalanceMethod::kHash:
    case BalanceMethod::kClientAddress:
      // A request without a key may go anywhere.
      if (find_key()) return pick_hash(candidates, context_.key, conf_.balance.bound_percent);
      return pick_round_robin(candidates);
    default:
      return pick_round_robin(candidates);
  }
}

bool TargetChooser::find_key() {
  using KeyState = ChoiceContext::KeyState;
  if (context_.key_state == KeyState::kUnknown) {
    context_.key_state = KeyState::kKnown;
    if (conf_.balance.method == BalanceMethod::kClientAddress) {
      const IpAddress& address = context_.exchange.client_address;
      if (address.is_none()) context_.key_state = KeyState::kAbsent;
      context_.key = key_of_client(address);
    } else {
      fmt::memory_buffer text;
      conf_.balance.key.render(context_.exchange, TextEscape::kNone, text);
      if (text.size() == 0) context_.key_state = KeyState::kAbsent;
      context_.key = hash_key({text.data(), text.size()});
    }
  }
  return context_.key_state == KeyState::kKnown;
}

BreakerCells TargetChooser::breaker_cells(const UpstreamTarget& target) const {
  return {states_->table(), target.row_index, target.row, target.state->cell()};
}

// Counts the try as in flight; false where the target has its fill or its breaker says no.
bool TargetChooser::take_place(UpstreamTarget& target) {
  if (!count_in(target)) return false;
  if (breaker_ == nullptr) return true;
  BreakerChange change;
  pass_ = breaker_admit(breaker_cells(target), *breaker_, view_.now_ms, change);
  log_breaker_change(target.name, change);
  if (pass_.verdict != BreakerVerdict::kRefuse) return true;
  open_ = true;
  target.state->cell()->in_flight.fetch_sub(1, std::memory_order_seq_cst);
  return false;
}

bool TargetChooser::count_in(UpstreamTarget& target) {
  TargetState& state = *target.state;
  if (target.max_connections == 0) {
    std::atomic<uint32_t>& own = state.cell()->in_flight;
    own.store(own.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return true;
  }
  TrafficTable& table = *states_->table();
  for (int i = 0; i < kPlaceTries; ++i) {
    if (table.add_below(states_->worker_row(), target.row_index, &TrafficCell::in_flight,
                        target.max_connections)) {
      return true;
    }
    // Two that asked at once for the last place are both refused: it is still there then.
    if (table.sum(target.row_index, &TrafficCell::in_flight) >= target.max_connections) break;
  }
  busy_ = true;
  return false;
}

Choice TargetChooser::lease(UpstreamTarget& target) {
  Choice choice;
  choice.lease.upstream_ = &upstream_;
  choice.lease.target_ = &target;
  choice.lease.set_ = context_.set;
  if (!upstream_.plain) {
    choice.lease.state_ = target.state;
    choice.lease.pass_ = pass_;
    ++target.state->leases_;
  }
  return choice;
}

Choice TargetChooser::none() const {
  Choice choice;
  if (busy_) {
    choice.why = Reason::kTargetsBusy;
    choice.busy = waited_ || upstream_.state->queue().size() < conf_.queue;
  } else if (open_) {
    choice.why = Reason::kCircuitOpen;
  }
  return choice;
}

void ChoiceContext::mark_tried(const TargetLease& lease) {
  if (&lease.set() != set.get()) return;
  const auto i = static_cast<size_t>(&lease.target() - set->targets.data());
  if (i < 64) tried |= uint64_t{1} << i;
}

Choice choose_target(const Upstream& upstream, ChoiceContext& context) {
  return TargetChooser(upstream, context).choose(false);
}

Choice choose_waiting(const Upstream& upstream, ChoiceContext& context) {
  return TargetChooser(upstream, context).choose(true);
}

}  // namespace gatehouse
