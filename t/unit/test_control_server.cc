// The control socket's server over real sockets: who may do what, limits, and the socket's file.
#include "core/control_server.h"

#include <criterion/criterion.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/control_client.h"
#include "core/log.h"

namespace {

using namespace gatehouse;
using namespace std::chrono_literals;
using nlohmann::json;

std::string g_folder;

void set_up() {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  g_folder = mkdtemp(name);
  chmod(g_folder.c_str(), 0755);
  log_set_level(LogLevel::kAlert);
}

void tear_down() {
  std::filesystem::remove_all(g_folder);
}

TestSuite(control_server, .init = set_up, .fini = tear_down, .timeout = 20);

std::string socket_path() {
  return g_folder + "/run/control.sock";
}

Moment now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return Moment{int64_t{time.tv_sec} * 1'000'000 + time.tv_nsec / 1000};
}

// A server that says what it was asked, and the loop that it needs.
struct Fixture {
  std::vector<ControlRequest> requests;
  bool answers = true;
  ControlServer server{[this](ControlRequest request) {
    const uint64_t client = request.client, id = request.id;
    const json body = {{"command", request.command},
                       {"did", request.command},
                       {"uid", request.uid},
                       {"pid", request.pid}};
    requests.push_back(std::move(request));
    if (answers) server.reply(client, id, control_ok(body));
  }};

  void open(std::optional<gid_t> readers = {}) {
    ControlPlace place;
    place.path = socket_path();
    place.readers = readers;
    const Result<void> opened = server.open(place);
    cr_assert(opened.ok(), "%s", opened.ok() ? "" : opened.error().message.c_str());
  }

  // Turns until the condition, which is asked once a turn, holds.
  void run_until(const std::function<bool()>& done) {
    bool holds = done();
    for (int i = 0; i < 1000 && !holds; ++i) {
      std::vector<pollfd> list;
      server.add_descriptors(list);
      poll(list.data(), list.size(), 10);
      server.turn(now());
      holds = done();
    }
    cr_assert(holds, "what was waited for has not come");
  }
};

// A client that does not block, in this process.
struct RawClient {
  UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  RawClient() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_path().c_str());
    cr_assert(connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void send(const std::string& command, uint64_t id = 1) {
    ControlMessage message;
    message.id = id;
    message.command = command;
    cr_assert(send_control_message(socket.get(), message) == ControlStatus::kOk);
  }
  // The reply, or kClosed as id 0 and the text "closed".
  ControlMessage receive(Fixture& fixture) {
    ControlMessage message;
    ControlStatus status = ControlStatus::kWouldBlock;
    fixture.run_until([&] {
      status = receive_control_message(socket.get(), message);
      return status != ControlStatus::kWouldBlock;
    });
    if (status != ControlStatus::kOk) message.body = {{"error", "closed"}};
    return message;
  }
};

bool has(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) cr_log_error("no \"%s\" in: %s", part, text.c_str());
  return found;
}

std::string error_of(const ControlMessage& message) {
  return control_text(message.body, "error");
}

// Runs `client` in a child as user and group; gives its exit code.
int as_user(Fixture& fixture, uid_t user, gid_t group, const std::vector<gid_t>& groups,
            const std::function<int()>& client) {
  const pid_t child = fork();
  if (child == 0) {
    if ((geteuid() == 0 && setgroups(groups.size(), groups.data()) < 0) || setgid(group) < 0 ||
        setuid(user) < 0) {
      _exit(99);
    }
    _exit(client());
  }
  int status = 0;
  fixture.run_until([&] { return waitpid(child, &status, WNOHANG) == child; });
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// 0: done; 1: refused; 2: not connected; 3: no answer.
int ask_as_client(const char* command, std::string* why = nullptr) {
  Result<ControlClient> client = ControlClient::connect(socket_path(), 5s);
  if (!client) return 2;
  Result<ControlReply> reply = client->ask(command, json::object(), 5s);
  if (!reply) return 3;
  if (why != nullptr) *why = reply->error();
  return reply->ok ? 0 : 1;
}

constexpr gid_t kReaders = 4711;
constexpr uid_t kStranger = 65534;

}  // namespace

