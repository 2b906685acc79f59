// Task, AnyDone and Done without a loop: a gate that the test opens stands for everything awaited.
//
// Covers results, laziness, the order of destruction, the stack of loops over tasks that do not
// wait, and cancelling three nested tasks and a race of two at every suspension.
#include "core/task.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gatehouse {
namespace {

// Something to wait for. An awaiter leaves the list in its destructor, as those of the code do.
class Gate {
 public:
  class Awaiter {
   public:
    explicit Awaiter(Gate& gate) : gate_(gate) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter() { std::erase(gate_.waiting_, handle_); }
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      handle_ = handle;
      gate_.waiting_.push_back(handle);
    }
    void await_resume() const {}

   private:
    Gate& gate_;
    std::coroutine_handle<> handle_;
  };
  Awaiter pass() { return Awaiter(*this); }
  // Lets the one through that has waited longest.
  void open() {
    const std::coroutine_handle<> handle = waiting_.front();
    waiting_.erase(waiting_.begin());
    handle.resume();
  }
  size_t waiting() const { return waiting_.size(); }

 private:
  std::vector<std::coroutine_handle<>> waiting_;
};

// A local that writes its name when its frame goes.
struct Mark {
  std::string* log;
  char name;
  Mark(std::string& to, char letter) : log(&to), name(letter) {}
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  ~Mark() { log->push_back(name); }
};

Task<int> immediately(int value) {
  co_return value;
}

Task<int> after(Gate& gate, int value) {
  co_await gate.pass();
  co_return value;
}

Task<> set_flag(bool& flag) {
  flag = true;
  co_return;
}

Test(task, does_not_begin_before_it_is_started) {
  bool began = false;
  Task<> task = set_flag(began);
  cr_assert_not(began);
  cr_assert_not(task.done());
  task.start();
  cr_assert(began);
  cr_assert(task.done());
  Task<> never_started = set_flag(began);
  cr_assert(static_cast<bool>(never_started));
  never_started.cancel();
  cr_assert_not(static_cast<bool>(never_started));
  never_started.cancel();
}

Task<std::unique_ptr<int>> make_pointer(Gate& gate) {
  co_await gate.pass();
  co_return std::make_unique<int>(41);
}

Task<std::unique_ptr<int>> add_to_pointer(Task<std::unique_ptr<int>> from) {
  std::unique_ptr<int> value = co_await from;
  ++*value;
  co_return value;
}

Test(task, hands_over_a_result_that_can_only_be_moved) {
  Gate gate;
  Task<std::unique_ptr<int>> task = add_to_pointer(make_pointer(gate));
  task.start();
  cr_assert_not(task.done());
  gate.open();
  cr_assert(task.done());
  cr_assert_eq(*task.take(), 42);
}

Task<int> sum_of_six(Gate& at) {
  int total = 0;
  for (int i = 0; i < 6; ++i) {
    int value = 0;
    if (i % 2 == 0) {
      value = co_await immediately(i);
    } else {
      value = co_await after(at, i);
    }
    total += value;
  }
  co_return total;
}

Test(task, awaits_mix_of_waiting_and_ready_tasks) {
  Gate gate;
  Task<int> task = sum_of_six(gate);
  task.start();
  for (int i = 0; i < 3; ++i) {
    cr_assert_not(task.done());
    cr_assert_eq(gate.waiting(), 1u);
    gate.open();
  }
  cr_assert(task.done());
  cr_assert_eq(task.take(), 15);
}

uintptr_t lowest = 0;
uintptr_t highest = 0;

// The machine's stack: locals of a coroutine live in its frame, those of others may be moved by
// the sanitizers.
__attribute__((noinline)) void note_stack() {
  const auto address = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  lowest = std::min(lowest, address);
  highest = std::max(highest, address);
}

void begin_noting_stack() {
  lowest = highest = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
}

Task<int> ready_and_noted(int value) {
  note_stack();
  co_return value;
}

Task<int> loop_over_ready(int rounds) {
  int total = 0;
  for (int i = 0; i < rounds; ++i) {
    const int value = co_await ready_and_noted(1);
    total += value;
  }
  co_return total;
}

