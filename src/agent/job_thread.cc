// The thread, its queue and the eventfd by which the loop learns of results. See job_thread.h.
#include "agent/job_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace gatehouse {

Result<std::unique_ptr<JobThread>> JobThread::start(EventLoop& loop) {
  std::unique_ptr<JobThread> jobs(new JobThread());
  jobs->wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!jobs->wake_) return errno_error("cannot make an eventfd", errno);
  Result<void> watched = jobs->watch_.open(loop, jobs->wake_.get(), WatchMode::kLevel,
                                           &JobThread::on_finished, jobs.get());
  if (!watched) return watched.error();
  try {
    jobs->thread_ = std::thread([self = jobs.get()] { self->loop_on_thread(); });
  } catch (const std::system_error& error) {
    return errno_error("cannot start a thread", error.code().value());
  }
  return jobs;
}

JobThread::~JobThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    waiting_.clear();
  }
  cancel();
  work_came_.notify_one();
  thread_.join();
}

bool JobThread::run(std::function<void()> work, std::function<void()> done) {
  if (pending_ >= kJobsMax) return false;
  ++pending_;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back({std::move(work), std::move(done)});
  }
  work_came_.notify_one();
  return true;
}

void JobThread::loop_on_thread() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    work_came_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job.work();
    lock.lock();
    finished_.push_back(std::move(job));
    const uint64_t one = 1;
    // Fails only where the counter is full, and then the loop is about to look anyway.
    (void)!write(wake_.get(), &one, sizeof(one));
  }
}

void JobThread::on_finished(void* self, uint8_t) {
  static_cast<JobThread*>(self)->deliver();
}

void JobThread::deliver() {
  uint64_t count = 0;
  (void)!read(wake_.get(), &count, sizeof(count));
  std::deque<Job> finished;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished.swap(finished_);
  }
  for (Job& job : finished) {
    --pending_;
    if (job.done) job.done();
  }
}

}  // namespace gatehouse