Test(control_server, asks_are_answered_now_or_later) {
  Fixture fixture;
  fixture.open();
  RawClient client;
  client.send("status", 5);
  ControlMessage reply = client.receive(fixture);
  cr_assert(reply.ok && reply.id == 5);
  cr_assert(control_text(reply.body, "did") == "status");
  cr_assert_eq(control_number(reply.body, "pid"), static_cast<uint64_t>(getpid()));
  cr_assert_eq(control_number(reply.body, "uid", 1), geteuid());

  fixture.answers = false;
  client.send("reload", 6);
  client.send("status", 7);
  fixture.run_until([&] { return fixture.requests.size() == 3; });
  for (const size_t which : {2U, 1U}) {
    const ControlRequest& request = fixture.requests[which];
    fixture.server.reply(request.client, request.id, control_error("not " + request.command));
    fixture.server.reply(request.client, request.id, control_ok());  // the second says nothing
  }
  reply = client.receive(fixture);
  cr_assert(!reply.ok && reply.id == 7 && error_of(reply) == "not status");
  reply = client.receive(fixture);
  cr_assert(reply.id == 6 && error_of(reply) == "not reload");
  ControlMessage more;
  cr_assert(receive_control_message(client.socket.get(), more) == ControlStatus::kWouldBlock);
}

Test(control_server, clients_that_go_are_forgotten) {
  Fixture fixture;
  fixture.open();
  fixture.answers = false;
  {
    RawClient client;
    client.send("reload");
    fixture.run_until([&] { return fixture.requests.size() == 1; });
    cr_assert_eq(fixture.server.clients(), 1);
  }
  fixture.run_until([&] { return fixture.server.clients() == 0; });
  fixture.server.reply(fixture.requests[0].client, fixture.requests[0].id, control_ok());
  cr_assert_eq(fixture.server.clients(), 0);
}

Test(control_server, what_is_no_command_is_refused) {
  Fixture fixture;
  fixture.open();
  RawClient client;
  client.send("statsu");
  const ControlMessage reply = client.receive(fixture);
  cr_assert(has(error_of(reply), "unknown command \"statsu\"; did you mean \"status\"?"));
  cr_assert(::send(client.socket.get(), "junk", 4, 0) == 4);
  cr_assert(has(error_of(client.receive(fixture)), "not JSON"));
  ControlMessage with_descriptor;
  with_descriptor.id = 8;
  with_descriptor.command = "status";
  with_descriptor.fds.emplace_back(dup(0));
  cr_assert(send_control_message(client.socket.get(), with_descriptor) == ControlStatus::kOk);
  const ControlMessage refused = client.receive(fixture);
  cr_assert(refused.id == 8 && has(error_of(refused), "descriptors"));
  client.send("status");
  cr_assert(client.receive(fixture).ok, "and the connection goes on");
  cr_assert_eq(fixture.requests.size(), 1);
}

