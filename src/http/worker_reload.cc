// A reload inside a live worker: prepare, switch, discard, and the end of old generations. See
// worker.h for the phases, bound_generation.h for what is done off the loop.
#include <algorithm>
#include <chrono>
#include <utility>

#include "core/log.h"
#include "core/process_conf.h"
#include "core/sealed_bytes.h"
#include "http/member_targets.h"
#include "http/target_binding.h"
#include "http/traffic_plan.h"
#include "http/worker.h"
#include "http/worker_preparation.h"

namespace gatehouse {

namespace {

using SteadyClock = std::chrono::steady_clock;

// How long the loop works on targets before other events get their turn.
constexpr auto kSlice = std::chrono::microseconds(100);
// Targets between two looks at the clock.
constexpr size_t kTargetsAtOnce = 8;

// Calls visit(upstream, target, number) for the targets from `cursor` on, begin(upstream) before
// those of each. False where the time is up; the cursor tells where to go on.
template <typename Begin, typename Visit>
bool walk_targets(const Generation& generation, TargetCursor& cursor,
                  SteadyClock::time_point deadline, Begin begin, Visit visit) {
  const auto upstreams = generation.upstreams();
  size_t steps = 0;
  for (; cursor.upstream < upstreams.size(); ++cursor.upstream, cursor.target = 0) {
    Upstream& upstream = *upstreams[cursor.upstream];
    if (cursor.target == 0) begin(upstream);
    std::vector<UpstreamTarget>& targets = upstream.configured.targets;
    for (; cursor.target < targets.size(); ++cursor.target, ++cursor.count) {
      if (++steps % kTargetsAtOnce == 0 && SteadyClock::now() >= deadline) return false;
      visit(upstream, targets[cursor.target], cursor.count);
    }
  }
  return true;
}

}  // namespace

// ---- The first generation -----------------------------------------------------------------------

Result<void> Worker::bind_first_generation() {
  GenerationBinder::Order order;
  order.config = UniqueFd(context_.config_fd);
  order.certificates = UniqueFd(context_.certificates_fd);
  order.plan = std::move(context_.plan);
  context_.plan = WorkerPlan();
  context_.plan.generation = order.plan.generation;
  for (WorkerSocket& socket : order.plan.sockets) {
    socket.is_new = true;
    order.new_fds.emplace_back(socket.fd);
  }
  for (WorkerLog& log : order.plan.logs) {
    log.is_new = true;
    order.new_fds.emplace_back(log.fd);
  }
  const std::atomic<bool> discarded{false};
  // Not on a thread: as long as a process never had one, the C library spares each system call the
  // bookkeeping for cancelling threads (1.5 % of the instructions of a request).
  Result<std::unique_ptr<BoundGeneration>> bound = binder_.bind(std::move(order), discarded);
  if (!bound) return bound.error();
  preparation_ = std::make_unique<Preparation>();
  preparation_->bound = std::move(*bound);
  preparation_->generation = context_.plan.generation;
  while (!bind_targets(SteadyClock::time_point::max())) {
  }
  publish(std::move(preparation_->bound));
  preparation_.reset();
  return {};
}

// ---- Prepare ------------------------------------------------------------------------------------

void Worker::PrepareJob::run() {
  outcome_.emplace(make());
}

Result<std::unique_ptr<BoundGeneration>> Worker::PrepareJob::make() {
  Result<std::string> bytes = read_sealed(plan_.get(), kWorkerPlanMax);
  if (!bytes) return bytes.error();
  plan_.reset();
  Result<WorkerPlan> plan = unpack_worker_plan(*bytes);
  if (!plan) return plan.error();
  if (plan->generation != generation_) return Error{"the worker's plan is of another generation"};
  order_.plan = std::move(*plan);
  return worker_.binder_.bind(std::move(order_), discarded_);
}

Result<HelperThread*> Worker::helper() {
  if (helper_ == nullptr) {
    Result<std::unique_ptr<HelperThread>> started =
        HelperThread::start(*loop_, &Worker::on_slice, this);
    if (!started) return started.error();
    helper_ = std::move(*started);
  }
  return helper_.get();
}

// An order for another generation than the one that is being prepared replaces that.
void Worker::take_new_fds(ChannelMessage& message) {
  if (preparation_ == nullptr || preparation_->generation != message.argument ||
      preparation_->job != nullptr || preparation_->bound != nullptr) {
    drop_preparation();
    preparation_ = std::make_unique<Preparation>();
    preparation_->generation = message.argument;
  }
  for (UniqueFd& fd : message.fds) preparation_->new_fds.push_back(std::move(fd));
}

void Worker::prepare(ChannelMessage& message) {
  const uint32_t generation = message.argument;
  GenerationBinder::Order order;
  if (preparation_ != nullptr && preparation_->generation == generation) {
    order.new_fds = std::move(preparation_->new_fds);
  }
  drop_preparation();
  if (message.fds.size() != 2 && message.fds.size() != 3) {
    refuse_preparation(generation, "a prepare message needs two or three descriptors");
    return;
  }
  Result<HelperThread*> thread = helper();
  if (!thread) {
    refuse_preparation(generation, thread.error().message);
    return;
  }
  order.config = std::move(message.fds[0]);
  if (message.fds.size() == 3) order.certificates = std::move(message.fds[2]);
  order.files = current_->files;
  order.logs = current_->logs;
  auto job =
      std::make_unique<PrepareJob>(*this, generation, std::move(message.fds[1]), std::move(order));
  preparation_ = std::make_unique<Preparation>();
  preparation_->generation = generation;
  preparation_->job = job.get();
  (*thread)->post(std::move(job));
}

// The helper thread has finished.
void Worker::prepared(PrepareJob& job) {
  Result<std::unique_ptr<BoundGeneration>>& outcome = job.outcome();
  if (preparation_ == nullptr || preparation_->job != &job) {
    // Discarded meanwhile.
    if (outcome) retire(std::move(*outcome));
    return;
  }
  preparation_->job = nullptr;
  if (!outcome) {
    preparation_.reset();
    refuse_preparation(job.generation(), outcome.error().message);
    return;
  }
  preparation_->bound = std::move(*outcome);
  if (const Result<void> known = check_sockets(preparation_->bound->plan); !known) {
    drop_preparation();
    refuse_preparation(job.generation(), known.error().message);
    return;
  }
  work_a_slice();
}

void Worker::refuse_preparation(uint32_t generation, const std::string& why) {
  Result<UniqueFd> text = seal_bytes("gatehouse-errors", why);
  if (!text) GH_LOG(kError, "generation {}: {}", generation, why);
  tell_master(ChannelVerb::kPrepareFailed, generation, text ? std::move(*text) : UniqueFd());
}

Result<void> Worker::check_sockets(const WorkerPlan& plan) const {
  if (draining_) return {};
  for (const WorkerSocket& socket : plan.sockets) {
    const bool known = std::any_of(acceptors_.begin(), acceptors_.end(), [&](const auto& acceptor) {
      return acceptor->id() == socket.id;
    });
    if (known == socket.is_new) {
      return Error{fmt::format("the worker {} the socket of listener {}",
                               known ? "already has" : "does not have", socket.listener)};
    }
  }
  return {};
}

// True where all targets have their states.
bool Worker::bind_targets(SteadyClock::time_point deadline) {
  Preparation& preparation = *preparation_;
  BoundGeneration& bound = *preparation.bound;
  return walk_targets(
      *bound.generation, preparation.cursor, deadline,
      [&](Upstream& upstream) {
        if (upstream.has_members && upstream.members == nullptr) {
          const MemberTargetsPlace place{*bound.lists, metrics_.get(), context_.row,
                                         &target_states_};
          upstream.members = std::make_unique<MemberTargets>(
              upstream, place, sticky_key(*upstream.conf, *context_.shared));
        }
        if (upstream.plain || upstream.state != nullptr) return;
        upstream.state = &target_states_.hold_upstream(traffic_name(upstream), &upstream.row_index);
      },
      [&](Upstream& upstream, UpstreamTarget& target, size_t number) {
        target.state = &target_states_.hold(bound.target_keys[number], target, upstream.state);
      });
}

void Worker::on_slice(void* self) {
  static_cast<Worker*>(self)->work_a_slice();
}

void Worker::work_a_slice() {
  const SteadyClock::time_point deadline = SteadyClock::now() + kSlice;
  if (preparation_ != nullptr && preparation_->bound != nullptr && !preparation_->ready) {
    if (!bind_targets(deadline)) {
      helper_->poke();
      return;
    }
    preparation_->ready = true;
    tell_master(ChannelVerb::kPrepared, preparation_->generation);
  }
  while (!retiring_.empty()) {
    Retiring& retiring = retiring_.front();
    const bool done = walk_targets(
        *retiring.bound->generation, retiring.cursor, deadline,
        [&](Upstream& upstream) {
          upstream.members.reset();
          upstream.discovered.reset();
          if (upstream.state != nullptr) {
            target_states_.release(*std::exchange(upstream.state, nullptr));
          }
        },
        [&](Upstream&, UpstreamTarget& target, size_t) {
          if (target.state != nullptr)
            target_states_.release(*std::exchange(target.state, nullptr));
        });
    if (!done) {
      helper_->poke();
      return;
    }
    helper_->post(std::make_unique<FreeJob>(std::move(retiring.bound)));
    retiring_.pop_front();
  }
}

// ---- Discard ------------------------------------------------------------------------------------

void Worker::discard(uint32_t generation) {
  if (preparation_ != nullptr && preparation_->generation == generation) drop_preparation();
}

void Worker::drop_preparation() {
  if (preparation_ == nullptr) return;
  const std::unique_ptr<Preparation> dropped = std::move(preparation_);
  if (dropped->job != nullptr) dropped->job->discard();
  if (dropped->bound != nullptr) retire(std::move(dropped->bound));
}

// ---- Switch -------------------------------------------------------------------------------------

void Worker::switch_to(uint32_t generation) {
  if (waiting_ && generation == current_->plan.generation) {
    waiting_ = false;
    begin_serving();
    for (const auto& acceptor : acceptors_) acceptor->open();
  } else if (preparation_ != nullptr && preparation_->ready &&
             preparation_->generation == generation) {
    waiting_ = false;
    std::unique_ptr<BoundGeneration> next = std::move(preparation_->bound);
    preparation_.reset();
    publish(std::move(next));
    const Config& config = current_->generation->config();
    log_set_level(
        config.sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable).error_log.level);
  } else {
    // The master will not hear what it waits for, and replaces this worker.
    GH_LOG(kError, "told to switch to generation {}, which is not prepared", generation);
    return;
  }
  tell_master(ChannelVerb::kSwitched, current_->plan.generation);
  loop_->defer(reap_);
}

