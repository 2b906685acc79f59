// The thread beside the loop: order, results on the loop, limits, and its end.
#include "agent/job_thread.h"

#include <criterion/criterion.h>

#include <memory>
#include <string>
#include <thread>

namespace gatehouse {
namespace {

struct Stage {
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create());
  std::unique_ptr<JobThread> jobs = std::move(*JobThread::start(*loop));
  void settle() {
    while (!jobs->idle()) loop->turn(true);
  }
};

}  // namespace

Test(job_thread, work_runs_elsewhere_in_order_and_is_reported_here) {
  Stage stage;
  const std::thread::id here = std::this_thread::get_id();
  std::string worked;
  std::string reported;
  for (const char name : {'a', 'b', 'c'}) {
    cr_assert(stage.jobs->run(
        [&worked, name, here] {
          if (std::this_thread::get_id() != here) worked += name;
        },
        [&reported, name, here] {
          if (std::this_thread::get_id() == here) reported += name;
        }));
  }
  cr_assert(!stage.jobs->idle());
  cr_assert_eq(reported, "", "not before a turn of the loop");
  stage.settle();
  cr_assert_eq(worked, "abc");
  cr_assert_eq(reported, "abc");
}

Test(job_thread, a_report_may_ask_for_more_work) {
  Stage stage;
  int rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds < 5) stage.jobs->run([] {}, again);
  };
  stage.jobs->run([] {}, again);
  stage.settle();
  cr_assert_eq(rounds, 5);
}

Test(job_thread, what_waits_is_limited) {
  Stage stage;
  std::mutex gate;
  gate.lock();
  size_t taken = 0;
  while (stage.jobs->run([&gate] { const std::lock_guard<std::mutex> pass(gate); })) ++taken;
  cr_assert_eq(taken, kJobsMax);
  gate.unlock();
  stage.settle();
  cr_assert(stage.jobs->run([] {}));
  stage.settle();
}

Test(job_thread, its_end_waits_for_what_runs_and_drops_what_waits) {
  Stage stage;
  std::atomic<bool> began{false};
  std::atomic<bool> heard{false};
  bool second = false;
  bool reported = false;
  const std::atomic<bool>& cancelled = stage.jobs->cancelled();
  stage.jobs->run(
      [&] {
        began = true;
        while (!cancelled) std::this_thread::yield();
        heard = true;
      },
      [&] { reported = true; });
  stage.jobs->run([&] { second = true; });
  while (!began) std::this_thread::yield();
  stage.jobs.reset();
  cr_assert(heard && !second && !reported);
}

}  // namespace gatehouse