Test(control_server, rights_follow_the_peer) {
  if (geteuid() != 0) cr_skip_test("only root can be somebody else");
  Fixture fixture;
  fixture.open(kReaders);
  cr_assert_eq(as_user(fixture, 0, 0, {}, [] { return ask_as_client("reload"); }), 0);
  // A member by the supplementary groups, and one by the primary group.
  cr_assert_eq(as_user(fixture, kStranger, kStranger, {1, kReaders, 3},
                       [] { return ask_as_client("status"); }),
               0);
  cr_assert_eq(as_user(fixture, kStranger, kReaders, {}, [] { return ask_as_client("status"); }),
               0);
  std::vector<gid_t> many;
  for (gid_t i = 0; i < 200; ++i) many.push_back(10'000 + i);
  many.push_back(kReaders);
  cr_assert_eq(
      as_user(fixture, kStranger, kStranger, many, [] { return ask_as_client("config_list"); }), 0);
  cr_assert_eq(fixture.requests.back().uid, kStranger);
  const size_t before = fixture.requests.size();
  for (const ControlCommand& command : kControlCommands) {
    if (command.right == ControlRight::kRead) continue;
    cr_assert_eq(as_user(fixture, kStranger, kReaders, {},
                         [&] { return ask_as_client(command.name.data()); }),
                 1);
  }
  cr_assert_eq(fixture.requests.size(), before);
  // The file keeps the others out; where it does not, the server does.
  const auto status = [] { return ask_as_client("status"); };
  cr_assert_eq(as_user(fixture, kStranger, kStranger, {}, status), 2);
  chmod(socket_path().c_str(), 0666);
  cr_assert_eq(as_user(fixture, kStranger, kStranger, {},
                       [] {
                         std::string why;
                         const int code = ask_as_client("status", &why);
                         return why.find("may not use") != std::string::npos ? code : 50;
                       }),
               1);
  cr_assert_eq(fixture.requests.size(), before);
}

Test(control_server, readers_cannot_lock_root_out) {
  if (geteuid() != 0) cr_skip_test("only root can be somebody else");
  Fixture fixture;
  fixture.open(kReaders);
  const int code = as_user(fixture, kStranger, kReaders, {}, [] {
    std::vector<ControlClient> clients;
    int served = 0, refused = 0;
    for (size_t i = 0; i < kControlReadersMax + 8; ++i) {
      Result<ControlClient> client = ControlClient::connect(socket_path(), 5s);
      if (!client) return 60;
      clients.push_back(std::move(*client));
      const Result<ControlReply> reply = clients.back().ask("status", json::object(), 5s);
      if (!reply) return 61;
      reply->ok ? ++served : ++refused;
    }
    return served == static_cast<int>(kControlReadersMax) && refused == 8 ? 0 : 62;
  });
  cr_assert_eq(code, 0);
}

Test(control_server, clients_are_limited_and_told) {
  Fixture fixture;
  fixture.open();
  std::vector<RawClient> clients(kControlClientsMax);
  for (RawClient& client : clients) {
    client.send("status");
    cr_assert(client.receive(fixture).ok);
  }
  RawClient last;
  last.send("status");
  cr_assert(has(error_of(last.receive(fixture)), "32 clients are connected already"));
  clients.pop_back();
  fixture.run_until([&] { return fixture.server.clients() < kControlClientsMax; });
  RawClient next;
  next.send("status");
  cr_assert(next.receive(fixture).ok);
}

Test(control_server, requests_of_a_client_are_limited) {
  Fixture fixture;
  fixture.open();
  fixture.answers = false;
  RawClient client;
  for (uint64_t id = 1; id <= kControlRequestsMax + 1; ++id) client.send("status", id);
  const ControlMessage reply = client.receive(fixture);
  cr_assert(reply.id == kControlRequestsMax + 1 && has(error_of(reply), "at once"));
  cr_assert_eq(fixture.requests.size(), kControlRequestsMax);
  RawClient twice;
  twice.send("status", 1);
  twice.send("reload", 1);
  cr_assert(error_of(twice.receive(fixture)) == "closed");
}

Test(control_server, a_client_that_does_not_read_is_dropped) {
  Fixture fixture;
  fixture.open();
  RawClient client;
  ControlMessage message;
  message.command = "status";
  int sent = 0;
  // It asks on and on and never reads; what waits for it is bounded.
  for (; sent < 1'000'000 && fixture.server.clients() <= 1; ++sent) {
    message.id = static_cast<uint64_t>(sent) + 1;
    const ControlStatus status = send_control_message(client.socket.get(), message);
    if (status == ControlStatus::kClosed) break;
    fixture.server.turn(now());
    if (sent > 0 && fixture.server.clients() == 0) break;
  }
  cr_assert_eq(fixture.server.clients(), 0);
  cr_assert_lt(sent, 100'000);
}

Test(control_server, what_waits_too_long_is_dropped) {
  Fixture fixture;
  fixture.open();
  RawClient client;
  client.send("status");
  cr_assert(client.receive(fixture).ok);
  const std::optional<Moment> deadline = fixture.server.next_deadline();
  cr_assert(deadline && *deadline <= now() + kControlClientIdleMax);
  fixture.server.turn(now() + (kControlClientIdleMax - 1s));
  cr_assert_eq(fixture.server.clients(), 1);
  fixture.server.turn(now() + kControlClientIdleMax);
  cr_assert_eq(fixture.server.clients(), 0);

  // Who waits for an answer is not idle.
  fixture.answers = false;
  RawClient waiting;
  waiting.send("reload");
  fixture.run_until([&] { return fixture.requests.size() == 2; });
  fixture.server.turn(now() + 10 * kControlClientIdleMax);
  cr_assert_eq(fixture.server.clients(), 1);
}

Test(control_server, the_file_has_the_right_owner_and_mode) {
  umask(077);
  Fixture fixture;
  fixture.open();
  struct stat status {};
  cr_assert(stat((g_folder + "/run").c_str(), &status) == 0 && (status.st_mode & 07777) == 0755);
  cr_assert(lstat(socket_path().c_str(), &status) == 0 && S_ISSOCK(status.st_mode));
  cr_assert_eq(status.st_mode & 07777, 0600);
  if (geteuid() == 0) {
    fixture.open(kReaders);  // a reload that sets the group
    cr_assert(lstat(socket_path().c_str(), &status) == 0);
    cr_assert((status.st_mode & 07777) == 0660 && status.st_gid == kReaders);
  }
  RawClient client;
  client.send("status");
  cr_assert(client.receive(fixture).ok);
  fixture.server.close();
  cr_assert(!std::filesystem::exists(std::filesystem::symlink_status(socket_path())));
}

Test(control_server, a_stale_socket_is_replaced_and_a_live_one_is_not) {
  Fixture first;
  first.open();
  Fixture second;
  Result<void> opened = second.server.open({.path = socket_path()});
  cr_assert(!opened.ok() && has(opened.error().message, "another gatehouse answers"));
  const pid_t child = fork();  // a crash: its copy of the listener is the last
  if (child == 0) pause();
  first.server.hand_over();
  cr_assert(kill(child, SIGKILL) == 0 && waitpid(child, nullptr, 0) == child);
  cr_assert(std::filesystem::is_socket(socket_path()));
  second.open();
  RawClient client;
  client.send("status");
  cr_assert(client.receive(second).ok);
}

Test(control_server, other_things_in_the_way_are_left_alone) {
  mkdir((g_folder + "/run").c_str(), 0755);
  Fixture fixture;
  cr_assert(symlink((g_folder + "/elsewhere").c_str(), socket_path().c_str()) == 0);
  Result<void> opened = fixture.server.open({.path = socket_path()});
  cr_assert(!opened.ok() && has(opened.error().message, "is no socket"));
  cr_assert(std::filesystem::is_symlink(socket_path()));
  cr_assert(!std::filesystem::exists(g_folder + "/elsewhere"));
  unlink(socket_path().c_str());
  mkdir(socket_path().c_str(), 0755);
  cr_assert(!fixture.server.open({.path = socket_path()}).ok());
  rmdir(socket_path().c_str());

  cr_assert(!fixture.server.open({.path = ""}).ok());
  cr_assert(!fixture.server.open({.path = g_folder + "/" + std::string(120, 'x')}).ok());
  cr_assert(!fixture.server.open({.path = g_folder + "/a/b/control.sock"}).ok());
  size_t left = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(g_folder)) {
    (void)entry;
    ++left;
  }
  cr_assert_eq(left, 1, "nothing but the folder that was there");
}

Test(control_server, a_successor_takes_the_place) {
  Fixture old;
  old.open();
  RawClient waiting;
  old.answers = false;
  waiting.send("upgrade");
  old.run_until([&] { return old.requests.size() == 1; });
  Fixture next;
  cr_assert(next.server.open({.path = socket_path(), .replace_live = true}).ok());
  old.server.hand_over();
  old.server.reply(old.requests[0].client, old.requests[0].id, control_ok());
  cr_assert(waiting.receive(old).ok, "the old one's clients hear the end");
  RawClient client;
  client.send("status");
  cr_assert(client.receive(next).ok);
  old.server.close();
  cr_assert(std::filesystem::is_socket(socket_path()), "it is not the old one's any more");
}

Test(control_server, a_server_moves_and_keeps_its_clients) {
  Fixture fixture;
  fixture.open();
  RawClient client;
  client.send("status");
  cr_assert(client.receive(fixture).ok);
  cr_assert(fixture.server.open({.path = g_folder + "/other.sock"}).ok());
  cr_assert(!std::filesystem::exists(std::filesystem::symlink_status(socket_path())));
  client.send("status");
  cr_assert(client.receive(fixture).ok);
  // What cannot be opened changes nothing.
  cr_assert(!fixture.server.open({.path = g_folder + "/no/such/x.sock"}).ok());
  cr_assert(Result<ControlClient>(ControlClient::connect(g_folder + "/other.sock", 1s)).ok());
}

Test(control_server, a_forked_child_removes_nothing) {
  Fixture fixture;
  fixture.open();
  const pid_t child = fork();
  if (child == 0) {
    fixture.server.close();
    _exit(0);
  }
  cr_assert(waitpid(child, nullptr, 0) == child);
  cr_assert(std::filesystem::is_socket(socket_path()));
}

Test(control_server, closing_inside_a_handler_is_allowed) {
  Fixture fixture;
  ControlServer* closed = nullptr;
  ControlServer server([&closed](ControlRequest request) {
    closed->reply(request.client, request.id, control_ok());
    closed->close();
  });
  closed = &server;
  cr_assert(server.open({.path = socket_path()}).ok());
  RawClient client;
  client.send("stop");
  for (int i = 0; i < 100 && server.is_open(); ++i) server.turn(now());
  cr_assert_eq(server.clients(), 0);
  cr_assert(client.receive(fixture).ok);
}

Test(control_server, the_blocking_client_asks_and_waits) {
  Fixture fixture;
  ControlClient::Failure why{};
  Result<ControlClient> absent = ControlClient::connect(socket_path(), 1s, &why);
  cr_assert(!absent.ok() && why == ControlClient::Failure::kAbsent);
  cr_assert(has(absent.error().message, "not running"));
  fixture.open();
  cr_assert_eq(as_user(fixture, geteuid(), getegid(), {}, [] { return ask_as_client("status"); }),
               0);
  fixture.answers = false;
  Result<ControlClient> client = ControlClient::connect(socket_path(), 1s, &why);
  cr_assert(client.ok());
  cr_assert_eq(client->server_pid(), getpid());
  Result<ControlReply> reply = client->ask("status", json::object(), 30ms);
  cr_assert(!reply.ok() && has(reply.error().message, "no answer within 30 ms"));
  cr_assert(!client->wait_for_end(10ms));
  fixture.server.close();
  reply = client->ask("status", json::object(), 1s);
  cr_assert(!reply.ok() && has(reply.error().message, "closed the connection"));
}
