// The pid file: one live holder, no trace of dead ones.
#include "core/pid_file.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace {

using gatehouse::PidFile;
using gatehouse::read_live_pid;
using gatehouse::Result;
using gatehouse::send_signal_from_pid_file;

std::string directory;
std::string path;

void set_up() {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  directory = mkdtemp(name);
  path = directory + "/gatehouse.pid";
}

void tear_down() {
  std::filesystem::remove_all(directory);
}

std::string content() {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

size_t files() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++count;
  return count;
}

bool says(const gatehouse::Error& error, std::string_view text) {
  return error.message.find(text) != std::string::npos;
}

// A child that holds the pid file until it is told to end; gives its id once it holds it.
pid_t holder() {
  int ends[2];
  cr_assert(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    Result<PidFile> held = PidFile::acquire(path);
    char good = held.ok() ? 1 : 0;
    if (write(ends[1], &good, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char good = 0;
  cr_assert(read(ends[0], &good, 1) == 1 && good == 1);
  close(ends[0]);
  close(ends[1]);
  return child;
}

int end_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return status;
}

}  // namespace

TestSuite(pid_file, .init = set_up, .fini = tear_down, .timeout = 20);

Test(pid_file, holds_the_id_and_goes_with_its_owner) {
  {
    Result<PidFile> held = PidFile::acquire(path);
    cr_assert(held.ok());
    cr_assert(content() == std::to_string(getpid()) + "\n");
    struct stat info {};
    cr_assert(stat(path.c_str(), &info) == 0 && (info.st_mode & 0777) == 0644);
    cr_assert(files() == 1, "no temporary file is left");
    PidFile moved = std::move(*held);
    cr_assert(read_live_pid(path).ok());
  }
  cr_assert(files() == 0);
}

Test(pid_file, a_second_instance_is_refused_and_told_who_runs) {
  pid_t first = holder();
  Result<PidFile> second = PidFile::acquire(path);
  cr_assert_not(second.ok());
  cr_assert(says(second.error(), "running already with process id " + std::to_string(first)));
  cr_assert(files() == 1);
  cr_assert(*read_live_pid(path) == first);
  kill(first, SIGKILL);
  end_of(first);
}

Test(pid_file, what_a_crash_left_behind_is_replaced) {
  pid_t first = holder();
  kill(first, SIGKILL);
  end_of(first);
  cr_assert(files() == 1);
  cr_assert(says(read_live_pid(path).error(), "not running"));
  Result<PidFile> next = PidFile::acquire(path);
  cr_assert(next.ok());
  cr_assert(content() == std::to_string(getpid()) + "\n");
  cr_assert(files() == 1);
}

Test(pid_file, a_file_that_another_put_there_is_not_removed) {
  {
    Result<PidFile> held = PidFile::acquire(path);
    cr_assert(held.ok());
    unlink(path.c_str());
    std::ofstream(path) << "7\n";
  }
  cr_assert(content() == "7\n");
}

Test(pid_file, signals_reach_only_a_live_holder) {
  cr_assert(says(send_signal_from_pid_file(path, SIGTERM).error(), "there is no"));
  pid_t child = holder();
  cr_assert(send_signal_from_pid_file(path, 0).ok());
  cr_assert(send_signal_from_pid_file(path, SIGTERM).ok());
  int status = end_of(child);
  cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  cr_assert(says(send_signal_from_pid_file(path, SIGTERM).error(), "nobody holds"));
}

Test(pid_file, only_a_whole_number_is_a_process) {
  for (const char* text :
       {"", "12", "1\n", "0\n", "-5\n", "abc\n", "12x\n", " 12\n", "99999999999999999999\n"}) {
    std::ofstream(path, std::ios::trunc) << text;
    // A lock is the open file's, not the process's: to the reader this is a live holder.
    gatehouse::UniqueFd held(open(path.c_str(), O_RDWR | O_CLOEXEC));
    cr_assert(flock(held.get(), LOCK_EX | LOCK_NB) == 0);
    Result<pid_t> pid = read_live_pid(path);
    cr_assert(!pid && says(pid.error(), "does not hold a process id"), "%s", text);
  }
}

Test(pid_file, a_folder_that_is_missing_is_an_error) {
  Result<PidFile> held = PidFile::acquire(directory + "/none/gatehouse.pid");
  cr_assert(!held && says(held.error(), "No such file"));
}
