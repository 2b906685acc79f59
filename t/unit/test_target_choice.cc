// Choosing among targets without policy, and sets that are replaced at run time.
#include "http/target_choice.h"

#include <criterion/criterion.h>

#include <memory>
#include <string>
#include <vector>

#include "http/exchange.h"
#include "http/target_states.h"
#include "http/upstream.h"

namespace {

using namespace gatehouse;

// An upstream with the targets "a", "b", … of the given weights, bound to a loop of its own.
struct Bound {
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<TargetStates> states;
  SeriesCells cells;
  UpstreamConf conf;
  Upstream upstream;
  std::unique_ptr<Exchange> exchange;

  explicit Bound(const std::vector<uint32_t>& weights) {
    loop = std::move(*EventLoop::create());
    states = std::make_unique<TargetStates>(*loop);
    exchange = std::make_unique<Exchange>();
    upstream.name = "users";
    upstream.plain = true;
    upstream.conf = &conf;
    for (size_t i = 0; i < weights.size(); ++i) {
      add(upstream.configured, std::string(1, static_cast<char>('a' + i)), weights[i]);
    }
  }
  ~Bound() {
    upstream.discovered.reset();
    for (const UpstreamTarget& target : upstream.configured.targets) {
      states->release(*target.state);
    }
  }

  void add(TargetSet& set, const std::string& name, uint32_t weight) {
    UpstreamTarget target;
    target.name = target.address_text = name;
    target.weight = weight;
    target.cells = &cells;
    target.state = &states->hold(name, target, nullptr);
    set.targets.push_back(std::move(target));
  }

  // Replaces the targets; each name has the weight 1.
  void discover(const std::vector<std::string>& names) {
    auto* set = new TargetSet(*states);
    for (const std::string& name : names) add(*set, name, 1);
    upstream.discovered = TargetSetRef(*set);
  }

  std::string next(ChoiceContext& context) {
    const Choice choice = choose_target(upstream, context);
    return choice.lease ? choice.lease.target().name : "-";
  }
  std::string next() {
    ChoiceContext context(*exchange);
    return next(context);
  }
  std::string row(int count) {
    std::string names;
    for (int i = 0; i < count; ++i) names += next();
    return names;
  }
};

}  // namespace

Test(target_choice, spreads_by_weight) {
  Bound bound({5, 1, 1});
  cr_assert_eq(bound.row(7), "aabacaa");
  cr_assert_eq(bound.row(7), "aabacaa");
}

Test(target_choice, leaves_out_what_was_tried_and_what_has_no_address) {
  Bound bound({1, 1, 1});
  bound.upstream.configured.targets[1].resolved = false;
  ChoiceContext context(*bound.exchange);
  Choice first = choose_target(bound.upstream, context);
  cr_assert_eq(first.lease.target().name, "a");
  context.mark_tried(first.lease);
  Choice second = choose_target(bound.upstream, context);
  cr_assert_eq(second.lease.target().name, "c");
  context.mark_tried(second.lease);
  const Choice third = choose_target(bound.upstream, context);
  cr_assert_not(third.lease);
  cr_assert_eq(third.why, Reason::kNoTarget);
  context.forget_tried();
  cr_assert_neq(bound.next(context), "-");
}

Test(target_choice, a_plain_upstream_has_one_or_none) {
  Bound bound({1});
  ChoiceContext context(*bound.exchange);
  Choice choice = choose_target(bound.upstream, context);
  cr_assert_eq(choice.lease.target().name, "a");
  context.mark_tried(choice.lease);
  cr_assert_eq(bound.next(context), "-");
  bound.upstream.configured.targets[0].resolved = false;
  cr_assert_eq(bound.next(), "-");
}

Test(target_choice, a_new_set_takes_over_and_the_old_one_lives_while_it_is_used) {
  Bound bound({1, 1});
  cr_assert_eq(bound.row(1), "a");
  bound.discover({"a", "b", "c"});
  // Where a and b stood is where they stand now.
  cr_assert_eq(bound.row(3), "bca");
  ChoiceContext context(*bound.exchange);
  Choice held = choose_target(bound.upstream, context);
  bound.exchange->set_target(held.lease);
  const std::string name = held.lease.target().name;
  context.mark_tried(held.lease);
  bound.discover({"b", "a"});
  bound.loop->turn(false);
  cr_assert_eq(bound.states->size(), 3u, "c is of a set that is held");
  cr_assert_eq(held.lease.target().name, name);
  // What was tried in the old set is not tried again in the new one.
  for (int i = 0; i < 4; ++i) cr_assert_neq(bound.next(context), name);
  held.lease.end();
  context.set.reset();
  bound.loop->turn(false);
  cr_assert_eq(bound.exchange->target->name, name, "the exchange holds it too");
  bound.exchange->reset();
  bound.loop->turn(false);
  cr_assert_eq(bound.states->size(), 2u);
}

Test(target_choice, an_empty_set_has_no_target) {
  Bound bound({1, 1});
  bound.discover({});
  cr_assert_eq(bound.next(), "-");
}