// From here on nothing can fail.
void Worker::publish(std::unique_ptr<BoundGeneration> next) {
  next->generation->watch_holders(&Worker::on_unheld, this);
  next->generation->hold();
  std::unique_ptr<BoundGeneration> before = std::exchange(current_, std::move(next));
  idle_told_ = false;
  adopt_sockets();
  for (const BoundLog& log : current_->logs) log.writer->set_options(log.options);
  if (!waiting_) begin_serving();
  cells_->generations.set(1);
  if (before == nullptr) return;
  keep_parsed_certificates(*before->generation);
  // Those of them that go still have what exchanges under way will write.
  for (const BoundLog& log : before->logs) log.writer->flush();
  replaced_.push_back(std::move(before));
  replaced_.back()->generation->release();
  cells_->generations.set(static_cast<int64_t>(replaced_.size()) + 1);
}

void Worker::begin_serving() {
  for (const Module* module : current_->generation->modules()) {
    if (module->serve != nullptr) module->serve(*current_);
  }
}

void Worker::adopt_sockets() {
  BoundGeneration& bound = *current_;
  std::vector<std::unique_ptr<Acceptor>> before = std::exchange(acceptors_, {});
  for (const WorkerSocket& socket : bound.plan.sockets) {
    if (draining_) break;
    auto known = std::find_if(before.begin(), before.end(), [&](const auto& acceptor) {
      return acceptor != nullptr && acceptor->id() == socket.id;
    });
    if (known != before.end()) {
      acceptors_.push_back(std::move(*known));
    } else {
      acceptors_.push_back(
          std::make_unique<Acceptor>(*this, socket, std::move(bound.new_sockets[socket.id])));
    }
    acceptors_.back()->bind(*bound.generation, socket.listener);
  }
  bound.new_sockets.clear();
  if (!waiting_) {
    for (const auto& acceptor : acceptors_) {
      if (!acceptor->is_open()) acceptor->open();
    }
  }
  // Where only the worker's place has gone (its pool shrank), the clients that are still connected
  // are served by the new generation as everywhere else.
  for (const auto& acceptor : leaving_) acceptor->follow(*bound.generation);
  for (auto& acceptor : before) {
    if (acceptor == nullptr) continue;
    acceptor->follow(*bound.generation);
    leave(std::move(acceptor));
  }
}

void Worker::leave(std::unique_ptr<Acceptor> acceptor) {
  acceptor->leave(current_->plan.drain_timeout);
  if (!acceptor->has_left()) leaving_.push_back(std::move(acceptor));
}

// ---- The end of a generation --------------------------------------------------------------------

// Its last exchange is just ending, or its acceptor: what is left of them is still in use.
void Worker::on_unheld(void* self, const Generation&) {
  static_cast<Worker*>(self)->defer_reap();
}

void Worker::retire_unheld() {
  for (auto& bound : replaced_) {
    if (bound->generation->holders() == 0) retire(std::move(bound));
  }
  std::erase(replaced_, nullptr);
  cells_->generations.set(static_cast<int64_t>(replaced_.size()) + 1);
}

// Log writers and targets belong to the loop, which lets go of them here and in slices; the rest is
// freed by the helper thread. REQUIRES: nobody holds the generation.
void Worker::retire(std::unique_ptr<BoundGeneration> bound) {
  bound->logs.clear();
  bound->files.clear();
  bound->new_sockets.clear();
  retiring_.push_back({std::move(bound), {}});
  helper_->poke();
}

}  // namespace gatehouse
