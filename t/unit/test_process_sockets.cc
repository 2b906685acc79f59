// The master's listening sockets over reloads: which are kept, shared out, closed, and when they
// begin to take connections.
#include "core/process_sockets.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"
#include "loopback.h"

namespace {

using namespace gatehouse;  // NOLINT: as in the code under test
using loopback::open_descriptors;
using Which = ListenSockets::Which;

std::string g_folder;

void set_up() {
  log_set_level(LogLevel::kAlert);
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  g_folder = mkdtemp(name);
}
void tear_down() {
  std::filesystem::remove_all(g_folder);
}

ProcessPlan plan_of(uint32_t workers, const std::vector<std::string>& addresses,
                    const std::string& name = "public", const std::string& pool = "default") {
  ProcessPlan plan;
  plan.pools = {{.name = "default", .workers = workers}, {.name = "side", .workers = 1}};
  ListenerPlan listener;
  listener.name = name;
  listener.pool = pool;
  for (const std::string& address : addresses) {
    listener.addresses.push_back(*SocketAddress::parse(address));
    listener.where.push_back("x.conf:7: " + address + ": ");
  }
  plan.listeners = {listener};
  return plan;
}

void open_all(ListenSockets& sockets, const ProcessPlan& plan) {
  cr_assert(sockets.prepare(plan).empty());
  cr_assert(sockets.start_listening(plan).empty());
  sockets.commit(plan);
}

std::set<uint64_t> ids(const std::vector<WorkerSocket>& list) {
  std::set<uint64_t> found;
  for (const WorkerSocket& socket : list) found.insert(socket.id);
  return found;
}

// An address of 127.0.0.1 that nobody has.
std::string free_address() {
  ListenOptions options;
  options.reuse_port = false;
  const UniqueFd fd = std::move(*listen_at(*SocketAddress::parse("127.0.0.1:0"), options));
  return local_address(fd.get())->format();
}

// Connects without waiting: 0, or why not.
int try_connect(const SocketAddress& address, UniqueFd& client) {
  client = UniqueFd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  return connect(client.get(), address.data(), address.size()) == 0 ? 0 : errno;
}

bool has_waiting(int listener) {
  pollfd waiting{.fd = listener, .events = POLLIN, .revents = 0};
  return poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

}  // namespace

TestSuite(process_sockets, .init = set_up, .fini = tear_down, .timeout = 20);

Test(process_sockets, each_worker_has_one_of_its_own) {
  const size_t before = open_descriptors();
  {
    ListenSockets sockets;
    const ProcessPlan plan = plan_of(3, {"127.0.0.1:0", "unix:" + g_folder + "/s"});
    open_all(sockets, plan);
    cr_assert(sockets.count() == 4);
    const auto first = sockets.of_worker(plan, "default", 0);
    const auto third = sockets.of_worker(plan, "default", 2);
    cr_assert(first.size() == 2 && third.size() == 2);
    cr_assert(first[0].id != third[0].id && first[1].id == third[1].id);
    cr_assert(first[0].address == third[0].address && first[0].address.port() != 0);
    cr_assert(first[0].listener == "public" && first[0].fd >= 0);
    cr_assert(sockets.of_worker(plan, "default", 3).empty());
    cr_assert(sockets.of_worker(plan, "side", 0).empty());
    cr_assert(sockets.of_worker(plan, "nowhere", 0).empty());
  }
  cr_assert(open_descriptors() == before);
  cr_assert(!std::filesystem::exists(g_folder + "/s"));
}

Test(process_sockets, nothing_is_taken_before_it_listens) {
  ListenSockets sockets;
  const std::string address = free_address();
  const ProcessPlan one = plan_of(1, {address});
  open_all(sockets, one);
  const ProcessPlan four = plan_of(4, {address, "unix:" + g_folder + "/s"});
  cr_assert(sockets.prepare(four).empty());
  // The committed plan does not have them, the prepared one has.
  cr_assert(sockets.of_worker(one, "default", 0).size() == 1);
  cr_assert(sockets.of_worker(four, "default", 3, Which::kPrepared).size() == 2);
  const SocketAddress at = *SocketAddress::parse(address);
  std::vector<UniqueFd> clients(32);
  for (UniqueFd& client : clients) cr_assert(try_connect(at, client) == 0);
  const int only = sockets.of_worker(one, "default", 0)[0].fd;
  size_t taken = 0;
  while (has_waiting(only)) {
    const UniqueFd accepted(accept4(only, nullptr, nullptr, SOCK_CLOEXEC));
    ++taken;
  }
  cr_assert(taken == clients.size(), "%zu", taken);
  UniqueFd early;
  cr_assert(try_connect(*SocketAddress::parse("unix:" + g_folder + "/s"), early) == ECONNREFUSED);
  sockets.discard();
  cr_assert(sockets.count() == 1 && !std::filesystem::exists(g_folder + "/s"));
  // Given up, it can be asked for again.
  open_all(sockets, four);
  cr_assert(try_connect(*SocketAddress::parse("unix:" + g_folder + "/s"), early) == 0);
  cr_assert(sockets.count() == 5);
}

Test(process_sockets, a_pool_that_shrinks_shares_its_sockets_out) {
  ListenSockets sockets;
  const std::string address = free_address();
  const ProcessPlan five = plan_of(5, {address});
  open_all(sockets, five);
  std::set<uint64_t> all;
  std::vector<std::set<uint64_t>> own;
  for (uint32_t i = 0; i < 5; ++i) {
    own.push_back(ids(sockets.of_worker(five, "default", i)));
    all.insert(own.back().begin(), own.back().end());
  }
  cr_assert(all.size() == 5);
  const ProcessPlan two = plan_of(2, {address});
  open_all(sockets, two);
  std::set<uint64_t> shared = ids(sockets.of_worker(two, "default", 0));
  cr_assert(shared.size() == 3);
  shared.merge(ids(sockets.of_worker(two, "default", 1)));
  cr_assert(shared == all);
  // New connections come to the first two sockets only.
  std::vector<UniqueFd> clients(64);
  for (UniqueFd& client : clients) {
    cr_assert(try_connect(*SocketAddress::parse(address), client) == 0);
  }
  for (uint32_t i = 0; i < 2; ++i) {
    const auto list = sockets.of_worker(two, "default", i);
    cr_assert(has_waiting(list[0].fd));
    for (size_t k = 1; k < list.size(); ++k) cr_assert(!has_waiting(list[k].fd));
  }
  // Grown again, each has its own as before, and gets connections.
  const ProcessPlan six = plan_of(6, {address});
  open_all(sockets, six);
  for (uint32_t i = 0; i < 6; ++i) {
    cr_assert(sockets.of_worker(six, "default", i).size() == 1);
    if (i < 5) cr_assert(ids(sockets.of_worker(six, "default", i)) == own[i]);
  }
  std::vector<UniqueFd> more(200);
  for (UniqueFd& client : more) {
    cr_assert(try_connect(*SocketAddress::parse(address), client) == 0);
  }
  for (uint32_t i = 0; i < 6; ++i) {
    cr_assert(has_waiting(sockets.of_worker(six, "default", i)[0].fd), "%u", i);
  }
}

Test(process_sockets, an_address_keeps_its_sockets_under_another_name_and_pool) {
  ListenSockets sockets;
  const std::string address = free_address();
  const ProcessPlan before = plan_of(2, {address});
  open_all(sockets, before);
  std::set<uint64_t> all = ids(sockets.of_worker(before, "default", 0));
  all.merge(ids(sockets.of_worker(before, "default", 1)));
  const ProcessPlan renamed = plan_of(2, {address}, "other", "side");
  open_all(sockets, renamed);
  cr_assert(ids(sockets.of_worker(renamed, "side", 0)) == all);
  cr_assert(sockets.of_worker(renamed, "side", 0)[0].listener == "other");
  cr_assert(sockets.of_worker(renamed, "default", 0).empty());
  open_all(sockets, plan_of(2, {free_address()}));
  UniqueFd client;
  cr_assert(try_connect(*SocketAddress::parse(address), client) == ECONNREFUSED);
}

Test(process_sockets, all_reasons_are_given_and_nothing_stays_open) {
  ListenSockets sockets;
  const std::string address = free_address();
  open_all(sockets, plan_of(1, {address}));
  ListenOptions options;
  options.reuse_port = true;
  const UniqueFd stranger = std::move(*listen_at(*SocketAddress::parse("127.0.0.1:0"), options));
  const std::string taken = local_address(stranger.get())->format();
  const size_t before = open_descriptors();
  ProcessPlan plan = plan_of(3, {address, taken, "unix:" + g_folder + "/s"});
  plan.listeners.push_back({"b", {*SocketAddress::parse(address)}, "none", 1, {"x.conf:9: "}});
  const std::vector<Error> errors = sockets.prepare(plan);
  cr_assert(errors.size() == 3, "%zu", errors.size());
  cr_assert(errors[0].message.starts_with("x.conf:7: " + taken + ": cannot listen on"));
  cr_assert(errors[1].message == "x.conf:9: there is no pool none");
  cr_assert(errors[2].message == "x.conf:9: " + address + " is listener public's already");
  cr_assert(open_descriptors() == before && sockets.count() == 1);
  cr_assert(!std::filesystem::exists(g_folder + "/s"));
  const std::vector<Error> nowhere = sockets.prepare(plan_of(2, {address, "192.0.2.1:80"}));
  cr_assert(nowhere.size() == 1 && nowhere[0].message.starts_with("x.conf:7: 192.0.2.1:80: "));
  cr_assert(open_descriptors() == before && sockets.count() == 1);
}

Test(process_sockets, a_wildcard_and_an_address_of_its_port_change_places) {
  ListenSockets sockets;
  const SocketAddress address = *SocketAddress::parse(free_address());
  const std::string wild = "0.0.0.0:" + std::to_string(address.port());
  open_all(sockets, plan_of(2, {wild}));
  open_all(sockets, plan_of(2, {address.format()}));
  open_all(sockets, plan_of(2, {address.format(), wild}));
  open_all(sockets, plan_of(2, {wild}));
  UniqueFd client;
  cr_assert(try_connect(address, client) == 0);
}

Test(process_sockets, a_picked_port_is_kept_by_name) {
  ListenSockets sockets;
  const ProcessPlan plan = plan_of(1, {"127.0.0.1:0", "127.0.0.1:0"});
  open_all(sockets, plan);
  const auto before = sockets.of_worker(plan, "default", 0);
  cr_assert(before.size() == 2 && before[0].address != before[1].address);
  open_all(sockets, plan);
  const auto after = sockets.of_worker(plan, "default", 0);
  cr_assert(ids(after) == ids(before) && after[1].address == before[1].address);
  const ProcessPlan renamed = plan_of(1, {"127.0.0.1:0"}, "other");
  open_all(sockets, renamed);
  cr_assert(!ids(before).contains(sockets.of_worker(renamed, "default", 0)[0].id));
}

namespace {

// What a successor gets, as exec would hand it on.
void hand_over(const ListenSockets& from, ListenSockets& to) {
  for (const ListenSockets::HandedDown& socket : from.hand_down()) {
    ListenSockets::Inherited inherited{socket.listener, socket.asked, socket.address, {}};
    for (const int fd : socket.fds) inherited.fds.emplace_back(dup(fd));
    to.inherit(std::move(inherited));
  }
}

}  // namespace

Test(process_sockets, a_successor_that_fails_leaves_the_paths) {
  const std::string a = g_folder + "/a", b = g_folder + "/b", c = g_folder + "/c";
  ListenSockets old_ones;
  const ProcessPlan plan = plan_of(2, {"127.0.0.1:0", "unix:" + a, "unix:" + b});
  open_all(old_ones, plan);
  {
    ListenSockets fresh;
    hand_over(old_ones, fresh);
    // Without /b, with /c.
    const ProcessPlan next = plan_of(2, {"127.0.0.1:0", "unix:" + a, "unix:" + c});
    open_all(fresh, next);
    cr_assert(fresh.of_worker(next, "default", 0)[0].address ==
              old_ones.of_worker(plan, "default", 0)[0].address);
    cr_assert(std::filesystem::exists(b) && std::filesystem::exists(c));
  }
  cr_assert(std::filesystem::exists(a) && std::filesystem::exists(b));
  cr_assert(!std::filesystem::exists(c));
  UniqueFd client;
  cr_assert(try_connect(*SocketAddress::parse("unix:" + a), client) == 0);
}

Test(process_sockets, a_successor_in_charge_has_the_paths) {
  const std::string a = g_folder + "/a", b = g_folder + "/b";
  ListenSockets fresh;
  {
    ListenSockets old_ones;
    open_all(old_ones, plan_of(2, {"unix:" + a, "unix:" + b}));
    hand_over(old_ones, fresh);
    open_all(fresh, plan_of(2, {"unix:" + a}));
    old_ones.keep_paths();
    fresh.take_paths();
  }
  cr_assert(std::filesystem::exists(a) && !std::filesystem::exists(b));
  UniqueFd client;
  cr_assert(try_connect(*SocketAddress::parse("unix:" + a), client) == 0);
  fresh.close();
  cr_assert(!std::filesystem::exists(a));
}

Test(process_sockets, another_socket_at_the_path_is_left_alone) {
  const std::string path = g_folder + "/s";
  ListenSockets sockets;
  open_all(sockets, plan_of(1, {"unix:" + path}));
  std::filesystem::remove(path);
  const UniqueFd other = std::move(*listen_at(*SocketAddress::parse("unix:" + path), {}));
  sockets.close();
  cr_assert(std::filesystem::exists(path));
}

Test(process_sockets, counts_the_descriptors_that_a_master_needs) {
  ProcessPlan plan = plan_of(100, {"127.0.0.1:1", "127.0.0.1:2"});
  const uint32_t wanted = descriptors_of_master(plan);
  cr_assert(wanted >= 2 * (200 + 101));
  plan.pools[0].workers = 0xffffffff;
  cr_assert(descriptors_of_master(plan) == 0x7fffffff);
}
