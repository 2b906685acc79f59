// What a Worker keeps of a reload that is under way. Only worker.cc and worker_reload.cc include
// this.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "http/worker.h"

namespace gatehouse {

// A place among the targets of a generation, where slices of work go on.
struct TargetCursor {
  size_t upstream = 0;
  size_t target = 0;
  size_t count = 0;  // targets passed
};

struct Worker::Preparation {
  uint32_t generation = 0;
  std::vector<UniqueFd> new_fds;           // until kPrepare comes
  PrepareJob* job = nullptr;               // while the helper thread makes it
  std::unique_ptr<BoundGeneration> bound;  // once made
  TargetCursor cursor;
  bool ready = false;  // the master was told
};

struct Worker::Retiring {
  std::unique_ptr<BoundGeneration> bound;
  TargetCursor cursor;
};

class Worker::PrepareJob final : public HelperThread::Job {
 public:
  PrepareJob(Worker& worker, uint32_t generation, UniqueFd plan, GenerationBinder::Order order)
      : worker_(worker),
        generation_(generation),
        plan_(std::move(plan)),
        order_(std::move(order)) {}

  void run() override;
  void done() override { worker_.prepared(*this); }

  uint32_t generation() const { return generation_; }
  void discard() { discarded_.store(true, std::memory_order_relaxed); }
  Result<std::unique_ptr<BoundGeneration>>& outcome() { return *outcome_; }

 private:
  Result<std::unique_ptr<BoundGeneration>> make();

  Worker& worker_;
  uint32_t generation_;
  UniqueFd plan_;
  GenerationBinder::Order order_;
  std::atomic<bool> discarded_{false};
  std::optional<Result<std::unique_ptr<BoundGeneration>>> outcome_;
};

// Destroys a generation away from the loop.
class Worker::FreeJob final : public HelperThread::Job {
 public:
  explicit FreeJob(std::unique_ptr<BoundGeneration> bound) : bound_(std::move(bound)) {}
  void run() override { bound_.reset(); }
  void done() override {}

 private:
  std::unique_ptr<BoundGeneration> bound_;
};

}  // namespace gatehouse
