// What the service manager is told, over real sockets.
#include "core/service_notify.h"

#include <criterion/criterion.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/unique_fd.h"

namespace {

using namespace gatehouse;

// A manager that listens at `name`; "@…" is abstract.
UniqueFd manager(const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  cr_assert(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  return socket;
}

std::string heard(const UniqueFd& socket) {
  char text[4096];
  const ssize_t size = recv(socket.get(), text, sizeof text, 0);
  return size < 0 ? "nothing" : std::string(text, static_cast<size_t>(size));
}

std::string abstract_name() {
  return "@gatehouse-test-" + std::to_string(getpid());
}

}  // namespace

Test(service_notify, each_state_has_its_lines) {
  const UniqueFd socket = manager(abstract_name());
  const ServiceNotify notify(abstract_name());
  cr_assert(notify.ready(42, "generation 3 serves").ok());
  cr_assert(heard(socket) == "READY=1\nMAINPID=42\nSTATUS=generation 3 serves\n");
  cr_assert(notify.reloading(Moment{1234567}, "").ok());
  cr_assert(heard(socket) == "RELOADING=1\nMONOTONIC_USEC=1234567\n");
  cr_assert(notify.stopping("draining").ok());
  cr_assert(heard(socket) == "STOPPING=1\nSTATUS=draining\n");
  cr_assert(notify.failed(98, "in use").ok());
  cr_assert(heard(socket) == "ERRNO=98\nSTATUS=in use\n");
  cr_assert(notify.status("").ok());
  cr_assert(heard(socket) == "nothing");
}

Test(service_notify, a_status_cannot_add_a_line) {
  const UniqueFd socket = manager(abstract_name());
  cr_assert(ServiceNotify(abstract_name()).status("a\nMAINPID=1\r\nb").ok());
  cr_assert(heard(socket) == "STATUS=a MAINPID=1  b\n");
}

Test(service_notify, paths_are_taken_from_the_environment) {
  char folder[] = "/tmp/gatehouse-test-XXXXXX";
  cr_assert(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/notify";
  {
    const UniqueFd socket = manager(path);
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    const ServiceNotify notify = ServiceNotify::from_environment();
    cr_assert(notify.is_wanted() && notify.stopping("").ok());
    cr_assert(heard(socket) == "STOPPING=1\n");
  }
  cr_assert(!ServiceNotify::from_environment().stopping("").ok(), "nobody listens");
  unlink(path.c_str());
  rmdir(folder);
}

Test(service_notify, unset_means_silence_and_nonsense_is_an_error) {
  unsetenv("NOTIFY_SOCKET");
  const ServiceNotify nobody = ServiceNotify::from_environment();
  cr_assert(!nobody.is_wanted() && nobody.ready(1, "x").ok());
  cr_assert(!ServiceNotify("vsock:2:1").ready(1, "x").ok());
  cr_assert(!ServiceNotify("/" + std::string(200, 'x')).ready(1, "x").ok());
}

Test(service_notify, a_manager_that_does_not_read_does_not_block_for_ever, .timeout = 10) {
  const UniqueFd socket = manager(abstract_name());
  const ServiceNotify notify(abstract_name());
  bool full = false;
  for (int i = 0; i < 10'000 && !full; ++i) full = !notify.status("on and on").ok();
  cr_assert(full);
}
