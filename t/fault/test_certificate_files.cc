// Faults of reading certificates' files: each system call fails in turn, files vanish, change under
// the reading, are pipes, are too large. Each time there is an error, or the file's place says why
// it could not be read: never half a file that looks whole, never a wait, and never a descriptor
// left open.
// wrap: open read fstat stat pwrite fcntl memfd_create ftruncate mmap

#include "core/certificate_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdarg>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "fail_at.h"

namespace {

bool g_short = false;                 // reads and writes move one byte at a time
std::function<void()> g_before_read;  // called before each read
std::function<void()> g_before_open;  // likewise
int g_opened = 0;

size_t shorten(size_t size) {
  return g_short ? std::min<size_t>(size, 1) : size;
}

}  // namespace

GH_FAIL_AT(int, memfd_create, (const char* name, unsigned flags), (name, flags));
GH_FAIL_AT(int, fstat, (int fd, struct stat* status), (fd, status));
GH_FAIL_AT(int, ftruncate, (int fd, off_t size), (fd, size));
GH_FAIL_AT(ssize_t, pwrite, (int fd, const void* from, size_t size, off_t at),
           (fd, from, shorten(size), at));

extern "C" ssize_t __real_read(int fd, void* to, size_t size);
extern "C" ssize_t __wrap_read(int fd, void* to, size_t size);
extern "C" ssize_t __wrap_read(int fd, void* to, size_t size) {
  if (gatehouse::fault::fails_now()) return -1;
  if (g_before_read) g_before_read();
  return __real_read(fd, to, shorten(size));
}

extern "C" int __real_open(const char* path, int flags, ...);
extern "C" int __wrap_open(const char* path, int flags, ...);
extern "C" int __wrap_open(const char* path, int flags, ...) {
  ++g_opened;
  if (gatehouse::fault::fails_now()) return -1;
  if (g_before_open) g_before_open();
  return __real_open(path, flags);
}

extern "C" int __real_stat(const char* path, struct stat* status);
extern "C" int __wrap_stat(const char* path, struct stat* status);
extern "C" int __wrap_stat(const char* path, struct stat* status) {
  return gatehouse::fault::fails_now() ? -1 : __real_stat(path, status);
}

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

extern "C" void* __real_mmap(void* at, size_t size, int protection, int flags, int fd, off_t from);
extern "C" void* __wrap_mmap(void* at, size_t size, int protection, int flags, int fd, off_t from);
extern "C" void* __wrap_mmap(void* at, size_t size, int protection, int flags, int fd, off_t from) {
  return gatehouse::fault::fails_now() ? MAP_FAILED
                                       : __real_mmap(at, size, protection, flags, fd, from);
}

namespace gatehouse {
namespace {

const std::string g_folder = std::filesystem::temp_directory_path() / "gatehouse-certificate-files";

std::string path_of(const char* name) {
  return g_folder + "/" + name;
}

void write_file(const char* name, const std::string& content) {
  std::ofstream(path_of(name), std::ios::binary | std::ios::trunc) << content;
}

CertificatePlan plan_of(const char* certificate, const char* key) {
  PlannedCertificate planned;
  planned.name = "a";
  planned.certificates.push_back({{certificate, {0, 1}, "x:1"}, path_of(certificate)});
  planned.keys.push_back({{key, {0, 2}, "x:2"}, path_of(key)});
  return {planned};
}

Result<CertificateTexts> read_all(const CertificatePlan& plan) {
  Result<CertificateReader> reader = CertificateReader::start(plan);
  if (!reader) return reader.error();
  const Result<bool> done = reader->read_until(Moment{INT64_MAX});
  if (!done) return done.error();
  const Result<UniqueFd> sealed = reader->seal();
  if (!sealed) return sealed.error();
  return CertificateTexts::open(sealed->get());
}

// What is told of the first file, which cannot be read; the second one can.
std::string reason_of(const CertificatePlan& plan) {
  const Result<CertificateTexts> texts = read_all(plan);
  assert_true(texts.ok());
  assert_int_equal(texts->size(), 2);
  assert_false(texts->readable(0));
  assert_true(texts->readable(1));
  assert_true(texts->text(1) == "the key");
  return std::string(texts->text(0));
}

int set_up(void**) {
  std::filesystem::remove_all(g_folder);
  std::filesystem::create_directories(g_folder);
  g_short = false;
  g_before_read = nullptr;
  g_before_open = nullptr;
  g_opened = 0;
  write_file("a.pem", std::string(40'000, 'c') + "end");
  write_file("a.key", "the key");
  return 0;
}

int tear_down(void**) {
  fault::disarm();
  std::filesystem::remove_all(g_folder);
  return 0;
}

void each_call_fails_in_turn(void**) {
  const CertificatePlan plan = plan_of("a.pem", "a.key");
  const std::string whole = std::string(40'000, 'c') + "end";
  for (const int error : {EIO, EACCES, ENOMEM, EINTR}) {
    const auto before = fault::open_descriptors();
    int nth = 0;
    bool met = true;
    while (met) {
      fault::arm(++nth, error);
      {
        const Result<CertificateTexts> texts = read_all(plan);
        met = fault::fired();
        fault::disarm();
        if (!texts) assert_false(texts.error().message.empty());
        for (size_t i = 0; texts && i < texts->size(); ++i) {
          const std::string_view text = texts->text(i);
          if (texts->readable(i)) {
            assert_true(text == (i == 0 ? std::string_view(whole) : "the key"));
          } else {
            assert_true(text.size() > 5 && text.size() < 200);
          }
        }
        if (!met) assert_true(texts.ok() && texts->readable(0) && texts->readable(1));
      }
      assert_true(fault::open_descriptors() == before);
    }
    assert_true(nth > 12);
  }
}

void a_file_that_may_not_be_opened_is_named_with_the_reason(void**) {
  // stat is the first call on it, memfd_create the one before.
  fault::arm(3, EACCES);
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(),
                      "cannot open it: Permission denied");
}

void a_file_that_vanishes_is_an_error(void**) {
  g_before_open = [] {
    g_before_open = nullptr;
    std::filesystem::remove(path_of("a.pem"));
  };
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(),
                      "cannot open it: No such file or directory");
}

void what_is_no_file_is_not_waited_for(void**) {
  std::filesystem::remove(path_of("a.pem"));
  assert_int_equal(mkfifo(path_of("a.pem").c_str(), 0600), 0);
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(), "it is not a regular file");
  assert_int_equal(g_opened, 1);  // the key alone
  // It becomes one between the look and the opening.
  std::filesystem::remove(path_of("a.pem"));
  write_file("a.pem", "x");
  g_before_open = [] {
    g_before_open = nullptr;
    std::filesystem::remove(path_of("a.pem"));
    mkfifo(path_of("a.pem").c_str(), 0600);
  };
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(), "it is not a regular file");
  std::filesystem::remove(path_of("a.pem"));
  std::filesystem::create_directory(path_of("a.pem"));
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(), "it is not a regular file");
}

