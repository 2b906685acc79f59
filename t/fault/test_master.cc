// The master as a whole: real forks and sockets, killed workers, every signal, failing calls.
//
// The master runs in a child of the test, or in the test itself where calls are made to fail; the
// workers report what they see in a zone of the shared segment.
// wrap: socket bind listen fork socketpair signalfd open link write fsync
#include "core/master.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "core/channel.h"
#include "core/log.h"
#include "core/log_files.h"
#include "core/pid_file.h"
#include "core/process_title.h"
#include "core/shared_memory.h"
#include "fail_at.h"

using namespace gatehouse;  // NOLINT: a program of its own
namespace fault = gatehouse::fault;

GH_FAIL_AT(int, socket, (int family, int type, int protocol), (family, type, protocol));
GH_FAIL_AT(int, bind, (int fd, const sockaddr* address, socklen_t size), (fd, address, size));
GH_FAIL_AT(int, listen, (int fd, int backlog), (fd, backlog));
GH_FAIL_AT(pid_t, fork, (void), ());
GH_FAIL_AT(int, socketpair, (int family, int type, int protocol, int* ends),
           (family, type, protocol, ends));
GH_FAIL_AT(int, signalfd, (int fd, const sigset_t* mask, int flags), (fd, mask, flags));
GH_FAIL_AT(int, link, (const char* from, const char* to), (from, to));
GH_FAIL_AT(ssize_t, write, (int fd, const void* bytes, size_t size), (fd, bytes, size));
GH_FAIL_AT(int, fsync, (int fd), (fd));
GH_FAIL_AT_OPEN();

namespace {

// What a worker tells of itself, and the master of it.
struct Row {
  std::atomic<int32_t> pid;
  std::atomic<uint32_t> starts;
  std::atomic<uint32_t> ends;  // counted by the master's callback
  std::atomic<uint32_t> port;
  std::atomic<uint64_t> socket;  // inode of the first listening socket
  std::atomic<uint32_t> foreign_fds;
  std::atomic<uint32_t> user;
  std::atomic<uint32_t> nofile;
  std::atomic<uint32_t> reopens;
  std::atomic<uint32_t> orphaned;
};
constexpr size_t kRows = 8;

struct Setting {
  std::string directory;
  ProcessPlan plan;
  std::unique_ptr<SharedMemory> shared;
  Row* rows = nullptr;
};
Setting* g = nullptr;

int set_up(void**) {
  g = new Setting;
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  g->directory = mkdtemp(name);
  chmod(g->directory.c_str(), 0755);
  g->shared = std::make_unique<SharedMemory>(std::move(*SharedMemory::create(1_MiB)));
  g->rows =
      zone_as<Row>(*g->shared->adopt_or_create_zone("rows", "row", 1, sizeof(Row) * kRows), kRows);
  g->plan.pools = {{.name = "default", .workers = 2, .connections_max = 100, .nofile = 0}};
  g->plan.listeners = {{.name = "public",
                        .addresses = {*SocketAddress::parse("127.0.0.1:0"),
                                      *SocketAddress::parse("unix:" + g->directory + "/sock")},
                        .pool = "default",
                        .backlog = 100,
                        .where = {}}};
  g->plan.pid_file = g->directory + "/pid";
  g->plan.error_log.path = g->directory + "/error.log";
  g->plan.error_log_level = LogLevel::kInfo;
  g->plan.log_files = {{g->directory + "/access.log", ""}};
  g->plan.drain_timeout = Duration{5000};
  return 0;
}

// Also after a failed assertion no master may be left; its workers follow it.
int tear_down(void**) {
  if (Result<pid_t> daemon = read_live_pid(g->directory + "/pid")) kill(*daemon, SIGKILL);
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  std::filesystem::remove_all(g->directory);
  delete g;
  g = nullptr;
  return 0;
}

void pause_ms(int ms) {
  poll(nullptr, 0, ms);
}

// Waits up to ten seconds for something to become true.
bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    pause_ms(5);
  }
  return false;
}

