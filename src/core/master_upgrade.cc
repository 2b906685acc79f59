// Both masters' parts of an upgrade; see upgrade.h for how they talk.
#include <poll.h>

#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "core/master_process.h"

namespace gatehouse {
namespace {

// How long a new master waits for the pid file of the old one, which has let go of it.
constexpr Duration kPidFileTimeout{5'000};

}  // namespace

// ---- The old master -----------------------------------------------------------------------------

void Master::begin_upgrade() {
  std::string refusal;
  if (phase_ != Phase::kRunning) {
    refusal = "the gateway is " + std::string(phase_name());
  } else if (upgrade_.is_running()) {
    refusal = "an upgrade is under way";
  } else if (!reload_->is_idle() || swap_->is_busy()) {
    refusal = "a reload is under way";
  } else {
    Upgrade::Inheritance inheritance;
    inheritance.generation = supervisor_->current()->number;
    inheritance.shared_fd = shared_.fd();
    inheritance.rows = supervisor_->rows_in_use();
    inheritance.sockets = sockets_.hand_down();
    const Result<void> begun =
        upgrade_.start(inheritance, monotonic_now() + plan().upgrade_timeout);
    if (begun) return;
    refusal = begun.error().message;
  }
  GH_LOG(kError, "upgrade: refused: {}", refusal);
  for (const auto& reply : std::exchange(upgrade_asked_, {})) reply(control_error(refusal));
}

void Master::watch_upgrade(Moment now) {
  switch (upgrade_.turn(now)) {
    case Upgrade::Outcome::kPending:
      return;
    case Upgrade::Outcome::kFailed:
      GH_LOG(kError, "upgrade: failed, this master carries on: {}", upgrade_.failure());
      // The other one may have had the kernel bring new connections to fewer sockets.
      sockets_.commit(plan());
      for (const auto& reply : std::exchange(upgrade_asked_, {})) {
        reply(control_error(upgrade_.failure()));
      }
      return;
    case Upgrade::Outcome::kReady:
      GH_LOG(kNotice, "upgrade: process {} takes over; this master drains", upgrade_.pid());
      handed_over_ = true;
      pid_file_ = PidFile();
      sockets_.keep_paths();
      upgrade_.hand_over(now);
      drain();
      return;
    case Upgrade::Outcome::kInCharge:
      // Its control socket has the path now: whoever hears this can go on talking to it.
      control_.hand_over();
      for (const auto& reply : std::exchange(upgrade_asked_, {})) {
        reply(control_ok({{"pid", upgrade_.pid()}}));
      }
      return;
  }
}

// ---- The new master -----------------------------------------------------------------------------

// All workers have compiled the configuration. A socket that listened earlier would be given
// connections that nobody answers if this master failed.
void Master::release_workers() {
  const std::vector<Error> deaf = sockets_.start_listening(plan());
  if (!deaf.empty()) return fail_start(deaf.front().message);
  sockets_.commit(plan());
  supervisor_->release();
  released_ = true;
}

void Master::hear_old_master() {
  const UpgradeHeard heard = hear_upgrade_word(start_.handover->talk.get());
  if (heard.closed) {
    // The old master has ended, and its workers have: their rows are free.
    start_.handover->talk.reset();
    supervisor_->free_rows(start_.handover->rows);
  }
  if (phase_ == Phase::kAwaiting && (heard.closed || heard.word == UpgradeWord::kGo)) {
    take_charge();
  }
}

void Master::inherit_pid_file() {
  if (plan().pid_file.empty()) return;
  const Moment until = monotonic_now() + kPidFileTimeout;
  for (;;) {
    Result<PidFile> pid_file = PidFile::acquire(plan().pid_file);
    if (pid_file) {
      pid_file_ = std::move(*pid_file);
      return;
    }
    if (monotonic_now() >= until) {
      GH_LOG(kError, "upgrade: {}", pid_file.error().message);
      return;
    }
    poll(nullptr, 0, 10);
  }
}

}  // namespace gatehouse
