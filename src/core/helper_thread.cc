// A thread for slow work; see helper_thread.h.
#include "core/helper_thread.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace gatehouse {
namespace {

// The loop goes first where both want the processor, but not by so much that a reload takes ages
// on a busy machine (at 10 it took four times as long as at 5).
constexpr int kNice = 5;

}  // namespace

Result<std::unique_ptr<HelperThread>> HelperThread::start(EventLoop& loop, PokeCallback poked,
                                                          void* owner) {
  std::unique_ptr<HelperThread> helper(new HelperThread(loop, poked, owner));
  if (Result<void> opened = helper->open(); !opened) return opened.error();
  return helper;
}

Result<void> HelperThread::open() {
  event_ = UniqueFd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!event_) return errno_error("cannot make an eventfd", errno);
  const Result<void> watched =
      watch_.open(loop_, event_.get(), WatchMode::kLevel, &HelperThread::on_ready, this);
  if (!watched) return watched.error();
  // The new thread inherits the mask: a signal meant for the process is the loop's to take.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&thread_, nullptr, &HelperThread::enter, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return errno_error("cannot start a thread", error);
  started_ = true;
  return {};
}

HelperThread::~HelperThread() {
  if (!started_) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  wanted_.notify_one();
  pthread_join(thread_, nullptr);
}

void HelperThread::post(std::unique_ptr<Job> job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  wanted_.notify_one();
}

void HelperThread::drop_waiting() {
  std::deque<std::unique_ptr<Job>> dropped;
  const std::lock_guard<std::mutex> lock(mutex_);
  dropped.swap(waiting_);
}

void HelperThread::poke() {
  poke_pending_ = true;
  wake_loop();
}

void* HelperThread::enter(void* self) {
  pthread_setname_np(pthread_self(), "helper");
  // A lower priority is always granted; on Linux it is the thread's own.
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  static_cast<HelperThread*>(self)->work();
  return nullptr;
}

void HelperThread::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wanted_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    std::unique_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job->run();
    lock.lock();
    finished_.push_back(std::move(job));
    wake_loop();
  }
}

void HelperThread::wake_loop() {
  const uint64_t one = 1;
  // The only failure there can be is a counter that is full, and then the loop is awake already.
  (void)!write(event_.get(), &one, sizeof(one));
}

void HelperThread::on_ready(void* self, uint8_t) {
  static_cast<HelperThread*>(self)->finish_jobs();
}

void HelperThread::finish_jobs() {
  uint64_t count = 0;
  (void)!read(event_.get(), &count, sizeof(count));
  for (;;) {
    std::unique_ptr<Job> job;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (finished_.empty()) break;
      job = std::move(finished_.front());
      finished_.pop_front();
    }
    job->done();
  }
  if (std::exchange(poke_pending_, false) && poked_ != nullptr) poked_(owner_);
}

}  // namespace gatehouse
