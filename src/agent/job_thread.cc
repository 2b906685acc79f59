// Functions as jobs of a helper thread. See job_thread.h.
#include "agent/job_thread.h"

#include <utility>

namespace gatehouse {

class JobThread::Job final : public HelperThread::Job {
 public:
  Job(JobThread& owner, std::function<void()> work, std::function<void()> done)
      : owner_(owner), work_(std::move(work)), done_(std::move(done)) {}

  void run() override { work_(); }
  void done() override {
    --owner_.pending_;
    if (done_) done_();
  }

 private:
  JobThread& owner_;
  std::function<void()> work_;
  std::function<void()> done_;
};

Result<std::unique_ptr<JobThread>> JobThread::start(EventLoop& loop) {
  std::unique_ptr<JobThread> jobs(new JobThread());
  Result<std::unique_ptr<HelperThread>> thread = HelperThread::start(loop, nullptr, nullptr);
  if (!thread) return thread.error();
  jobs->thread_ = std::move(*thread);
  return jobs;
}

JobThread::~JobThread() {
  // First, or the next one begins when the one that runs hears that it is cancelled.
  if (thread_ != nullptr) thread_->drop_waiting();
  cancel();
}

bool JobThread::run(std::function<void()> work, std::function<void()> done) {
  if (pending_ >= kJobsMax) return false;
  ++pending_;
  thread_->post(std::make_unique<Job>(*this, std::move(work), std::move(done)));
  return true;
}

}  // namespace gatehouse
