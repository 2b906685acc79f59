// A reload and an upgrade's start with each system call failing once: refused with a reason, or
// gone through, never half; afterwards descriptors, processes and paths are as before.
//
// The master runs in the test itself and forks real children: the checker, and workers that obey
// the channel as the real ones do, without compiling anything. The calls are counted from the
// moment at which the configuration file is opened. The successor of an upgrade is this program,
// which plays it when it finds a handover.
// wrap: open fork memfd_create socketpair socket bind listen fcntl setsockopt
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/channel.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/master.h"
#include "core/process_title.h"
#include "core/sealed_bytes.h"
#include "core/shared_memory.h"
#include "core/upgrade.h"
#include "fail_at.h"

using namespace gatehouse;  // NOLINT: a program of its own
namespace fault = gatehouse::fault;

namespace {

// The failure that is armed when this file is opened; 0: none.
std::string g_config;
int g_arm_at = 0;

}  // namespace

GH_FAIL_AT(pid_t, fork, (void), ());
GH_FAIL_AT(int, memfd_create, (const char* name, unsigned flags), (name, flags));
GH_FAIL_AT(int, socketpair, (int family, int type, int protocol, int* ends),
           (family, type, protocol, ends));
GH_FAIL_AT(int, socket, (int family, int type, int protocol), (family, type, protocol));
GH_FAIL_AT(int, bind, (int fd, const sockaddr* address, socklen_t size), (fd, address, size));
GH_FAIL_AT(int, listen, (int fd, int backlog), (fd, backlog));
GH_FAIL_AT(int, setsockopt, (int fd, int level, int name, const void* value, socklen_t size),
           (fd, level, name, value, size));

extern "C" int __real_open(const char* path, int flags, ...);
extern "C" int __wrap_open(const char* path, int flags, ...);
extern "C" int __wrap_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (g_arm_at != 0 && g_config == path) fault::arm(std::exchange(g_arm_at, 0), EMFILE);
  if (fault::fails_now()) return -1;
  return __real_open(path, flags, mode);
}

extern "C" int __real_fcntl(int fd, int command, ...);
extern "C" int __wrap_fcntl(int fd, int command, ...);
extern "C" int __wrap_fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  const long argument = va_arg(rest, long);
  va_end(rest);
  if (fault::fails_now()) return -1;
  return __real_fcntl(fd, command, argument);
}

