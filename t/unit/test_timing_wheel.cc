// The timing wheel against a sorted model: never early, never more than a tick late, and next_due
// never later than the first timer's tick, over all four levels and beyond their span.
#include "core/timing_wheel.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace gatehouse {
namespace {

constexpr int64_t kTick = TimingWheel::kTickUs;

// The moment from which on a timer may fire, rounded up to a tick.
int64_t tick_up(int64_t us) {
  return (us + kTick - 1) / kTick * kTick;
}

// A wheel and, beside it, the timers sorted by the moment they must fire at.
struct Model {
  struct Item {
    Model* model = nullptr;
    size_t index = 0;
    int64_t asked = 0;  // what arm was called with
    int64_t due = 0;    // the tick it has to fire in
    bool armed = false;
    std::unique_ptr<Timer> timer;
  };

  explicit Model(int64_t start, size_t count, uint64_t seed)
      : now(start), wheel(Moment{start}), items(count), random(seed) {
    for (size_t i = 0; i < count; ++i) {
      items[i].model = this;
      items[i].index = i;
      renew(items[i]);
    }
  }

  void renew(Item& item) { item.timer = std::make_unique<Timer>(&Model::fire, &item); }

  // Evenly spread over the magnitudes from one microsecond to some 300 hours: past the span.
  int64_t distance(int bits = 40) {
    const auto magnitude = static_cast<int>(random() % static_cast<uint64_t>(bits + 1));
    return static_cast<int64_t>(random() & ((uint64_t{1} << magnitude) - 1));
  }

  void arm(Item& item, int64_t when) {
    if (item.armed) order.erase({item.due, item.index});
    item.asked = when;
    // Within advance() the wheel stands at the tick that it is running.
    item.due = std::max(tick_up(when), (running / kTick + 1) * kTick);
    item.armed = true;
    order.insert({item.due, item.index});
    wheel.arm(*item.timer, Moment{when});
    cr_assert(item.timer->armed());
  }

  void cancel(Item& item) {
    if (item.armed) order.erase({item.due, item.index});
    item.armed = false;
    item.timer->cancel();
    cr_assert_not(item.timer->armed());
  }

  static void fire(void* owner) {
    auto& item = *static_cast<Item*>(owner);
    Model& model = *item.model;
    cr_assert(item.armed, "fired though not armed");
    cr_assert_not(item.timer->armed());
    cr_assert_geq(model.now, item.asked, "fired early");
    cr_assert_eq(model.order.begin()->first, item.due, "fired out of order");
    model.order.erase({item.due, item.index});
    item.armed = false;
    model.running = item.due;
    ++model.fired;
    // What callbacks do: arm themselves or others again, cancel others, go away.
    const uint64_t what = model.random() % 8;
    Item& other = model.items[model.random() % model.items.size()];
    if (what == 0) model.arm(item, model.now + model.distance());
    if (what == 1) model.arm(other, model.now + model.distance());
    if (what == 2) model.cancel(other);
    if (what == 3) model.renew(item);
    if (what == 4 && &other != &item) {
      model.cancel(other);
      model.renew(other);
    }
    if (what == 5) model.arm(item, item.due);
  }

  void advance(int64_t to) {
    now = to;
    wheel.advance(Moment{to});
    running = to;
    if (!order.empty()) {
      cr_assert_gt(order.begin()->first, now / kTick * kTick, "more than a tick late");
    }
  }

  void check_next_due() {
    const Moment due = wheel.next_due();
    if (order.empty()) {
      cr_assert_eq(due.us, TimingWheel::kNever.us);
      return;
    }
    cr_assert_leq(due.us, order.begin()->first, "next_due is late");
    cr_assert_gt(due.us, now / kTick * kTick, "next_due is in the past");
  }