// Symptom: a loop over tasks that need not wait ran out of stack in builds below -O2 and under the
// sanitizers. Cause: each await was a symmetric transfer, which g++ only sometimes makes a jump.
Test(task, a_loop_over_ready_tasks_needs_no_more_stack) {
  begin_noting_stack();
  Task<int> task = loop_over_ready(20'000);
  task.start();
  cr_assert_eq(task.take(), 20'000);
  cr_assert_lt(highest - lowest, 16u * 1024, "the stack grew by %zu", size_t{highest - lowest});
}

Task<int> loop_over_waits(Gate& at, int rounds) {
  int total = 0;
  for (int i = 0; i < rounds; ++i) {
    const int value = co_await after(at, 1);
    const int more = co_await ready_and_noted(1);
    total += value + more;
  }
  co_return total;
}

Test(task, many_waits_one_after_the_other_need_no_more_stack) {
  Gate gate;
  begin_noting_stack();
  Task<int> task = loop_over_waits(gate, 5'000);
  task.start();
  while (!task.done()) gate.open();
  cr_assert_eq(task.take(), 10'000);
  cr_assert_lt(highest - lowest, 16u * 1024);
}

Task<int> third(Gate& gate, std::string& log) {
  Mark mark(log, '3');
  co_await gate.pass();
  co_await gate.pass();
  co_return 3;
}

Task<int> second(Gate& gate, std::string& log) {
  Mark mark(log, '2');
  co_await gate.pass();
  const int inner = co_await third(gate, log);
  co_await gate.pass();
  co_return inner * 2;
}

Task<int> first(Gate& gate, std::string& log) {
  Mark mark(log, '1');
  const int inner = co_await second(gate, log);
  co_await gate.pass();
  co_return inner + 1;
}

Test(task, cancels_three_deep_at_every_suspension_innermost_first) {
  const std::string expected[] = {"21", "321", "321", "321", "321"};
  for (unsigned opened = 0;; ++opened) {
    Gate gate;
    std::string log;
    Task<int> task = first(gate, log);
    task.start();
    for (unsigned i = 0; i < opened; ++i) gate.open();
    if (task.done()) {
      cr_assert_eq(opened, 5u);
      cr_assert_eq(task.take(), 7);
      break;
    }
    cr_assert_eq(gate.waiting(), 1u);
    task.cancel();
    cr_assert_eq(gate.waiting(), 0u);
    cr_assert_str_eq(log.c_str(), expected[opened].c_str());
  }
}

Test(task, assignment_cancels_what_was_there) {
  Gate gate;
  std::string log;
  Task<int> task = third(gate, log);
  task.start();
  task = after(gate, 9);
  cr_assert_str_eq(log.c_str(), "3");
  cr_assert_eq(gate.waiting(), 0u);
  task.start();
  Task<int> moved = std::move(task);
  cr_assert_not(static_cast<bool>(task));
  gate.open();
  cr_assert(moved.done());
  cr_assert_eq(moved.take(), 9);
}

// Waits for either, then leaves the other behind, which scope exit cancels.
Task<int> race(Gate& left, Gate& right) {
  Task<int> a = after(left, 1);
  Task<int> b = after(right, 2);
  a.start();
  b.start();
  co_await any_done(a, b);
  int won = 0;
  if (a.done()) won += a.take();
  if (b.done()) won += b.take() * 10;
  co_return won;
}

Test(task, any_done_goes_on_with_whoever_is_first) {
  for (const bool left_first : {true, false}) {
    Gate left;
    Gate right;
    Task<int> task = race(left, right);
    task.start();
    cr_assert_not(task.done());
    (left_first ? left : right).open();
    cr_assert(task.done());
    cr_assert_eq(task.take(), left_first ? 1 : 20);
    cr_assert_eq(left.waiting() + right.waiting(), 0u);
  }
}

Task<bool> ready_and_waiting(Gate& gate) {
  Task<int> a = after(gate, 1);
  Task<int> b = immediately(2);
  a.start();
  b.start();
  co_await any_done(a, b);
  const bool only_b = !a.done() && b.done();
  co_await done(a);
  co_await done(b);
  co_return only_b&& a.take() == 1 && b.take() == 2;
}

Test(task, any_done_does_not_wait_for_what_is_done) {
  Gate gate;
  Task<bool> task = ready_and_waiting(gate);
  task.start();
  cr_assert_not(task.done());
  gate.open();
  cr_assert(task.done());
  cr_assert(task.take());
}

Task<int> race_again(Gate& one, Gate& two, Gate& three) {
  Task<int> a = after(one, 1);
  Task<int> b = after(two, 2);
  a.start();
  b.start();
  co_await any_done(a, b);
  if (!a.done() || b.done()) co_return -1;
  a = after(three, 3);
  a.start();
  co_await any_done(a, b);
  if (a.done() || !b.done()) co_return -2;
  co_await done(a);
  co_return a.take() + b.take();
}

Test(task, any_done_can_be_awaited_again_with_the_loser) {
  Gate one;
  Gate two;
  Gate three;
  Task<int> task = race_again(one, two, three);
  task.start();
  one.open();
  cr_assert_not(task.done());
  two.open();
  cr_assert_not(task.done());
  three.open();
  cr_assert(task.done());
  cr_assert_eq(task.take(), 5);
}

Task<> wait_for_either(Task<int>& a, Task<int>& b) {
  co_await any_done(a, b);
}

Task<> wait_for_one(Task<int>& a) {
  co_await done(a);
}

// A task that is waited for may finish after the waiter was cancelled: it resumes nobody.
Test(task, a_cancelled_waiter_is_not_resumed) {
  Gate gate;
  Task<int> a = after(gate, 1);
  Task<int> b = after(gate, 2);
  a.start();
  b.start();
  Task<> waiter = wait_for_either(a, b);
  waiter.start();
  waiter.cancel();
  gate.open();
  cr_assert(a.done());
  waiter = wait_for_one(b);
  waiter.start();
  waiter.cancel();
  gate.open();
  cr_assert(b.done());
  cr_assert_eq(a.take() + b.take(), 3);
}

Task<int> two_races(Gate& left, Gate& right) {
  const int won = co_await race(left, right);
  const int again = co_await race(right, left);
  co_return won + again;
}

Task<int> races_and_more(Gate& left, Gate& right) {
  const int value = co_await two_races(left, right);
  co_await left.pass();
  co_return value;
}

Test(task, a_race_inside_nested_tasks_cancels_at_every_suspension) {
  for (unsigned opened = 0;; ++opened) {
    Gate left;
    Gate right;
    Task<int> task = races_and_more(left, right);
    task.start();
    for (unsigned i = 0; i < opened; ++i) left.open();
    if (task.done()) {
      cr_assert_eq(opened, 3u);
      cr_assert_eq(task.take(), 21);
      break;
    }
    task.cancel();
    cr_assert_eq(left.waiting() + right.waiting(), 0u);
  }
}

}  // namespace
}  // namespace gatehouse
