// What a process closes, becomes and ignores on its way to being a worker.
#include "core/process_worker.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>

#include "core/log.h"
#include "core/process_privileges.h"
#include "core/signals.h"

namespace {

using gatehouse::resolve_run_as;
using gatehouse::Result;
using gatehouse::RunAs;

std::set<int> open_descriptors() {
  std::set<int> list;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') list.insert(atoi(entry->d_name));
  }
  list.erase(dirfd(directory));
  closedir(directory);
  return list;
}

// Runs `work` in a child; it gives the child's exit code.
template <typename Work>
int in_child(Work work) {
  pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void quiet() {
  gatehouse::log_set_level(gatehouse::LogLevel::kAlert);
}

}  // namespace

TestSuite(process_worker, .init = quiet, .timeout = 20);

Test(process_worker, keeps_only_the_descriptors_it_was_given) {
  int code = in_child([] {
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int second = fcntl(first, F_DUPFD, 50);
    int third = fcntl(first, F_DUPFD, 200);
    if (third < 200) return 1;
    if (!gatehouse::close_other_descriptors({third, second, second, 1, -1})) return 2;
    return open_descriptors() == std::set<int>{0, 1, 2, second, third} ? 0 : 3;
  });
  cr_assert(code == 0, "%d", code);
}

Test(process_worker, loses_root_for_good) {
  if (geteuid() != 0) cr_skip_test("needs root to have something to lose");
  int code = in_child([] {
    Result<RunAs> run_as = resolve_run_as("nobody", "");
    if (!run_as || !run_as->change || run_as->user == 0) return 1;
    if (!gatehouse::drop_privileges(*run_as)) return 2;
    if (geteuid() != run_as->user || getuid() != run_as->user || getegid() != run_as->group) {
      return 3;
    }
    if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0) return 4;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 5;
    gid_t groups[64];
    int count = getgroups(64, groups);
    for (int i = 0; i < count; ++i) {
      if (groups[i] == 0) return 6;
    }
    return 0;
  });
  cr_assert(code == 0, "%d", code);
}

Test(process_worker, unknown_users_and_groups_are_errors) {
  if (geteuid() != 0) cr_skip_test("users count only for root");
  cr_assert_not(resolve_run_as("no-such-user-here", "").ok());
  cr_assert_not(resolve_run_as("nobody", "no-such-group-here").ok());
  cr_assert_not(resolve_run_as("4294967295", "nogroup").ok());
  cr_assert_not(resolve_run_as("54321", "").ok(), "no account tells the group");
  Result<RunAs> number = resolve_run_as("54321", "54322");
  cr_assert(number.ok() && number->user == 54321 && number->group == 54322);
  cr_assert(number->groups == std::vector<gid_t>{54322});
  cr_assert_not(resolve_run_as("", "")->change);
}

Test(process_worker, an_ordinary_user_stays_who_it_is) {
  int code = in_child([] {
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) return 1;
    Result<RunAs> run_as = resolve_run_as("root", "");
    if (!run_as || run_as->change) return 2;
    return gatehouse::drop_privileges(*run_as) ? 0 : 3;
  });
  cr_assert(code == 0, "%d", code);
}

Test(process_worker, the_descriptor_limit_only_rises) {
  int code = in_child([] {
    rlimit limit{.rlim_cur = 100, .rlim_max = 300};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return 1;
    if (gatehouse::raise_descriptor_limit(50) != 100) return 2;
    if (gatehouse::raise_descriptor_limit(250) != 250) return 3;
    uint32_t got = gatehouse::raise_descriptor_limit(1000);
    return got == (geteuid() == 0 ? 1000U : 300U) || got == 300U ? 0 : 4;
  });
  cr_assert(code == 0, "%d", code);
}

Test(process_worker, the_groups_signals_do_not_end_a_worker) {
  int code = in_child([] {
    Result<gatehouse::SignalIntake> intake = gatehouse::SignalIntake::open();
    if (!intake) return 1;
    kill(getpid(), SIGTERM);
    if (intake->next() != SIGTERM || intake->next()) return 2;
    gatehouse::reset_signals_in_worker();
    for (int signal : {SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE}) {
      kill(getpid(), signal);
    }
    sigset_t mask;
    sigprocmask(SIG_SETMASK, nullptr, &mask);
    for (int signal = 1; signal < 32; ++signal) {
      if (sigismember(&mask, signal) == 1) return 3;
    }
    kill(getpid(), SIGTERM);
    return 4;
  });
  cr_assert(code == 1000 + SIGTERM, "%d", code);
}