  int64_t now;
  int64_t running = now;
  uint64_t fired = 0;
  TimingWheel wheel;
  std::vector<Item> items;
  std::set<std::pair<int64_t, size_t>> order;
  std::mt19937_64 random;
};

void random_walk(uint64_t seed, int steps, bool by_next_due) {
  Model model(static_cast<int64_t>(seed) * 7'777'777'777, 300, seed);
  for (int step = 0; step < steps; ++step) {
    Model::Item& item = model.items[model.random() % model.items.size()];
    const uint64_t what = model.random() % 10;
    if (what < 5) {
      model.arm(item, model.now + model.distance());
    } else if (what < 7) {
      model.cancel(item);
    } else if (by_next_due) {
      // As the loop does it: to the moment that the wheel asks for, and not a tick further.
      const Moment due = model.wheel.next_due();
      if (due.us != TimingWheel::kNever.us) model.advance(due.us);
    } else {
      const bool far = model.random() % 256 == 0;
      model.advance(model.now + model.distance(far ? 39 : 28));
    }
    model.check_next_due();
  }
  cr_assert_gt(model.fired, 1000u);
}

Test(timing_wheel, agrees_with_a_sorted_model_at_random) {
  random_walk(1, 200'000, false);
}

Test(timing_wheel, agrees_with_a_sorted_model_when_driven_by_next_due) {
  random_walk(2, 200'000, true);
}

// Around every boundary of a level, from every kind of offset to begin with.
Test(timing_wheel, fires_in_the_very_tick_at_the_boundaries_of_levels) {
  constexpr int64_t kBoundaries[] = {1, 64, 4096, 64 * 4096, 4096 * 4096, 2 * 4096 * 4096 + 64};
  constexpr int64_t kOffsets[] = {0, 1, 62, 63, 64, 4095, 4096, 64 * 4096 - 1, 4096 * 4096 - 1};
  for (const int64_t offset : kOffsets) {
    for (const int64_t boundary : kBoundaries) {
      for (int64_t shift = -1; shift <= 1; ++shift) {
        const int64_t ticks = boundary + shift;
        if (ticks <= 0) continue;
        TimingWheel wheel(Moment{offset * kTick});
        int count = 0;
        Timer timer([](void* fired) { ++*static_cast<int*>(fired); }, &count);
        wheel.arm(timer, Moment{(offset + ticks) * kTick});
        int rounds = 0;
        for (;;) {
          const Moment due = wheel.next_due();
          cr_assert_leq(due.us, (offset + ticks) * kTick);
          wheel.advance(Moment{due.us - 1});
          cr_assert_eq(count, 0);
          wheel.advance(due);
          cr_assert_leq(++rounds, 70);
          if (due.us == (offset + ticks) * kTick) break;
          cr_assert_eq(count, 0, "fired early");
        }
        cr_assert_eq(count, 1);
        cr_assert_eq(wheel.next_due().us, TimingWheel::kNever.us);
      }
    }
  }
}

Test(timing_wheel, one_leap_over_everything_fires_all_in_order) {
  TimingWheel wheel(Moment{123'456});
  struct Probe {
    std::vector<int>* log;
    int number;
  };
  std::vector<int> log;
  std::vector<Probe> probes;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 30; ++i) probes.push_back({&log, i});
  for (int i = 0; i < 30; ++i) {
    timers.push_back(std::make_unique<Timer>(
        [](void* owner) {
          const auto& probe = *static_cast<Probe*>(owner);
          probe.log->push_back(probe.number);
        },
        &probes[static_cast<size_t>(i)]));
  }
  for (int i = 29; i >= 0; --i) {
    wheel.arm(*timers[static_cast<size_t>(i)], Moment{123'456 + (int64_t{20'000} << i) / 16});
  }
  wheel.advance(Moment{int64_t{20'000} << 26});
  cr_assert_eq(log.size(), 30u);
  // Those below a tick share one, in the order of their arming; from there on by moment.
  cr_assert(std::is_sorted(log.begin() + 5, log.end()));
}

Test(timing_wheel, a_moment_at_the_end_of_time_never_comes) {
  TimingWheel wheel(Moment{0});
  int count = 0;
  Timer timer([](void* fired) { ++*static_cast<int*>(fired); }, &count);
  wheel.arm(timer, TimingWheel::kNever);
  wheel.advance(Moment{int64_t{1} << 38});
  cr_assert_eq(count, 0);
  cr_assert(timer.armed());
}

Test(timing_wheel, its_end_disarms_what_is_left) {
  Timer timer([](void*) {}, nullptr);
  {
    TimingWheel wheel(Moment{0});
    wheel.arm(timer, Moment{5'000'000});
    cr_assert(timer.armed());
  }
  cr_assert_not(timer.armed());
  timer.cancel();
}

// A callback may cancel, or destroy, the timer that stands next in its own slot.
Test(timing_wheel, a_callback_may_take_its_neighbours_away) {
  struct Group {
    std::unique_ptr<Timer> timers[3];
    int fired = 0;
  } group;
  TimingWheel wheel(Moment{0});
  for (auto& timer : group.timers) {
    timer = std::make_unique<Timer>(
        [](void* owner) {
          auto& all = *static_cast<Group*>(owner);
          ++all.fired;
          for (auto& each : all.timers) each.reset();
        },
        &group);
    wheel.arm(*timer, Moment{100'000});
  }
  wheel.advance(Moment{1'000'000});
  cr_assert_eq(group.fired, 1);
}

}  // namespace
}  // namespace gatehouse
