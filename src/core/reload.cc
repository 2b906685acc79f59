// The steps of a reload. See reload.h.
#include "core/reload.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "core/sealed_bytes.h"

namespace gatehouse {
namespace {

// Files may be asked for in several rounds only where a configuration changes while it is read.
constexpr unsigned kRoundsMax = 4;
// After the commit: how long the caller waits until every worker says that it has switched.
constexpr Duration kSwitchTimeout{10'000};

void add_line(std::string& text, const std::string& line) {
  if (!text.empty() && !text.ends_with('\n')) text += '\n';
  text += line;
}

std::string text_of(const std::vector<Error>& errors) {
  std::string text;
  for (const Error& error : errors) add_line(text, error.message);
  return text;
}

}  // namespace

std::string_view Reload::step_name() const {
  switch (step_) {
    case Step::kIdle:
      return "idle";
    case Step::kChecking:
    case Step::kCertificates:
      return "checking";
    case Step::kValidating:
      return "validating";
    case Step::kPreparing:
      return "preparing";
    case Step::kSwitching:
      return "switching";
  }
  return "?";
}

void Reload::request(ReloadRequest request) {
  waiting_.push_back(std::move(request));
}

void Reload::refuse_all(const std::string& why) {
  if (step_ == Step::kSwitching) {
    warnings_.push_back(why + "; not every worker has switched");
    finish(true, {});
  } else if (step_ != Step::kIdle) {
    fail(why);
  }
  for (ReloadRequest& request : std::exchange(waiting_, {})) {
    if (request.done) request.done({false, parts_.supervisor.current()->number, why, {}});
  }
}

void Reload::turn(Moment now) {
  switch (step_) {
    case Step::kIdle:
      if (!waiting_.empty()) begin(now);
      break;
    case Step::kChecking:
      if (std::optional<Result<std::string>> result = checker_->poll(now)) {
        checker_.reset();
        on_checked(std::move(*result), now);
      }
      break;
    case Step::kCertificates:
      if (std::optional<Result<LoadedCertificates>> loaded = certificates_->turn(now)) {
        certificates_.reset();
        on_certificates(std::move(*loaded), now);
      }
      break;
    case Step::kValidating:
      // A worker that is just being replaced is waited for: prepared, it would be one too many.
      if (validated_ && !parts_.supervisor.replacing()) {
        bind(now);
      } else if (now >= deadline_) {
        fail(validated_ ? "a worker was still being replaced when reload_timeout was over"
                        : "the agent gave no verdict within reload_timeout");
      }
      break;
    case Step::kPreparing:
      switch (parts_.supervisor.outcome()) {
        case Supervisor::Outcome::kPrepared:
          commit(now);
          break;
        case Supervisor::Outcome::kFailed:
          fail(parts_.supervisor.failures());
          break;
        case Supervisor::Outcome::kPending:
          if (now >= deadline_) {
            fail("not prepared within reload_timeout: " + parts_.supervisor.waiting_for());
          }
          break;
      }
      break;
    case Step::kSwitching:
      if (parts_.supervisor.all_switched() && parts_.supervisor.all_ready()) {
        finish(true, {});
      } else if (now >= deadline_) {
        const std::string stuck = parts_.supervisor.kill_unswitched();
        warnings_.push_back(stuck.empty() ? "some workers are not ready yet; see status"
                                          : stuck + " did not switch in time and was killed");
        finish(true, {});
      }
      break;
  }
}

std::optional<Moment> Reload::next_deadline() const {
  switch (step_) {
    case Step::kIdle:
      return waiting_.empty() ? std::nullopt : std::optional<Moment>(Moment{0});
    case Step::kChecking:
      return checker_ ? checker_->deadline() : Moment{0};
    case Step::kCertificates:
      return certificates_ ? certificates_->deadline() : Moment{0};
    case Step::kValidating:
      return validated_ && !parts_.supervisor.replacing() ? Moment{0} : deadline_;
    case Step::kPreparing:
      return parts_.supervisor.outcome() == Supervisor::Outcome::kPending ? deadline_ : Moment{0};
    case Step::kSwitching:
      return parts_.supervisor.all_switched() && parts_.supervisor.all_ready() ? Moment{0}
                                                                               : deadline_;
  }
  return std::nullopt;
}

// ---- The steps ----------------------------------------------------------------------------------

void Reload::begin(Moment now) {
  asked_.push_back(std::move(waiting_.front()));
  waiting_.pop_front();
  // Whoever asks for the file to be read, and asked before it is, gets the same answer.
  while (!asked_[0].bytes && !waiting_.empty() && !waiting_.front().bytes) {
    asked_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  if (number_ < parts_.supervisor.current()->number) {
    number_ = parts_.supervisor.current()->number;
  }
  ++number_;
  rounds_ = 0;
  validated_ = false;
  warnings_.clear();
  answer_ = {};
  deadline_ = now + parts_.supervisor.current()->plan.reload_timeout;
  GH_LOG(kNotice, "reload: {} asks for {}", asked_[0].by,
         asked_[0].bytes ? fmt::format("version {}", asked_[0].version) : parts_.config_path);
  Result<ConfigSource> source =
      asked_[0].bytes ? ConfigSource::from_memfd(asked_[0].bytes.get())
                      : ConfigSource::load(parts_.config_path, ConfigSource::MainFile::kRegular);
  if (!source) return fail(source.error().message);
  source_ = std::make_shared<ConfigSource>(std::move(*source));
  check(now);
}

void Reload::check(Moment now) {
  step_ = Step::kChecking;
  if (++rounds_ > kRoundsMax) {
    return fail("the configuration names other files each time it is compiled");
  }
  Result<UniqueFd> bytes = source_->to_memfd();
  if (!bytes) return fail(bytes.error().message);
  bytes_ = std::move(*bytes);
  const MasterGenerationPtr current = parts_.supervisor.current();
  const int fd = bytes_.get();
  Result<ChildTask> child = ChildTask::start(
      "checker", current->run_as, {fd}, std::min(deadline_, now + current->plan.check_timeout),
      [this, fd]() -> std::string {
        Result<ConfigSource> source = ConfigSource::from_memfd(fd);
        CheckAnswer answer;
        if (source) {
          answer = parts_.calls.check(std::make_shared<const ConfigSource>(std::move(*source)));
        } else {
          answer.errors = source.error().message + "\n";
        }
        return check_answer_to_json(answer);
      });
  if (!child) return fail(child.error().message);
  checker_.emplace(std::move(*child));
}

void Reload::on_checked(Result<std::string> result, Moment now) {
  if (!result) return fail("not checked: " + result.error().message);
  Result<CheckAnswer> answer = check_answer_from_json(*result);
  if (!answer) return fail("not checked: " + answer.error().message);
  answer_ = std::move(*answer);
  if (!answer_.errors.empty()) return fail(answer_.errors);
  if (answer_.wanted.empty()) return load_certificates(now);
  for (const ConfigSource::Wanted& wanted : answer_.wanted) source_->attach(wanted);
  check(now);
}

void Reload::load_certificates(Moment now) {
  source_.reset();
  if (answer_.plan.certificates.empty()) return validate(now);
  step_ = Step::kCertificates;
  const MasterGenerationPtr current = parts_.supervisor.current();
  certificates_ = std::make_unique<CertificateLoad>(
      answer_.plan.certificates, current->run_as, parts_.supervisor.new_edition(),
      CertificateLoad::Limits{current->plan.check_timeout, deadline_},
      parts_.supervisor.certificates());
}

void Reload::on_certificates(Result<LoadedCertificates> loaded, Moment now) {
  if (!loaded) return fail(loaded.error().message);
  bundle_ = std::move(loaded->bundle);
  for (std::string& warning : loaded->warnings) warnings_.push_back(std::move(warning));
  validate(now);
}

// The agent's part: it sees the very bytes, and keeps them in its history before they are used.
void Reload::validate(Moment now) {
  step_ = Step::kValidating;
  if (!answer_.plan.agent.on || !parts_.agent.is_ready()) {
    if (answer_.plan.agent.on) {
      warnings_.push_back("the agent is away: the history gets this configuration later");
    }
    validated_ = true;
    return;
  }
  const uint64_t validation = ++validation_;
  const Moment until = std::min(deadline_, now + parts_.supervisor.current()->plan.check_timeout);
  parts_.agent.ask("validate", {{"generation", number_}, {"by", asked_[0].by}}, {bytes_.get()},
                   until, [this, validation](Result<ControlReply> reply) {
                     const bool waited_for =
                         validation == validation_ && step_ == Step::kValidating && !validated_;
                     if (waited_for) on_validated(std::move(reply));
                   });
}

void Reload::on_validated(Result<ControlReply> reply) {
  if (!reply) {
    warnings_.push_back("the agent gave no verdict (" + reply.error().message +
                        "): the history gets this configuration later");
    validated_ = true;
    return;
  }
  if (!reply->ok) return fail(reply->error());
  if (!reply->fds.empty()) {
    const Result<std::string> text = read_sealed(reply->fds[0].get(), kCheckAnswerMax);
    const Result<CheckAnswer> verdict =
        text ? check_answer_from_json(*text) : Result<CheckAnswer>(text.error());
    if (verdict && !verdict->errors.empty()) return fail(verdict->errors);
  }
  const std::string warning = control_text(reply->body, "warning");
  if (!warning.empty()) warnings_.push_back("agent: " + warning);
  validated_ = true;
}

void Reload::bind(Moment now) {
  auto next = std::make_shared<MasterGeneration>();
  next->number = number_;
  next->config = std::move(bytes_);
  next->plan = std::move(answer_.plan);
  next->names = std::move(answer_.names);
  const MasterGenerationPtr current = parts_.supervisor.current();
  for (std::string& note : restart_notes(current->plan, next->plan)) {
    warnings_.push_back(std::move(note));
  }
  // These stay as the master was started, and are said again by every reload until they agree.
  next->plan.daemon = current->plan.daemon;
  next->plan.pid_file = current->plan.pid_file;
  next->plan.control = current->plan.control;
  next->plan.control_group = current->plan.control_group;
  next->plan.shared_memory = current->plan.shared_memory;
  next->plan.metric_series = current->plan.metric_series;
  next->plan.targets_max = current->plan.targets_max;
  raise_descriptor_limit(descriptors_of_master(next->plan));
  std::string errors;
  const bool same_user =
      next->plan.user == current->plan.user && next->plan.group == current->plan.group;
  if (same_user) {
    next->run_as = current->run_as;
  } else {
    Result<RunAs> run_as = resolve_run_as(next->plan.user, next->plan.group);
    if (run_as) {
      next->run_as = std::move(*run_as);
    } else {
      add_line(errors, next->plan.user_where + run_as.error().message);
    }
  }
  if (next->plan.daemon &&
      (next->plan.error_log.path.empty() || next->plan.error_log.path == "stderr")) {
    add_line(errors, next->plan.error_log.where + "a daemon needs an error_log that is a file");
  }
  const std::vector<Error> unbound = parts_.sockets.prepare(next->plan);
  if (!unbound.empty()) add_line(errors, text_of(unbound));
  const std::vector<Error> unopened = parts_.logs.prepare(next->plan, next->owner());
  if (!unopened.empty()) add_line(errors, text_of(unopened));
  if (!errors.empty()) return fail(errors);
  step_ = Step::kPreparing;
  parts_.supervisor.prepare(std::move(next), std::move(bundle_), now);
}

void Reload::commit(Moment now) {
  const ProcessPlan& plan = parts_.supervisor.preparing()->plan;
  // The last step that can fail; all before it is undone then, too.
  const std::vector<Error> deaf = parts_.sockets.start_listening(plan);
  if (!deaf.empty()) return fail(text_of(deaf));
  const bool error_log_moved = parts_.logs.commit(plan);
  // Our copies of what goes are closed before the workers close theirs, so that the kernel refuses
  // new connections from the moment at which the last of those is closed.
  parts_.sockets.commit(plan);
  parts_.supervisor.commit();
  if (error_log_moved) {
    parts_.supervisor.pass_error_log();
    parts_.agent.pass_error_log(now);
  }
  generation_us_ = wall_clock_us();
  step_ = Step::kSwitching;
  deadline_ = now + kSwitchTimeout;
  parts_.agent.serve(parts_.supervisor.current());
}

void Reload::fail(const std::string& error) {
  checker_.reset();
  certificates_.reset();
  bundle_.reset();
  ++validation_;
  source_.reset();
  parts_.supervisor.discard();
  parts_.sockets.discard();
  parts_.logs.discard();
  finish(false, error);
}

void Reload::finish(bool ok, const std::string& error) {
  step_ = Step::kIdle;
  const MasterGenerationPtr current = parts_.supervisor.current();
  ReloadOutcome outcome{ok, current->number, error, std::exchange(warnings_, {})};
  while (outcome.error.ends_with('\n')) outcome.error.pop_back();
  for (const std::string& warning : outcome.warnings) GH_LOG(kWarn, "reload: {}", warning);
  if (ok) {
    GH_LOG(kNotice, "reload: generation {} serves", current->number);
  } else {
    GH_LOG(kError, "reload: refused, generation {} goes on: {}", current->number, outcome.error);
  }
  std::vector<ReloadRequest> asked = std::exchange(asked_, {});
  const std::string by = asked.empty() ? "" : asked[0].by;
  const bool rolled_back = !asked.empty() && asked[0].bytes;
  last_ = {wall_clock_us(), by, outcome};
  AgentProcess::Record record;
  record.body = {{"generation", number_},
                 {"time_us", last_.time_us},
                 {"by", by},
                 {"outcome", !ok           ? "refused"
                             : rolled_back ? "rolled_back"
                                           : "applied"},
                 {"error", outcome.error}};
  const int bytes = ok ? current->config.get() : bytes_.get();
  if (bytes >= 0) record.bytes = UniqueFd(fcntl(bytes, F_DUPFD_CLOEXEC, 0));
  parts_.agent.store(std::move(record));
  bytes_.reset();
  answer_ = {};
  for (const ReloadRequest& request : asked) {
    if (request.done) request.done(outcome);
  }
}

std::vector<std::string> restart_notes(const ProcessPlan& now, const ProcessPlan& next) {
  std::vector<std::string> notes;
  const auto compare = [&notes](std::string_view name, const auto& a, const auto& b) {
    if (!(a == b)) {
      notes.push_back(fmt::format("{}: the new value counts from the next start on", name));
    }
  };
  compare("shared_memory", now.shared_memory, next.shared_memory);
  compare("metric_series", now.metric_series, next.metric_series);
  compare("targets_max", now.targets_max, next.targets_max);
  compare("pid_file", now.pid_file, next.pid_file);
  compare("control", now.control, next.control);
  compare("control_group", now.control_group, next.control_group);
  return notes;
}

}  // namespace gatehouse