void a_file_that_is_too_large_is_refused(void**) {
  write_file("a.pem", std::string(kCertificateFileMax, 'x'));
  const Result<CertificateTexts> texts = read_all(plan_of("a.pem", "a.key"));
  assert_true(texts.ok() && texts->readable(0));
  assert_int_equal(texts->text(0).size(), kCertificateFileMax);
  write_file("a.pem", std::string(kCertificateFileMax + 1, 'x'));
  assert_string_equal(reason_of(plan_of("a.pem", "a.key")).c_str(),
                      "it is larger than 1m, the most that is read");
}

// Written over while it is read: the next attempt gets the whole of it.
void a_file_that_changes_once_is_read_again(void**) {
  const std::string now = std::string(50'000, 'd') + "END";
  int reads = 0;
  g_before_read = [&] {
    if (++reads == 2) write_file("a.pem", now);
  };
  const Result<CertificateTexts> texts = read_all(plan_of("a.pem", "a.key"));
  assert_true(texts.ok() && texts->readable(0));
  assert_true(texts->text(0) == now);
}

void a_file_that_keeps_changing_is_refused(void**) {
  int reads = 0;
  g_before_read = [&] {
    if (++reads < 100) write_file("a.pem", std::string(20'000 - static_cast<size_t>(reads), 'd'));
  };
  const CertificatePlan plan = plan_of("a.pem", "a.key");
  Result<CertificateReader> reader = CertificateReader::start(plan);
  // The slice is over after the first file.
  const Result<bool> first = reader->read_until(Moment{0});
  assert_true(first.ok() && !*first);
  g_before_read = nullptr;
  const Result<bool> second = reader->read_until(Moment{0});
  assert_true(second.ok() && *second);
  const Result<UniqueFd> sealed = reader->seal();
  const Result<CertificateTexts> texts = CertificateTexts::open(sealed->get());
  assert_true(texts.ok() && !texts->readable(0) && texts->readable(1));
  assert_true(texts->text(0) == "it changes while it is read");
  assert_true(texts->text(1) == "the key");
}

void one_byte_at_a_time_is_enough(void**) {
  write_file("a.pem", "certificate");
  g_short = true;
  const Result<CertificateTexts> texts = read_all(plan_of("a.pem", "a.key"));
  assert_true(texts.ok());
  assert_true(texts->text(0) == "certificate" && texts->text(1) == "the key");
}

}  // namespace
}  // namespace gatehouse

int main() {
  using namespace gatehouse;
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(each_call_fails_in_turn, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_may_not_be_opened_is_named_with_the_reason,
                                      set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_vanishes_is_an_error, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_no_file_is_not_waited_for, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_is_too_large_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_changes_once_is_read_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_keeps_changing_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_byte_at_a_time_is_enough, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
