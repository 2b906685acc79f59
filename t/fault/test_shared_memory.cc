// Making and attaching the shared segment while the Nth system call fails.
// wrap: memfd_create ftruncate getrandom mmap fstat
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/shared_memory.h"
#include "fail_at.h"

using gatehouse::Result;
using gatehouse::SharedMemory;
using gatehouse::UniqueFd;
using gatehouse::operator""_MiB;
namespace fault = gatehouse::fault;

GH_FAIL_AT(int, memfd_create, (const char* name, unsigned flags), (name, flags));
GH_FAIL_AT(int, ftruncate, (int fd, off_t size), (fd, size));
GH_FAIL_AT(ssize_t, getrandom, (void* bytes, size_t size, unsigned flags), (bytes, size, flags));
GH_FAIL_AT(int, fstat, (int fd, struct stat* info), (fd, info));

extern "C" void* __real_mmap(void* hint, size_t size, int protection, int flags, int fd, off_t at);
extern "C" void* __wrap_mmap(void* hint, size_t size, int protection, int flags, int fd, off_t at);
extern "C" void* __wrap_mmap(void* hint, size_t size, int protection, int flags, int fd, off_t at) {
  if (fault::fails_now()) return MAP_FAILED;
  return __real_mmap(hint, size, protection, flags, fd, at);
}

namespace {

void create_fails_cleanly(void**) {
  std::set<int> before = fault::open_descriptors();
  int failures = 0;
  for (int nth = 1; nth < 100; ++nth) {
    fault::arm(nth, ENOMEM);
    bool made = SharedMemory::create(4_MiB).ok();
    bool fired = fault::fired();
    fault::disarm();
    assert_true(fault::open_descriptors() == before);
    assert_true(made != fired);
    if (!fired) break;
    ++failures;
  }
  assert_int_equal(failures, 5);  // memfd_create, ftruncate, mmap, getrandom twice
}

void an_interrupted_getrandom_goes_on(void**) {
  fault::arm(4, EINTR);
  Result<SharedMemory> shared = SharedMemory::create(4_MiB);
  bool fired = fault::fired();
  fault::disarm();
  assert_true(fired);
  assert_true(shared.ok());
}

void attach_fails_cleanly(void**) {
  Result<SharedMemory> shared = SharedMemory::create(4_MiB);
  assert_true(shared.ok());
  std::set<int> before = fault::open_descriptors();
  int failures = 0;
  for (int nth = 1; nth < 100; ++nth) {
    UniqueFd copy(dup(shared->fd()));
    fault::arm(nth, ENOMEM);
    bool attached = SharedMemory::attach(std::move(copy)).ok();
    bool fired = fault::fired();
    fault::disarm();
    assert_true(fault::open_descriptors() == before);
    assert_true(attached != fired);
    if (!fired) break;
    ++failures;
  }
  assert_int_equal(failures, 2);  // fstat, mmap
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(create_fails_cleanly),
      cmocka_unit_test(an_interrupted_getrandom_goes_on),
      cmocka_unit_test(attach_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
