// Blocking, reading and resetting signals. See signals.h.
#include "core/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace gatehouse {
namespace {

constexpr int kMasterSignals[] = {SIGQUIT, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
constexpr int kIgnoredInWorker[] = {SIGPIPE, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

void set_action(int signal, void (*action)(int)) {
  struct sigaction wanted {};
  wanted.sa_handler = action;
  // Fails for numbers that the C library keeps for itself; nothing can be done about those.
  sigaction(signal, &wanted, nullptr);
}

}  // namespace

Result<SignalIntake> SignalIntake::open() {
  SignalIntake intake;
  sigset_t wanted;
  sigemptyset(&wanted);
  for (int signal : kMasterSignals) sigaddset(&wanted, signal);
  if (sigprocmask(SIG_BLOCK, &wanted, &intake.before_) < 0) {
    return errno_error("cannot block signals", errno);
  }
  intake.blocked_ = true;
  // A parent that ignores SIGCHLD hands that down, and then children vanish without a status; an
  // ignored QUIT or HUP (nohup) would never reach the descriptor.
  for (int signal : kMasterSignals) set_action(signal, SIG_DFL);
  set_action(SIGPIPE, SIG_IGN);
  intake.fd_.reset(signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!intake.fd_) return errno_error("cannot open a descriptor for signals", errno);
  return intake;
}

SignalIntake::SignalIntake(SignalIntake&& other) noexcept
    : fd_(std::move(other.fd_)),
      before_(other.before_),
      blocked_(std::exchange(other.blocked_, false)) {}

SignalIntake::~SignalIntake() {
  if (blocked_) sigprocmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> SignalIntake::next() {
  signalfd_siginfo info;
  ssize_t size;
  do size = read(fd_.get(), &info, sizeof info);
  while (size < 0 && errno == EINTR);
  if (size != static_cast<ssize_t>(sizeof info)) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

void reset_signals_in_worker() {
  for (int signal = 1; signal < NSIG; ++signal) set_action(signal, SIG_DFL);
  for (int signal : kIgnoredInWorker) set_action(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace gatehouse