namespace {

constexpr char kMode[] = "GATEHOUSE_TEST_SUCCESSOR";

struct Setting {
  std::string directory;
  ProcessPlan plan;
  ProcessPlan next;
  std::unique_ptr<SharedMemory> shared;
  int stderr_copy = -1;
};
Setting* g = nullptr;

ListenerPlan listener(const std::string& name, const std::string& address) {
  return {name, {*SocketAddress::parse(address)}, "default", 100, {}};
}

int set_up(void**) {
  g = new Setting;
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  g->directory = mkdtemp(name);
  g_config = g->directory + "/x.conf";
  std::ofstream(g_config) << "[gatehouse]\n";
  g->shared = std::make_unique<SharedMemory>(std::move(*SharedMemory::create(1_MiB)));
  g->plan.pools = {{.name = "default", .workers = 1, .connections_max = 100, .nofile = 0}};
  g->plan.listeners = {listener("a", "127.0.0.1:0"), listener("b", "unix:" + g->directory + "/b")};
  g->plan.error_log.path = g->directory + "/error.log";
  g->plan.error_log_level = LogLevel::kInfo;
  g->plan.log_files = {{g->directory + "/one.log", ""}};
  // Everything that a reload opens: a place, sockets for it, a listener, a path, logs.
  g->next = g->plan;
  g->next.pools[0].workers = 2;
  g->next.listeners.push_back(listener("c", "127.0.0.1:0"));
  g->next.listeners.push_back(listener("d", "unix:" + g->directory + "/d"));
  g->next.log_files.push_back({g->directory + "/two.log", ""});
  g->next.error_log.path = g->directory + "/error2.log";
  // What fails here is said a thousand times.
  assert_true(log_open(g->plan.error_log.path, LogLevel::kInfo).ok());
  g->stderr_copy = dup(STDERR_FILENO);
  const UniqueFd quiet(open((g->directory + "/stderr").c_str(), O_WRONLY | O_CREAT, 0600));
  dup2(quiet.get(), STDERR_FILENO);
  return 0;
}

int tear_down(void**) {
  fault::disarm();
  dup2(g->stderr_copy, STDERR_FILENO);
  close(g->stderr_copy);
  log_adopt(STDERR_FILENO);
  std::filesystem::remove_all(g->directory);
  delete g;
  g = nullptr;
  return 0;
}

std::string content(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// What the master has said, in both of its logs.
std::string said() {
  return content(g->directory + "/error.log") + content(g->directory + "/error2.log");
}

size_t count_of(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

// ---- Workers ------------------------------------------------------------------------------------

// Asks for reloads until one has succeeded, at most so many; then stops the master.
void steer_master(unsigned& asked) {
  constexpr unsigned kStopped = 100;
  if (asked == kStopped) return;
  const std::string log = said();
  const size_t refused = count_of(log, "reload: refused");
  if (log.find(" serves") != std::string::npos || refused >= 3) {
    asked = kStopped;
    kill(getppid(), SIGTERM);
  } else if (refused == asked && log.find("started: ") != std::string::npos) {
    ++asked;
    kill(getppid(), SIGHUP);
  }
}

int obedient_worker(const WorkerContext& context) {
  const auto tell = [&context](ChannelVerb verb, uint32_t argument) {
    channel_send(context.channel_fd, verb, argument);
  };
  tell(context.wait_for_switch ? ChannelVerb::kPrepared : ChannelVerb::kReady,
       context.plan.generation);
  unsigned asked = 0;
  bool waits = context.wait_for_switch;
  std::vector<UniqueFd> fresh;
  for (;;) {
    pollfd waiting{.fd = context.channel_fd, .events = POLLIN, .revents = 0};
    poll(&waiting, 1, 5);
    if (context.index == 0) steer_master(asked);
    ChannelMessage message;
    const ChannelStatus status = channel_receive(context.channel_fd, message);
    if (status == ChannelStatus::kClosed) return 0;
    if (status != ChannelStatus::kOk) continue;
    switch (message.verb) {
      case ChannelVerb::kPrepareFds:
        for (UniqueFd& fd : message.fds) fresh.push_back(std::move(fd));
        break;
      case ChannelVerb::kPrepare: {
        // As many descriptors as the plan says, or it could not be served.
        const Result<std::string> bytes = read_sealed(message.fds[1].get(), kWorkerPlanMax);
        const Result<WorkerPlan> plan = unpack_worker_plan(*bytes);
        size_t wanted = 0;
        for (const WorkerSocket& socket : plan->sockets) wanted += socket.is_new ? 1 : 0;
        for (const WorkerLog& log : plan->logs) wanted += log.is_new ? 1 : 0;
        tell(wanted == fresh.size() ? ChannelVerb::kPrepared : ChannelVerb::kPrepareFailed,
             message.argument);
        break;
      }
      case ChannelVerb::kSwitch:
        waits = false;
        tell(ChannelVerb::kSwitched, message.argument);
        break;
      case ChannelVerb::kDiscard:
        if (waits) return 0;
        fresh.clear();
        break;
      case ChannelVerb::kDrain:
      case ChannelVerb::kStop:
        return 0;
      default:
        break;
    }
  }
}

int run_once() {
  MasterCalls calls;
  calls.worker_main = [](WorkerContext context) -> int { _exit(obedient_worker(context)); };
  calls.check = [](const std::shared_ptr<const ConfigSource>&) {
    CheckAnswer answer;
    answer.plan = g->next;
    return answer;
  };
  MasterStart start;
  start.config_path = g_config;
  start.config = std::move(*seal_bytes("test", "x"));
  start.plan = g->plan;
  return run_master(std::move(start), *g->shared, calls);
}

// What came of a run: bits of an exit code.
constexpr int kFired = 1, kExitCode = 2, kDescriptors = 4, kChildren = 8;

// In a process of its own: the log lets a place speak a few times a second only.
int run_with_failure(int nth) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const std::set<int> before = fault::open_descriptors();
    g_arm_at = nth;
    int found = run_once() == 0 ? 0 : kExitCode;
    if (fault::fired()) found |= kFired;
    fault::disarm();
    if (fault::open_descriptors() != before) found |= kDescriptors;
    if (waitpid(-1, nullptr, WNOHANG) != -1) found |= kChildren;
    _exit(found);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

void each_failing_call_of_a_reload_refuses_it_whole(void**) {
  int nth = 1, refusals = 0;
  for (;; ++nth) {
    const int found = run_with_failure(nth);
    const std::string log = said();
    const size_t refused = count_of(log, "reload: refused, generation 1 goes on: ");
    const char* serves = refused == 0 ? "generation 2 serves" : "generation 3 serves";
    // One failure refuses one reload at most, with a reason; the next one succeeds.
    if ((found & ~kFired) != 0 || refused > 1 || count_of(log, serves) != 1 ||
        count_of(log, "goes on: \n") != 0) {
      print_message("call %d, %d:\n%s\n", nth, found, log.c_str());
      fail();
    }
    refusals += static_cast<int>(refused);
    for (const char* name : {"/b", "/d"}) {
      assert_false(std::filesystem::exists(g->directory + name));
    }
    for (const char* name : {"/error.log", "/error2.log", "/one.log", "/two.log"}) {
      std::filesystem::remove(g->directory + name);
    }
    assert_true(log_open(g->plan.error_log.path, LogLevel::kInfo).ok());
    if ((found & kFired) == 0) break;
    assert_true(nth < 300);
  }
  assert_in_range(nth, 25, 299);
  assert_in_range(refusals, 20, nth);
}

// ---- Upgrade ------------------------------------------------------------------------------------

// Plays the successor; ends.
[[noreturn]] void succeed(const std::string& mode) {
  const Result<std::optional<Handover>> handover = Handover::take();
  if (!handover || !*handover || getenv("GATEHOUSE_HANDOVER") != nullptr) _exit(9);
  const Handover& given = **handover;
  const int talk = given.talk.get();
  if (mode == "crash") raise(SIGKILL);
  if (mode == "exit") _exit(3);
  if (mode == "fails") (void)say_upgrade_word(talk, UpgradeWord::kFailed, "it rains\ntoo much");
  // What was handed down is there, as it was.
  int kind = 0;
  socklen_t size = sizeof kind;
  const bool whole =
      given.generation == 41 && given.rows == std::vector<uint32_t>{0, 2} &&
      given.sockets.size() == 1 && given.sockets[0].fds.size() == 2 &&
      given.sockets[0].listener == "a" &&
      getsockopt(given.sockets[0].fds[1].get(), SOL_SOCKET, SO_ACCEPTCONN, &kind, &size) == 0 &&
      kind == 1 && given.old_pid == getppid();
  if (mode == "ready") (void)say_upgrade_word(talk, whole ? UpgradeWord::kReady : UpgradeWord::kGo);
  for (;;) {
    if (hear_upgrade_word(talk).closed) _exit(0);
    poll(nullptr, 0, 5);
  }
}

struct Old {
  std::vector<UniqueFd> listening;
  Upgrade::Inheritance inheritance;
  Upgrade upgrade;

  Old() {
    const SocketAddress any = *SocketAddress::parse("127.0.0.1:0");
    listening.push_back(std::move(*listen_at(any, {})));
    const SocketAddress address = *local_address(listening[0].get());
    listening.push_back(std::move(*listen_at(address, {})));
    inheritance = {.generation = 41,
                   .shared_fd = g->shared->fd(),
                   .rows = {0, 2},
                   .sockets = {{"a", any, address, {listening[0].get(), listening[1].get()}}}};
  }

  Result<void> start(const char* mode, Duration time = Duration(15'000)) {
    setenv(kMode, mode, 1);
    return upgrade.start(inheritance, monotonic_now() + time);
  }
  Upgrade::Outcome outcome() {
    for (;;) {
      const Upgrade::Outcome outcome = upgrade.turn(monotonic_now());
      if (outcome != Upgrade::Outcome::kPending) return outcome;
      poll(nullptr, 0, 2);
    }
  }
};

bool no_child_is_left() {
  return waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
}

void a_successor_gets_all_and_says_ready(void**) {
  const std::set<int> before = fault::open_descriptors();
  {
    Old old;
    assert_true(old.start("ready").ok());
    assert_true(old.upgrade.is_running());
    assert_int_equal(old.outcome(), Upgrade::Outcome::kReady);
    old.upgrade.cancel("enough");
    assert_int_equal(old.outcome(), Upgrade::Outcome::kFailed);
    assert_string_equal(old.upgrade.failure().c_str(), "enough");
    assert_false(old.upgrade.is_running());
    assert_true(no_child_is_left());
  }
  assert_true(fault::open_descriptors() == before);
}

void a_successor_that_fails_is_gone_and_told_of(void**) {
  struct Case {
    const char* mode;
    const char* failure;
  };
  for (const Case& one : {Case{"crash", "was killed by signal 9"},
                          Case{"exit", "exited with status 3 before it was ready"},
                          Case{"fails", "it rains\ntoo much"},
                          Case{"hang", "was not ready within upgrade_timeout"}}) {
    Old old;
    const Duration time = std::strcmp(one.mode, "hang") == 0 ? Duration(300) : Duration(15'000);
    assert_true(old.start(one.mode, time).ok());
    assert_int_equal(old.outcome(), Upgrade::Outcome::kFailed);
    assert_true(old.upgrade.failure().find(one.failure) != std::string::npos);
    assert_true(no_child_is_left());
    // And once more, with the same object.
    assert_true(old.start("ready").ok());
    assert_int_equal(old.outcome(), Upgrade::Outcome::kReady);
  }
  assert_true(no_child_is_left());
}

void each_failing_call_of_an_upgrade_refuses_its_start(void**) {
  int nth = 1;
  bool fired = true;
  for (; nth < 50 && fired; ++nth) {
    Old old;
    const std::set<int> before = fault::open_descriptors();
    fault::arm(nth, EMFILE);
    const Result<void> started = old.start("ready");
    fired = fault::fired();
    fault::disarm();
    assert_true(started.ok() != fired);
    if (started) {
      assert_int_equal(old.outcome(), Upgrade::Outcome::kReady);
      old.upgrade.cancel("enough");
      assert_int_equal(old.outcome(), Upgrade::Outcome::kFailed);
    } else {
      assert_true(!started.error().message.empty() && !old.upgrade.is_running());
    }
    assert_true(no_child_is_left());
    assert_true(fault::open_descriptors() == before);
  }
  assert_in_range(nth, 4, 49);
}

void a_handover_that_is_none_is_refused(void**) {
  assert_true(Handover::take().ok() && !*Handover::take());
  for (const char* text : {"", "x", "-1", "0", "2", "987654"}) {
    setenv("GATEHOUSE_HANDOVER", text, 1);
    assert_false(Handover::take().ok());
    assert_null(getenv("GATEHOUSE_HANDOVER"));
  }
  for (const char* json : {"", "{}", "[1]", "{\"version\":2}",
                           "{\"version\":1,\"pid\":1,\"generation\":1,\"talk\":-1}"}) {
    const std::set<int> before = fault::open_descriptors();
    Result<UniqueFd> fd = seal_bytes("test", json);
    setenv("GATEHOUSE_HANDOVER", std::to_string(fd->release()).c_str(), 1);
    assert_false(Handover::take().ok());
    assert_true(fault::open_descriptors() == before);
  }
}

void words_come_over_whole(void**) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd left(ends[0]);
  UniqueFd right(ends[1]);
  UpgradeHeard heard = hear_upgrade_word(left.get());
  assert_true(!heard.closed && !heard.word);
  for (const UpgradeWord word : {UpgradeWord::kReady, UpgradeWord::kGo, UpgradeWord::kInCharge}) {
    assert_true(say_upgrade_word(right.get(), word).ok());
    heard = hear_upgrade_word(left.get());
    assert_true(heard.word == word && heard.text.empty() && !heard.closed);
  }
  assert_true(say_upgrade_word(right.get(), UpgradeWord::kFailed, std::string(100'000, 'x')).ok());
  heard = hear_upgrade_word(left.get());
  assert_true(heard.word == UpgradeWord::kFailed && heard.text.size() > 8000);
  assert_int_equal(send(right.get(), "nonsense", 8, 0), 8);
  heard = hear_upgrade_word(left.get());
  assert_true(!heard.word && !heard.closed);
  right.reset();
  assert_true(hear_upgrade_word(left.get()).closed);
  assert_false(say_upgrade_word(left.get(), UpgradeWord::kGo).ok());
}

}  // namespace

int main(int argc, char** argv) {
  init_process_title(argc, argv);
  const char* mode = getenv(kMode);
  if (mode != nullptr && getenv("GATEHOUSE_HANDOVER") != nullptr) succeed(mode);
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(each_failing_call_of_a_reload_refuses_it_whole, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(a_successor_gets_all_and_says_ready, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_successor_that_fails_is_gone_and_told_of, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(each_failing_call_of_an_upgrade_refuses_its_start, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(a_handover_that_is_none_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(words_come_over_whole, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
