// Taking the pid file while the Nth system call fails: an error, no file, no descriptor.
// wrap: open write fsync fchmod flock link rename
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "core/pid_file.h"
#include "fail_at.h"

using gatehouse::PidFile;
using gatehouse::Result;
namespace fault = gatehouse::fault;

GH_FAIL_AT(ssize_t, write, (int fd, const void* bytes, size_t size), (fd, bytes, size));
GH_FAIL_AT(int, fsync, (int fd), (fd));
GH_FAIL_AT(int, fchmod, (int fd, mode_t mode), (fd, mode));
GH_FAIL_AT(int, flock, (int fd, int operation), (fd, operation));
GH_FAIL_AT(int, link, (const char* from, const char* to), (from, to));
GH_FAIL_AT(int, rename, (const char* from, const char* to), (from, to));
GH_FAIL_AT_OPEN();

namespace {

std::string directory;

int set_up(void**) {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  directory = mkdtemp(name);
  return 0;
}

int tear_down(void**) {
  std::filesystem::remove_all(directory);
  return 0;
}

int files() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++count;
  return count;
}

void leave_stale_file() {
  FILE* file = std::fopen((directory + "/pid").c_str(), "w");
  std::fputs("4711\n", file);
  std::fclose(file);
}

// Runs acquire() with every failure; `stale` puts a dead process's file there each time.
int fail_through(bool stale, int error) {
  std::set<int> before = fault::open_descriptors();
  for (int nth = 1; nth < 100; ++nth) {
    if (stale) leave_stale_file();
    bool fired, held;
    {
      fault::arm(nth, error);
      Result<PidFile> file = PidFile::acquire(directory + "/pid");
      fired = fault::fired();
      fault::disarm();
      held = file.ok();
      assert_int_equal(files(), held || stale ? 1 : 0);
    }
    assert_true(fault::open_descriptors() == before);
    if (!fired) {
      assert_true(held);
      return nth - 1;
    }
    if (error != EINTR) assert_false(held);
  }
  return -1;
}

void a_first_start_fails_cleanly(void**) {
  // open, flock, fchmod, write, fsync, open (which finds nothing), link
  assert_int_equal(fail_through(false, EIO), 7);
}

void a_start_over_a_stale_file_fails_cleanly(void**) {
  // open, flock, fchmod, write, fsync, open, flock, rename
  assert_int_equal(fail_through(true, EIO), 8);
}

void interrupted_calls_are_repeated(void**) {
  for (int nth : {2, 4, 7}) {  // flock, write, flock
    leave_stale_file();
    fault::arm(nth, EINTR);
    Result<PidFile> file = PidFile::acquire(directory + "/pid");
    bool fired = fault::fired();
    fault::disarm();
    assert_true(fired && file.ok());
  }
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_first_start_fails_cleanly, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_start_over_a_stale_file_fails_cleanly, set_up, tear_down),
      cmocka_unit_test_setup_teardown(interrupted_calls_are_repeated, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
