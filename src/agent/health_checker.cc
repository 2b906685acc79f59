// See health_checker.h.
#include "agent/health_checker.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace gatehouse {

bool note_answer(HealthRecord& record, const HealthCheck& check, bool good) {
  record.same = good == record.last ? record.same + 1 : 1;
  record.last = good;
  if (!record.up) {
    record.up = good;
    record.against = 0;
    return true;
  }
  if (good == *record.up) {
    record.against = 0;
    return false;
  }
  if (++record.against < (good ? check.rise : check.fall)) return false;
  record.up = good;
  record.against = 0;
  return true;
}

struct HealthChecker::Target {
  HealthChecker* owner = nullptr;
  CheckedTarget what;
  HealthCheck check;
  HealthRecord record;
  TargetHealth health;
  Timer timer;
  uint64_t probe = 0;  // 0: none is under way
  Moment begun{};
  Moment since{};       // of what is known
  uint16_t status = 0;  // of the last answer
};

HealthChecker::HealthChecker(EventLoop& loop, HealthProbes& probes, Owner owner)
    : loop_(loop), probes_(probes), owner_(std::move(owner)), random_(std::random_device()()) {}

HealthChecker::~HealthChecker() {
  clear();
}

void HealthChecker::set(const std::string& upstream, const HealthCheck& check,
                        std::span<const CheckedTarget> targets) {
  auto& known = upstreams_[upstream];
  std::map<std::string, std::unique_ptr<Target>> kept;
  for (const CheckedTarget& what : targets) {
    if (kept.contains(what.name)) continue;
    std::unique_ptr<Target> target;
    if (const auto found = known.find(what.name); found != known.end()) {
      target = std::move(found->second);
      known.erase(found);
    }
    const bool is_new = target == nullptr;
    if (is_new) target = std::make_unique<Target>();
    const bool moved = !is_new && !(target->what.address == what.address);
    const bool changed =
        is_new || moved || !(target->check == check) || target->what.secure != what.secure;
    target->owner = this;
    target->what = what;
    target->check = check;
    target->health.name = what.name;
    target->health.address = what.address.format();
    if (is_new) {
      target->timer.set(
          [](void* self) {
            auto& one = *static_cast<Target*>(self);
            one.owner->due(one);
          },
          target.get());
      const TargetVerdict before = owner_.before(what.name);
      target->since = before.since;
      if (before.state != TargetVerdict::State::kUnknown) {
        target->record.up = before.state == TargetVerdict::State::kUp;
        target->health.since_us = loop_.wall_us() - (loop_.now() - before.since).count();
      }
    }
    // Behind another address is another server.
    if (moved) target->record = {};
    target->record.against = changed ? 0 : target->record.against;
    Target& one = *target;
    kept.emplace(what.name, std::move(target));
    if (!changed) continue;
    if (one.probe != 0) {
      probes_.cancel(std::exchange(one.probe, 0));
      --under_way_;
    }
    due(one);
  }
  // What is left of `known` is named no more.
  for (auto& [name, target] : known) {
    if (target->probe != 0) {
      probes_.cancel(target->probe);
      --under_way_;
    }
    std::erase(waiting_, target.get());
  }
  known = std::move(kept);
  start_waiting();
}

void HealthChecker::keep_only(std::span<const std::string> upstreams) {
  std::vector<std::string> gone;
  for (const auto& [name, targets] : upstreams_) {
    if (std::find(upstreams.begin(), upstreams.end(), name) == upstreams.end()) {
      gone.push_back(name);
    }
  }
  for (const std::string& name : gone) {
    set(name, {}, {});
    upstreams_.erase(name);
  }
}

void HealthChecker::due(Target& target) {
  target.timer.cancel();
  if (target.probe != 0) return;
  if (under_way_ < kChecksAtOnce) return begin(target);
  if (std::find(waiting_.begin(), waiting_.end(), &target) == waiting_.end()) {
    waiting_.push_back(&target);
  }
}

void HealthChecker::begin(Target& target) {
  ++under_way_;
  target.begun = loop_.now();
  target.probe = probes_.start(target.check, target.what.address, target.what.host,
                               target.what.secure, [this, &target](const ProbeOutcome& outcome) {
                                 target.probe = 0;
                                 --under_way_;
                                 answered(target, outcome);
                                 start_waiting();
                               });
}

void HealthChecker::start_waiting() {
  while (under_way_ < kChecksAtOnce && !waiting_.empty()) {
    Target& next = *waiting_.front();
    waiting_.erase(waiting_.begin());
    begin(next);
  }
}

void HealthChecker::answered(Target& target, const ProbeOutcome& outcome) {
  ++(outcome.good ? good_ : bad_);
  ++target.health.checks;
  if (!outcome.good) ++target.health.failures;
  target.health.last_us = loop_.wall_us();
  target.health.error = outcome.why;
  target.status = outcome.status;
  const bool was_known = target.record.up.has_value();
  if (note_answer(target.record, target.check, outcome.good)) {
    target.since = loop_.now();
    target.health.since_us = target.health.last_us;
    if (!outcome.good) {
      GH_LOG(kWarn, "target {} is down: {}", target.what.name, outcome.why);
    } else if (was_known) {
      GH_LOG(kNotice, "target {} is up again", target.what.name);
    } else {
      GH_LOG(kInfo, "target {} is up", target.what.name);
    }
  }
  owner_.tell(target.what.name, verdict_of(target));
  const Moment next = target.begun + pause(target);
  loop_.arm(target.timer, std::max(next, loop_.now()));
}

// The interval, off by a random part of its jitter, so that many checks do not go in step.
Duration HealthChecker::pause(const Target& target) {
  const int64_t every = target.check.every.count();
  const int64_t most = every * target.check.jitter / 10'000;
  if (most == 0) return target.check.every;
  return Duration(every + std::uniform_int_distribution<int64_t>(-most, most)(random_));
}

TargetVerdict HealthChecker::verdict_of(const Target& target) {
  TargetVerdict verdict;
  if (target.record.up) {
    verdict.state = *target.record.up ? TargetVerdict::State::kUp : TargetVerdict::State::kDown;
  }
  verdict.streak = static_cast<uint8_t>(std::min(target.record.same, 255U));
  verdict.status = target.status;
  verdict.since = target.since;
  return verdict;
}

void HealthChecker::tell_all() {
  for (const auto& [upstream, targets] : upstreams_) {
    for (const auto& [name, target] : targets) {
      if (target->record.up) owner_.tell(name, verdict_of(*target));
    }
  }
}

std::vector<TargetHealth> HealthChecker::status() const {
  std::vector<TargetHealth> all;
  for (const auto& [upstream, targets] : upstreams_) {
    for (const auto& [name, target] : targets) {
      all.push_back(target->health);
      all.back().up = target->record.up;
    }
  }
  std::sort(all.begin(), all.end(),
            [](const TargetHealth& a, const TargetHealth& b) { return a.name < b.name; });
  return all;
}

}  // namespace gatehouse