std::string content(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

bool logged(const std::string& text) {
  return content(g->directory + "/error.log").find(text) != std::string::npos;
}

// ---- Workers ------------------------------------------------------------------------------------

void describe_self(const WorkerContext& context, Row& row) {
  std::set<int> mine = {
      0, 1, 2, context.channel_fd, log_descriptor(), context.shared->fd(), context.config_fd};
  for (const WorkerSocket& listener : context.plan.sockets) mine.insert(listener.fd);
  for (const WorkerLog& file : context.plan.logs) mine.insert(file.fd);
  uint32_t foreign = 0;
  for (int fd : fault::open_descriptors()) foreign += mine.count(fd) == 0 ? 1 : 0;
  row.foreign_fds = foreign;
  struct stat info {};
  if (!context.plan.sockets.empty() && fstat(context.plan.sockets[0].fd, &info) == 0) {
    row.socket = info.st_ino;
    row.port = context.plan.sockets[0].address.port();
  }
  row.user = geteuid();
  row.nofile = context.nofile;
  row.starts++;
  row.pid = getpid();
}

void serve(int listener) {
  UniqueFd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  std::string answer = std::to_string(getpid());
  if (write(client.get(), answer.data(), answer.size()) < 0) GH_LOG(kError, "cannot answer");
}

// Answers each connection with its process id, and obeys.
int obedient_worker(const WorkerContext& context) {
  Row& row = zone_as<Row>(context.shared->find_zone("rows", "row", 1), kRows)[context.row];
  if (!context.plan.logs.empty()) {
    dprintf(context.plan.logs[0].fd, "worker %u\n", context.index);
  }
  channel_send(context.channel_fd, ChannelVerb::kReady);
  describe_self(context, row);
  std::vector<pollfd> list = {{.fd = context.channel_fd, .events = POLLIN, .revents = 0}};
  for (const WorkerSocket& listener : context.plan.sockets) {
    list.push_back({.fd = listener.fd, .events = POLLIN, .revents = 0});
  }
  for (;;) {
    poll(list.data(), list.size(), -1);
    for (size_t i = 1; i < list.size(); ++i) {
      if (list[i].revents != 0) serve(list[i].fd);
    }
    ChannelMessage message;
    ChannelStatus status = channel_receive(context.channel_fd, message);
    if (status == ChannelStatus::kClosed) {
      row.orphaned++;
      return 0;
    }
    if (status != ChannelStatus::kOk) continue;
    if (message.verb == ChannelVerb::kDrain || message.verb == ChannelVerb::kStop) return 0;
    if (message.verb == ChannelVerb::kReopenLog && adopt_reopened_log(message, context.plan.logs)) {
      if (!context.plan.logs.empty()) dprintf(context.plan.logs[0].fd, "reopened\n");
      row.reopens++;
    }
  }
}

WorkerMain ending_at_once(const std::function<int(const WorkerContext&)>& work) {
  return [work](WorkerContext context) -> int { _exit(work(context)); };
}

int run(const std::function<int(const WorkerContext&)>& work) {
  MasterCalls calls;
  calls.worker_main = ending_at_once(work);
  calls.on_worker_exit = [rows = g->rows](uint32_t row) { rows[row].ends++; };
  MasterStart start;
  start.config = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  start.plan = g->plan;
  return run_master(std::move(start), *g->shared, calls);
}

// ---- The master in a child ----------------------------------------------------------------------

pid_t start_master(const std::function<int(const WorkerContext&)>& work = obedient_worker) {
  std::fflush(nullptr);
  pid_t child = fork();
  if (child == 0) {
    int quiet = open((g->directory + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(quiet, STDERR_FILENO);
    _exit(run(work));
  }
  return child;
}

bool all_started() {
  for (uint32_t i = 0; i < g->plan.pools[0].workers; ++i) {
    if (g->rows[i].pid == 0) return false;
  }
  return logged("started: ");
}

int end_of(pid_t child) {
  int status = 0;
  bool ended = eventually([&] { return waitpid(child, &status, WNOHANG) == child; });
  if (!ended) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// What a worker answers to a connection; "" where nobody listens.
std::string ask() {
  SocketAddress address = SocketAddress::ip(*IpAddress::parse("127.0.0.1"),
                                            static_cast<uint16_t>(g->rows[0].port.load()));
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), address.data(), address.size()) < 0) return "";
  char answer[32];
  ssize_t size = read(fd.get(), answer, sizeof answer);
  return {answer, size > 0 ? static_cast<size_t>(size) : 0};
}

bool gone(int pid) {
  return kill(pid, 0) < 0 && errno == ESRCH;
}

// ---- Tests --------------------------------------------------------------------------------------

void a_killed_worker_is_replaced_on_the_same_socket(void**) {
  pid_t master = start_master();
  assert_true(eventually(all_started));
  int victim = g->rows[0].pid, other = g->rows[1].pid;
  uint64_t socket = g->rows[0].socket;
  assert_true(socket != 0 && socket != g->rows[1].socket);
  assert_int_equal(g->rows[0].port, g->rows[1].port);
  assert_int_equal(g->rows[0].foreign_fds, 0);
  assert_int_equal(g->rows[1].foreign_fds, 0);

  kill(victim, SIGKILL);
  assert_true(eventually([] { return g->rows[0].starts == 2; }));
  assert_true(eventually([&] { return g->rows[0].pid != victim; }));
  assert_int_equal(g->rows[0].ends, 1);
  assert_true(g->rows[0].socket == socket);
  assert_int_equal(g->rows[0].foreign_fds, 0);
  assert_int_equal(g->rows[1].pid, other);
  assert_true(logged("worker default/0: process " + std::to_string(victim) +
                     " was killed by signal 9 (KILL)"));

  kill(master, SIGQUIT);
  assert_int_equal(end_of(master), 0);
  assert_true(gone(other));
  assert_string_equal(ask().c_str(), "");
  assert_false(std::filesystem::exists(g->plan.pid_file));
  assert_false(std::filesystem::exists(g->directory + "/sock"));
}

void a_waiting_connection_is_served_by_the_replacement(void**) {
  g->plan.pools[0].workers = 1;
  pid_t master = start_master();
  assert_true(eventually(all_started));
  int victim = g->rows[0].pid;
  assert_string_equal(ask().c_str(), std::to_string(victim).c_str());
  kill(victim, SIGSTOP);
  SocketAddress address =
      SocketAddress::ip(IpAddress::v4(INADDR_LOOPBACK), static_cast<uint16_t>(g->rows[0].port));
  UniqueFd waiting(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  assert_int_equal(connect(waiting.get(), address.data(), address.size()), 0);
  kill(victim, SIGKILL);
  char answer[32] = {};
  assert_true(read(waiting.get(), answer, sizeof answer - 1) > 0);
  assert_true(eventually([&] { return g->rows[0].pid != victim; }));
  assert_int_equal(std::atoi(answer), g->rows[0].pid);
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

void logs_are_reopened_everywhere(void**) {
  pid_t master = start_master();
  assert_true(eventually(all_started));
  std::filesystem::rename(g->directory + "/access.log", g->directory + "/access.1");
  std::filesystem::rename(g->directory + "/error.log", g->directory + "/error.1");
  assert_true(send_signal_from_pid_file(g->plan.pid_file, SIGUSR1).ok());
  // Two files each.
  assert_true(eventually([] { return g->rows[0].reopens == 2 && g->rows[1].reopens == 2; }));
  assert_true(content(g->directory + "/access.log").find("reopened") != std::string::npos);
  assert_true(content(g->directory + "/access.1").find("reopened") == std::string::npos);
  kill(g->rows[0].pid, SIGKILL);
  assert_true(eventually([] { return g->rows[0].starts == 2; }));
  assert_true(logged("was killed by signal 9"));
  assert_true(content(g->directory + "/access.log").find("worker 0") != std::string::npos);
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

void signals_reach_the_master_alone(void**) {
  pid_t master = start_master();
  assert_true(eventually(all_started));
  kill(master, SIGHUP);
  assert_true(eventually([] { return logged("reload: refused, generation 1 goes on"); }));
  // The terminal's signals reach the whole group; workers wait for their master's word.
  kill(g->rows[0].pid, SIGINT);
  kill(g->rows[0].pid, SIGHUP);
  kill(master, SIGUSR1);
  assert_true(eventually([] { return g->rows[0].reopens == 2; }));
  assert_int_equal(g->rows[0].starts, 1);
  kill(master, SIGINT);
  assert_int_equal(end_of(master), 0);
}

int deaf_worker(const WorkerContext& context) {
  channel_send(context.channel_fd, ChannelVerb::kReady);
  describe_self(context,
                zone_as<Row>(context.shared->find_zone("rows", "row", 1), kRows)[context.row]);
  for (;;) pause();
}

void a_worker_that_does_not_finish_is_killed(void**) {
  g->plan.drain_timeout = Duration{100};
  pid_t master = start_master(deaf_worker);
  assert_true(eventually(all_started));
  kill(master, SIGQUIT);
  assert_int_equal(end_of(master), 0);
  assert_true(logged("2 workers did not stop in time and were killed"));
  assert_true(gone(g->rows[0].pid) && gone(g->rows[1].pid));
  assert_int_equal(g->rows[0].ends + g->rows[1].ends, 2);
}

void asked_again_it_stops_at_once(void**) {
  g->plan.drain_timeout = Duration{3'600'000};
  pid_t master = start_master(deaf_worker);
  assert_true(eventually(all_started));
  kill(master, SIGQUIT);
  assert_true(eventually([] { return logged("stopping gracefully"); }));
  kill(master, SIGTERM);
  assert_true(eventually([] { return logged("stopping at once"); }));
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

void a_worker_that_never_gets_ready_fails_the_start(void**) {
  pid_t master = start_master([](const WorkerContext& context) {
    return context.index == 1 ? 3 : obedient_worker(context);
  });
  assert_int_equal(end_of(master), 1);
  assert_true(logged("worker default/1: process"));
  assert_true(logged("exited with status 3 before it was ready"));
  assert_true(content(g->directory + "/stderr").find("cannot start: a worker ended") !=
              std::string::npos);
  assert_false(std::filesystem::exists(g->plan.pid_file));
}

void deaths_in_a_row_are_slowed_down(void**) {
  g->plan.pools[0].workers = 1;
  pid_t master = start_master([](const WorkerContext& context) {
    Row& row = zone_as<Row>(context.shared->find_zone("rows", "row", 1), kRows)[context.row];
    bool first = row.starts == 0;
    channel_send(context.channel_fd, ChannelVerb::kReady);
    describe_self(context, row);
    if (first) pause_ms(50);
    return 7;
  });
  assert_true(eventually([] { return g->rows[0].starts >= 1; }));
  auto begin = std::chrono::steady_clock::now();
  assert_true(eventually([] { return g->rows[0].starts >= 5; }));
  // At once, then 100, 200 and 400 ms: a slow machine takes longer, none may take less.
  assert_true(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(690));
  std::string log = content(g->plan.error_log.path);
  size_t at = 0;
  for (const char* when : {"at once", "in 100 ms", "in 200 ms", "in 400 ms"}) {
    at = log.find(std::string("status 7; a replacement starts ") + when, at);
    assert_true(at != std::string::npos);
  }
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

void workers_leave_when_their_master_dies(void**) {
  pid_t master = start_master();
  assert_true(eventually(all_started));
  int workers[] = {g->rows[0].pid, g->rows[1].pid};
  kill(master, SIGKILL);
  assert_int_equal(end_of(master), 1000 + SIGKILL);
  assert_true(eventually([] { return g->rows[0].orphaned == 1 && g->rows[1].orphaned == 1; }));
  assert_true(eventually([&] { return gone(workers[0]) && gone(workers[1]); }));

  for (size_t i = 0; i < kRows; ++i) g->rows[i].pid = 0;
  pid_t next = start_master();  // over the stale pid file and unix path
  assert_true(eventually([] { return g->rows[0].pid != 0 && g->rows[1].pid != 0; }));
  kill(next, SIGQUIT);
  assert_int_equal(end_of(next), 0);
}

void all_reasons_are_told_at_once(void**) {
  UniqueFd taken = std::move(*listen_at(*SocketAddress::parse("127.0.0.1:0"), {}));
  SocketAddress address = *local_address(taken.get());
  g->plan.listeners[0].addresses.push_back(address);
  g->plan.listeners.push_back({"second", {*SocketAddress::parse("192.0.2.1:80")}, "none", 1, {}});
  g->plan.log_files.push_back({g->directory + "/missing/x.log", ""});
  pid_t master = start_master();
  assert_int_equal(end_of(master), 1);
  std::string text = content(g->directory + "/stderr");
  assert_true(text.find("listener public: cannot listen on " + address.format()) !=
              std::string::npos);
  assert_true(text.find("listener second: there is no pool none") != std::string::npos);
  assert_true(text.find("192.0.2.1:80") != std::string::npos);
  assert_true(text.find("/missing/x.log") != std::string::npos);
  assert_false(std::filesystem::exists(g->directory + "/sock"));
  assert_false(std::filesystem::exists(g->plan.pid_file));
}

// Runs run_master() in a child whose output the test reads to its end, as a shell's pipe would.
int run_piped() {
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
  std::fflush(nullptr);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);  // as exec would have done
    close(ends[1]);
    _exit(run(obedient_worker));
  }
  close(ends[1]);
  pollfd waiting{.fd = ends[0], .events = POLLIN, .revents = 0};
  char bytes[4096];
  bool at_end = false;
  while (!at_end && poll(&waiting, 1, 10000) == 1) at_end = read(ends[0], bytes, sizeof bytes) <= 0;
  close(ends[0]);
  int code = end_of(child);
  return at_end ? code : -2;
}

void a_daemon_reports_its_start_and_lets_go(void**) {
  g->plan.daemon = true;
  assert_int_equal(run_piped(), 0);
  assert_true(eventually(all_started));
  assert_int_equal(g->rows[0].foreign_fds, 0);
  Result<pid_t> master = read_live_pid(g->plan.pid_file);
  assert_true(master.ok() && getsid(*master) != getsid(0) && getsid(*master) != *master);

  assert_int_equal(run_piped(), 1);  // a second one
  g->plan.log_files.push_back({g->directory + "/missing/x.log", ""});
  g->plan.pid_file += ".other";
  assert_int_equal(run_piped(), 1);  // a failure before the fork of the workers
  assert_true(kill(*master, 0) == 0);

  kill(*master, SIGQUIT);
  // Its parent is gone; whoever took it over may reap it late, so look at what it leaves.
  assert_true(eventually([] { return logged("master] stopped"); }));
  assert_true(eventually([] { return !std::filesystem::exists(g->directory + "/pid"); }));
}

void workers_are_not_root(void**) {
  if (geteuid() != 0) skip();
  g->plan.user = "nobody";
  pid_t master = start_master();
  assert_true(eventually(all_started));
  assert_int_equal(g->rows[0].user, 65534);
  assert_true(g->rows[0].nofile >= 200);
  struct stat info {};
  assert_int_equal(stat((g->directory + "/access.log").c_str(), &info), 0);
  assert_int_equal(info.st_uid, 65534);
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

std::string command_line(int pid) {
  return content("/proc/" + std::to_string(pid) + "/cmdline").c_str();
}

void ps_shows_who_is_who(void**) {
  pid_t master = start_master();
  assert_true(eventually(all_started));
  assert_string_equal(command_line(master).c_str(), "gatehouse: master");
  assert_string_equal(command_line(g->rows[1].pid).c_str(), "gatehouse: worker default/1");
  assert_true(content("/proc/" + std::to_string(master) + "/comm").starts_with("gatehouse"));
  assert_non_null(std::getenv("PATH"));
  kill(master, SIGTERM);
  assert_int_equal(end_of(master), 0);
}

// The worker stops its master as soon as it runs.
int stopping_worker(const WorkerContext& context) {
  channel_send(context.channel_fd, ChannelVerb::kReady);
  kill(getppid(), SIGTERM);
  pollfd waiting{.fd = context.channel_fd, .events = POLLIN, .revents = 0};
  poll(&waiting, 1, -1);
  return 0;
}

void any_failing_call_is_survived_or_undone(void**) {
  g->plan.pools[0].workers = 1;
  assert_true(log_open(g->plan.error_log.path, LogLevel::kInfo).ok());
  int kept = dup(STDERR_FILENO);
  int quiet = open((g->directory + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(quiet, STDERR_FILENO);
  close(quiet);
  std::set<int> before = fault::open_descriptors();
  int nth = 1, failed = 0;
  for (; nth < 200; ++nth) {
    fault::arm(nth, EAGAIN);
    int code = run(stopping_worker);
    bool fired = fault::fired();
    fault::disarm();
    failed += code != 0 ? 1 : 0;
    assert_true(code == 0 || (code == 1 && fired));
    assert_true(fault::open_descriptors() == before);
    assert_int_equal(waitpid(-1, nullptr, WNOHANG), -1);  // no child is left
    for (const auto& entry : std::filesystem::directory_iterator(g->directory)) {
      std::string name = entry.path().filename();
      assert_true(name == "error.log" || name == "access.log" || name == "stderr");
    }
    std::filesystem::remove(g->directory + "/access.log");
    if (!fired) break;
  }
  dup2(kept, STDERR_FILENO);
  close(kept);
  log_adopt(STDERR_FILENO);
  assert_in_range(nth, 20, 199);
  assert_in_range(failed, 12, nth);
}

}  // namespace

int main(int argc, char** argv) {
  init_process_title(argc, argv);
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_killed_worker_is_replaced_on_the_same_socket, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(a_waiting_connection_is_served_by_the_replacement, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(logs_are_reopened_everywhere, set_up, tear_down),
      cmocka_unit_test_setup_teardown(signals_reach_the_master_alone, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_worker_that_does_not_finish_is_killed, set_up, tear_down),
      cmocka_unit_test_setup_teardown(asked_again_it_stops_at_once, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_worker_that_never_gets_ready_fails_the_start, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(deaths_in_a_row_are_slowed_down, set_up, tear_down),
      cmocka_unit_test_setup_teardown(workers_leave_when_their_master_dies, set_up, tear_down),
      cmocka_unit_test_setup_teardown(all_reasons_are_told_at_once, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_daemon_reports_its_start_and_lets_go, set_up, tear_down),
      cmocka_unit_test_setup_teardown(workers_are_not_root, set_up, tear_down),
      cmocka_unit_test_setup_teardown(ps_shows_who_is_who, set_up, tear_down),
      cmocka_unit_test_setup_teardown(any_failing_call_is_survived_or_undone, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
