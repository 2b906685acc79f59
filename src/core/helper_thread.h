// HelperThread: one thread beside the loop, for work that would hold the loop up.
//
// A job runs on the thread, then its done() on the loop, in the order in which jobs were posted;
// the loop learns of it by an eventfd. The thread has a lower priority than the loop (nice), blocks
// all signals, and sleeps while there is nothing to do. What a job touches belongs to it alone from
// post() until done(): that hand-over is the only synchronisation there is.
//
// Leaves out: cancelling (a job that may become useless looks at a flag of its own), and more than
// one thread.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "core/event_loop.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

class HelperThread {
 public:
  class Job {
   public:
    virtual ~Job() = default;
    virtual void run() = 0;   // on the thread
    virtual void done() = 0;  // on the loop; the job is destroyed after it
  };

  // `poked` is called on the loop in the turn after poke(); null where nobody pokes.
  using PokeCallback = void (*)(void* owner);

  // Fails where the system has no thread or descriptor to give.
  static Result<std::unique_ptr<HelperThread>> start(EventLoop& loop, PokeCallback poked,
                                                     void* owner);
  // Waits for the job that runs. Jobs whose done() did not run are destroyed here, on the loop's
  // thread, without it.
  ~HelperThread();
  HelperThread(const HelperThread&) = delete;
  HelperThread& operator=(const HelperThread&) = delete;

  void post(std::unique_ptr<Job> job);
  // Destroys the jobs that have not begun.
  void drop_waiting();
  // Work of the loop that goes on in its next turn, after other events had theirs.
  void poke();

 private:
  HelperThread(EventLoop& loop, PokeCallback poked, void* owner)
      : loop_(loop), poked_(poked), owner_(owner) {}
  Result<void> open();
  static void* enter(void* self);
  static void on_ready(void* self, uint8_t);
  void work();
  void wake_loop();
  void finish_jobs();

  EventLoop& loop_;
  PokeCallback poked_;
  void* owner_;
  UniqueFd event_;
  Watch watch_;
  bool poke_pending_ = false;  // the loop's own
  pthread_t thread_{};
  bool started_ = false;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wanted_;
  std::deque<std::unique_ptr<Job>> waiting_;
  std::deque<std::unique_ptr<Job>> finished_;
  bool ending_ = false;
};

}  // namespace gatehouse
