// Making the control socket while the Nth system call fails: an error, no file, no descriptor.
// wrap: socket bind listen fchmod fchmodat link rename mkdir chmod lchown
#include "core/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "fail_at.h"

using gatehouse::ControlPlace;
using gatehouse::ControlSocket;
using gatehouse::make_control_socket;
using gatehouse::Result;
namespace fault = gatehouse::fault;

GH_FAIL_AT(int, socket, (int family, int type, int protocol), (family, type, protocol));
GH_FAIL_AT(int, bind, (int fd, const sockaddr* address, socklen_t size), (fd, address, size));
GH_FAIL_AT(int, listen, (int fd, int backlog), (fd, backlog));
GH_FAIL_AT(int, fchmod, (int fd, mode_t mode), (fd, mode));
GH_FAIL_AT(int, fchmodat, (int folder, const char* path, mode_t mode, int flags),
           (folder, path, mode, flags));
GH_FAIL_AT(int, link, (const char* from, const char* to), (from, to));
GH_FAIL_AT(int, rename, (const char* from, const char* to), (from, to));
GH_FAIL_AT(int, mkdir, (const char* path, mode_t mode), (path, mode));
GH_FAIL_AT(int, chmod, (const char* path, mode_t mode), (path, mode));
GH_FAIL_AT(int, lchown, (const char* path, uid_t user, gid_t group), (path, user, group));

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

size_t entries() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& one :
       std::filesystem::recursive_directory_iterator(directory)) {
    ++count;
  }
  return count;
}

ControlPlace place() {
  ControlPlace place;
  place.path = directory + "/run/control.sock";
  place.readers = getegid();
  return place;
}

void a_first_start_fails_cleanly(void**) {
  const std::set<int> before = fault::open_descriptors();
  for (int nth = 1; nth < 100; ++nth) {
    fault::arm(nth, EIO);
    bool held;
    {
      const Result<ControlSocket> made = make_control_socket(place());
      held = made.ok();
    }
    const bool fired = fault::fired();
    fault::disarm();
    assert_true(fault::open_descriptors() == before);
    assert_int_equal(entries(), held ? 2 : 0);
    assert_true(held != fired);
    // mkdir, chmod, socket, fchmod, bind, lchown, fchmodat, listen, link
    if (!fired) return assert_int_equal(nth, 10);
  }
  fail();
}

void a_start_over_a_stale_socket_fails_cleanly(void**) {
  assert_true(make_control_socket(place()).ok());  // its listener is closed at once
  struct stat stale {
  }, now{};
  assert_int_equal(lstat(place().path.c_str(), &stale), 0);
  const std::set<int> before = fault::open_descriptors();
  for (int nth = 1; nth < 100; ++nth) {
    fault::arm(nth, EIO);
    bool held;
    {
      const Result<ControlSocket> made = make_control_socket(place());
      held = made.ok();
    }
    const bool fired = fault::fired();
    fault::disarm();
    assert_true(fault::open_descriptors() == before);
    assert_int_equal(entries(), 2);
    assert_int_equal(lstat(place().path.c_str(), &now), 0);
    assert_true(held == (now.st_ino != stale.st_ino));
    assert_true(held != fired);
    // mkdir, socket (to look who answers), socket, fchmod, bind, lchown, fchmodat, listen, rename
    if (!fired) return assert_int_equal(nth, 10);
  }
  fail();
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_first_start_fails_cleanly, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_start_over_a_stale_socket_fails_cleanly, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
