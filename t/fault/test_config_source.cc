// Faults of a ConfigSource: each system call of load, to_memfd and from_memfd fails in turn, and
// each time the answer is an error, or a source that says what could not be read: never half a
// configuration that looks whole, and never a descriptor left open.
// wrap: open read fstat memfd_create write fcntl pread glob

#include "core/config_source.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/config_reader.h"
#include "fail_at.h"

namespace {

// Set: reads and writes move one byte at a time, as the kernel is free to do.
bool g_short = false;

size_t shorten(size_t size) {
  return g_short ? std::min<size_t>(size, 1) : size;
}

}  // namespace

GH_FAIL_AT(int, memfd_create, (const char* name, unsigned flags), (name, flags));
GH_FAIL_AT(int, fstat, (int fd, struct stat* status), (fd, status));
GH_FAIL_AT(ssize_t, read, (int fd, void* to, size_t size), (fd, to, shorten(size)));
GH_FAIL_AT(ssize_t, write, (int fd, const void* from, size_t size), (fd, from, shorten(size)));
GH_FAIL_AT(ssize_t, pread, (int fd, void* to, size_t size, off_t at), (fd, to, shorten(size), at));
GH_FAIL_AT_OPEN();

extern "C" int __real_fcntl(int fd, int command, ...);
extern "C" int __wrap_fcntl(int fd, int command, ...);
extern "C" int __wrap_fcntl(int fd, int command, ...) {
  if (gatehouse::fault::fails_now()) return -1;
  va_list arguments;
  va_start(arguments, command);
  const int argument = va_arg(arguments, int);
  va_end(arguments);
  return __real_fcntl(fd, command, argument);
}

using GlobError = int (*)(const char*, int);
extern "C" int __real_glob(const char* pattern, int flags, GlobError failed, glob_t* found);
extern "C" int __wrap_glob(const char* pattern, int flags, GlobError failed, glob_t* found);
extern "C" int __wrap_glob(const char* pattern, int flags, GlobError failed, glob_t* found) {
  if (!gatehouse::fault::fails_now()) return __real_glob(pattern, flags, failed, found);
  // As glob() does when it may not read a folder.
  return failed("folder", errno) != 0 ? GLOB_ABORTED : GLOB_NOMATCH;
}

namespace gatehouse {
namespace {

constexpr int kMaxFaults = 10'000;

std::string g_folder;

int make_folder(void**) {
  std::array<char, 64> name{"/tmp/gatehouse-config-XXXXXX"};
  if (mkdtemp(name.data()) == nullptr) return -1;
  g_folder = name.data();
  std::ofstream(g_folder + "/main.conf") << "[a]\nk = v\ninclude = d*.conf\n";
  std::ofstream(g_folder + "/d1.conf") << "[d1]\n";
  std::ofstream(g_folder + "/d2.conf") << "[d2]\n";
  return 0;
}

int remove_folder(void**) {
  fault::disarm();
  g_short = false;
  std::filesystem::remove_all(g_folder);
  return 0;
}

std::string main_file() {
  return g_folder + "/main.conf";
}

// How many sections are read, or -1 when that gives errors.
int sections_of(const ConfigSource& source) {
  ConfigErrors errors;
  const size_t sections = read_config(source, errors).size();
  return errors.empty() ? static_cast<int>(sections) : -1;
}

void load_is_whole_or_says_so(void**) {
  const std::set<int> before = fault::open_descriptors();
  int failures = 0;
  for (int nth = 1; nth < kMaxFaults; ++nth) {
    fault::arm(nth, EACCES);
    const Result<ConfigSource> source = ConfigSource::load(main_file());
    const bool fired = fault::fired();
    fault::disarm();
    assert_true(fault::open_descriptors() == before);
    if (!fired) {
      assert_true(source.ok());
      assert_int_equal(sections_of(*source), 3);
      assert_true(failures >= 3 * 4 + 1);  // open, fstat, read and read of each file; the glob
      return;
    }
    ++failures;
    if (source) assert_int_equal(sections_of(*source), -1);
  }
  fail_msg("the failures never end");
}

void a_memfd_is_whole_or_an_error(void**) {
  const Result<ConfigSource> source = ConfigSource::load(main_file());
  assert_true(source.ok());
  const std::set<int> before = fault::open_descriptors();
  int failures = 0;
  for (int nth = 1; nth < kMaxFaults; ++nth) {
    {
      fault::arm(nth, ENOSPC);
      const Result<UniqueFd> fd = source->to_memfd();
      const Result<ConfigSource> copy =
          fd ? ConfigSource::from_memfd(fd->get()) : Result<ConfigSource>(fd.error());
      const bool fired = fault::fired();
      fault::disarm();
      assert_true(copy.ok() == !fired);
      if (!fired) {
        assert_int_equal(sections_of(*copy), 3);
        assert_int_equal(failures, 6);  // create, write, seal; seals, fstat, pread
        return;
      }
      ++failures;
    }
    assert_true(fault::open_descriptors() == before);
  }
  fail_msg("the failures never end");
}

void interrupted_calls_are_repeated(void**) {
  int survived = 0;
  for (int nth = 1; nth < kMaxFaults; ++nth) {
    fault::arm(nth, EINTR);
    const Result<ConfigSource> source = ConfigSource::load(main_file());
    const bool fired = fault::fired();
    fault::disarm();
    if (!fired) break;
    if (source && sections_of(*source) == 3) ++survived;
  }
  assert_int_equal(survived, 6);  // two reads of each of three files
}

void bytes_may_come_and_go_one_by_one(void**) {
  g_short = true;
  const Result<ConfigSource> source = ConfigSource::load(main_file());
  assert_true(source.ok());
  const Result<UniqueFd> fd = source->to_memfd();
  assert_true(fd.ok());
  const Result<ConfigSource> copy = ConfigSource::from_memfd(fd->get());
  g_short = false;
  assert_true(copy.ok());
  assert_int_equal(sections_of(*copy), 3);
}

}  // namespace
}  // namespace gatehouse

int main() {
  using namespace gatehouse;
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(load_is_whole_or_says_so, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(a_memfd_is_whole_or_an_error, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(interrupted_calls_are_repeated, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(bytes_may_come_and_go_one_by_one, make_folder, remove_folder),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
