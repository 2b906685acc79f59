// A reload inside a live worker: prepare, switch and discard, over a real channel.
#include "http/worker.h"

#include <memory>
#include <string>

#include "fail_at.h"
#include "worker_driver.h"

using namespace gatehouse;         // NOLINT: a program of its own
using namespace gatehouse::fault;  // NOLINT

namespace {

WorkerDriver* g = nullptr;

int set_up(void**) {
  log_set_level(LogLevel::kError);
  g = new WorkerDriver;
  return 0;
}

int tear_down(void**) {
  const int code = g->stop();
  delete std::exchange(g, nullptr);
  return code;
}

// A configuration whose listener `listener` answers with `text`.
std::string replying(const std::string& text, const std::string& listener = "a",
                     const std::string& more = "") {
  return "[listener " + listener + "]\naddress = 127.0.0.1:1\n[route r]\nreply = 200 " + text +
         "\n" + more;
}

// So many routes that it takes a while to build.
std::string large(int routes) {
  std::string text = replying("large");
  for (int i = 0; i < routes; ++i) {
    text += fmt::format("[route r{}]\npath = /r{}/*\nreply = 200 r{}\n", i, i, i);
  }
  return text;
}

const WorkerDriver::Plan kOne{.sockets = {{1, "a"}}, .logs = {}};

void start_one() {
  g->listen(1);
  g->start(replying("one"), kOne);
  assert_true(g->heard(ChannelVerb::kReady, 1));
}

void a_switch_changes_the_answers_and_keeps_the_connection(void**) {
  start_one();
  Peer client = g->connect(1);
  assert_true(has(client.get("/"), "one\n"));
  g->prepare(2, replying("two"), kOne);
  assert_true(g->heard(ChannelVerb::kPrepared, 2));
  assert_true(has(client.get("/"), "one\n"));  // prepared is not switched
  g->switch_to(2);
  assert_true(g->heard(ChannelVerb::kSwitched, 2));
  const std::string response = client.get("/");
  assert_true(has(response, "two\n"));
  assert_false(has(response, "Connection: close"));
  assert_true(has(g->get(1, "/"), "two\n"));
  assert_true(eventually([] { return g->cells(SeriesKind::kRoute, "r").requests_total() == 4; }));
}

void a_broken_configuration_is_refused_with_every_error(void**) {
  start_one();
  g->prepare(2, "[listener a]\naddress = 127.0.0.1:1\nfoo = 1\n[route r]\nreply = 2000 no\n", kOne);
  const std::optional<ChannelMessage> answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepareFailed && answer->argument == 2);
  const std::string text = WorkerDriver::text_of(answer);
  assert_true(has(text, "test.conf:3: [listener a] foo"));
  assert_true(has(text, "test.conf:5: [route r] reply"));
  assert_true(has(g->get(1, "/"), "one\n"));
  assert_true(g->reload(3, replying("three"), kOne));
  assert_true(has(g->get(1, "/"), "three\n"));
}

void bytes_that_are_no_configuration_are_refused(void**) {
  start_one();
  g->prepare_bytes(2, std::move(*seal_bytes("x", "nonsense")), kOne);
  std::optional<ChannelMessage> answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepareFailed);
  assert_true(!WorkerDriver::text_of(answer).empty());
  g->send(ChannelVerb::kPrepare, 3);  // without descriptors
  answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepareFailed && answer->argument == 3);
  // A socket that the worker is said to have, and one that was not passed.
  WorkerDriver::Plan plan = kOne;
  g->listen(2);
  plan.sockets.push_back({2, "a"});
  g->prepare(4, replying("four"), plan);
  g->switch_to(9);  // nothing of that number: ignored; the driver now believes it has socket 2
  assert_true(g->heard(ChannelVerb::kPrepared, 4));
  g->send(ChannelVerb::kDiscard, 4);
  g->prepare(5, replying("five"), plan);
  answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepareFailed);
  assert_true(has(WorkerDriver::text_of(answer), "does not have the socket"));
  assert_true(has(g->get(1, "/"), "one\n"));
}

void what_is_discarded_leaves_nothing_behind(void**) {
  start_one();
  assert_true(g->reload(2, replying("two"), kOne));
  const size_t descriptors = g->open_descriptors();
  g->listen(2);
  g->open_log(1);
  const WorkerDriver::Plan more{.sockets = {{1, "a"}, {2, "a"}}, .logs = {1}};
  const std::string config = replying("x", "a", "[log access]\nfile = " + g->log_path(1) + "\n");
  g->prepare(3, config, more);
  assert_true(g->heard(ChannelVerb::kPrepared, 3));
  assert_int_equal(g->open_descriptors(), descriptors + 2);
  g->send(ChannelVerb::kDiscard, 3);
  assert_true(eventually([&] { return g->open_descriptors() == descriptors; }));
  assert_true(has(g->get(1, "/"), "two\n"));
  // While it is being built, and before it begins to be.
  for (uint32_t generation = 4; generation < 8; ++generation) {
    g->prepare(generation, large(2000), more);
    if (generation % 2 == 0) usleep(2000);
    g->send(ChannelVerb::kDiscard, generation);
  }
  g->prepare(8, replying("eight"), kOne);
  std::optional<ChannelMessage> answer = g->hear();
  // The worker may have been faster than the discard.
  while (answer && answer->verb == ChannelVerb::kPrepared && answer->argument < 8)
    answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepared && answer->argument == 8);
  g->switch_to(8);
  assert_true(g->heard(ChannelVerb::kSwitched, 8));
  assert_true(has(g->get(1, "/"), "eight\n"));
  assert_true(eventually([&] { return g->open_descriptors() == descriptors; }));
}

void a_newer_prepare_replaces_the_older(void**) {
  start_one();
  g->prepare(2, large(2000), kOne);
  g->prepare(3, replying("three"), kOne);
  assert_true(g->heard(ChannelVerb::kPrepared, 3));
  g->send(ChannelVerb::kSwitch, 2);
  g->prepare(4, replying("four"), kOne);
  assert_true(g->heard(ChannelVerb::kPrepared, 4));
  g->send(ChannelVerb::kSwitch, 3);
  assert_true(has(g->get(1, "/"), "one\n"));
  g->switch_to(4);
  assert_true(g->heard(ChannelVerb::kSwitched, 4));
  assert_true(has(g->get(1, "/"), "four\n"));
}

void a_new_socket_is_served_and_a_renamed_listener_follows(void**) {
  start_one();
  Peer client = g->connect(1);
  assert_true(has(client.get("/"), "one\n"));
  g->listen(2);
  const std::string two =
      "[listener b]\naddress = 127.0.0.1:1\n[listener c]\naddress = 127.0.0.1:2\n"
      "[route b]\nlistener = b\nreply = 200 on-b\n[route c]\nlistener = c\nreply = 200 on-c\n";
  assert_true(g->reload(2, two, {.sockets = {{1, "b"}, {2, "c"}}, .logs = {}}));
  assert_true(has(client.get("/"), "on-b\n"));  // the same connection, under the new name
  assert_true(has(g->get(2, "/"), "on-c\n"));
  // Both names change places.
  assert_true(g->reload(3, two, {.sockets = {{1, "c"}, {2, "b"}}, .logs = {}}));
  assert_true(has(client.get("/"), "on-c\n"));
  assert_true(has(g->get(2, "/"), "on-b\n"));
}

void a_socket_that_goes_answers_who_waits_in_it(void**) {
  start_one();
  g->listen(2);
  assert_true(g->reload(2, replying("two", "a", "[listener b]\naddress = 127.0.0.1:2\n"),
                        {.sockets = {{1, "a"}, {2, "b"}}, .logs = {}}));
  Peer idle = g->connect(2);
  assert_true(has(idle.get("/"), "two\n"));
  Peer next = g->connect(2);
  assert_true(has(next.get("/"), "two\n"));
  // The worker is stopped, so that connections wait in the queue when it is told to go.
  g->prepare(3, replying("three"), kOne);
  assert_true(g->heard(ChannelVerb::kPrepared, 3));
  kill(g->pid(), SIGSTOP);
  Peer waiting = g->connect(2);
  waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  g->switch_to(3);
  kill(g->pid(), SIGCONT);
  assert_true(g->heard(ChannelVerb::kSwitched, 3));
  g->close_socket(2);
  std::string response = waiting.read_response();
  assert_true(has(response, "two\n"));  // by the last generation that had the listener
  assert_true(has(response, "Connection: close"));
  assert_true(waiting.at_end());
  // An idle client may begin one more exchange, and one that says nothing is closed.
  response = next.get("/");
  assert_true(has(response, "two\n") && has(response, "Connection: close"));
  assert_true(next.at_end());
  assert_true(idle.at_end(3000));
  assert_true(has(g->get(1, "/"), "three\n"));
}

void an_exchange_ends_under_the_generation_it_began_under(void**) {
  const SocketAddress upstream = g->listen(9);
  g->listen(1);
  g->listen(2);
  const auto config = [&](const std::string& name) {
    return "[listener a]\naddress = 127.0.0.1:1\n[listener " + name +
           "]\naddress = 127.0.0.1:2\n[route old]\nupstream = http://" + upstream.format() + "\n";
  };
  g->start(config("b"), {.sockets = {{1, "a"}, {2, "b"}}, .logs = {}});
  assert_true(g->heard(ChannelVerb::kReady, 1));
  Peer kept = g->connect(1);
  Peer gone = g->connect(2);
  for (Peer* client : {&kept, &gone}) client->send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer first = Peer::accept_from(g->socket(9));
  Peer second = Peer::accept_from(g->socket(9));
  assert_true(has(first.read_to("\r\n\r\n"), "GET / "));
  assert_true(has(second.read_to("\r\n\r\n"), "GET / "));
  assert_true(g->reload(2, replying("new"), kOne));
  assert_int_equal(g->cells(SeriesKind::kRoute, "old").requests_active.get(), 2);
  for (Peer* server : {&first, &second}) {
    server->send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold");
  }
  std::string response = kept.read_response();
  assert_true(has(response, "old") && !has(response, "Connection: close"));
  assert_true(has(kept.get("/"), "new\n"));
  response = gone.read_response();
  assert_true(has(response, "old") && has(response, "Connection: close"));
  assert_true(gone.at_end());
  assert_int_equal(g->cells(SeriesKind::kRoute, "old").requests_active.get(), 0);
  // The target is named no more: its idle connections were closed.
  assert_true(first.at_end());
  assert_true(second.at_end());
}

void what_is_left_on_a_socket_is_cut_after_the_drain_timeout(void**) {
  const SocketAddress upstream = g->listen(9);
  g->listen(1);
  g->listen(2);
  g->open_log(1);
  const std::string log =
      "[log access]\nfile = " + g->log_path(1) + "\nformat = $route $status $reason\nflush = 0s\n";
  const std::string config =
      "[listener a]\naddress = 127.0.0.1:1\n[route slow]\nupstream = http://" + upstream.format() +
      "\n" + log;
  g->start(config, {.sockets = {{1, "a"}, {2, "a"}}, .logs = {1}});
  assert_true(g->heard(ChannelVerb::kReady, 1));
  Peer client = g->connect(2);
  client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer server = Peer::accept_from(g->socket(9));
  assert_true(has(server.read_to("\r\n\r\n"), "GET /slow"));
  Peer streaming = g->connect(2);
  streaming.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer stream = Peer::accept_from(g->socket(9));
  assert_true(has(stream.read_to("\r\n\r\n"), "GET /stream"));
  stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
  assert_true(has(streaming.read_to("begun"), "begun"));
  assert_true(g->reload(
      2, config,
      {.sockets = {{1, "a"}}, .logs = {1}, .drain_timeout = std::chrono::milliseconds(200)}));
  assert_true(has(client.read_to("\r\n\r\n"), " 503 "));
  assert_true(streaming.at_end());
  assert_true(eventually([] {
    const SeriesCells cells = g->cells(SeriesKind::kRoute, "slow");
    return cells.requests_active.get() == 0 && cells.requests_total() == 2;
  }));
  const std::string lines = g->read_file(g->log_path(1));
  assert_true(has(lines, "slow 503 draining\n"));
  assert_true(has(lines, "slow 200 draining\n"));
}

void logs_are_added_kept_and_removed(void**) {
  g->listen(1);
  g->open_log(1);
  g->open_log(2);
  const auto config = [](const std::string& text, const std::string& first,
                         const std::string& second = "") {
    std::string all =
        replying(text, "a",
                 "[log access]\nfile = " + first + "\nformat = " + text + "-$path\nflush = 10s\n");
    if (second.empty()) return all;
    return all + "[log second]\nfile = " + second + "\nformat = second-$path\nflush = 10s\n" +
           "[route q]\npath = /q\nreply = 200 q\nlog = second\n";
  };
  const std::string one = g->log_path(1);
  const std::string two = g->log_path(2);
  g->start(config("x", one), {.sockets = {{1, "a"}}, .logs = {1}});
  assert_true(g->heard(ChannelVerb::kReady, 1));
  assert_true(has(g->get(1, "/1"), "x\n"));
  assert_true(g->reload(2, config("y", one, two), {.sockets = {{1, "a"}}, .logs = {1, 2}}));
  assert_true(has(g->get(1, "/2"), "y\n"));
  assert_true(has(g->get(1, "/q"), "q\n"));
  assert_int_equal(g->descriptors_of(one), 1);
  // Now the indices of the plan are others, and the reopen order goes by them.
  assert_true(g->reload(3, config("z", two), {.sockets = {{1, "a"}}, .logs = {2}}));
  assert_true(eventually([&] { return g->descriptors_of(one) == 0; }));
  assert_string_equal(g->read_file(one).c_str(), "x-/1\ny-/2\n");
  assert_true(has(g->get(1, "/3"), "z\n"));
  std::filesystem::rename(two, two + ".old");
  g->open_log(2);
  const UniqueFd fresh = std::move(*open_log_file(two));
  g->send(ChannelVerb::kReopenLog, 0, {fresh.get()});
  g->send(ChannelVerb::kReopenSync, 77);
  assert_true(g->heard(ChannelVerb::kReopened, 77));
  // What was written before the answer is in the old file, all of it.
  assert_string_equal(g->read_file(two + ".old").c_str(), "second-/q\nz-/3\n");
  assert_true(has(g->get(1, "/4"), "z\n"));
  assert_int_equal(g->stop(), 0);
  assert_string_equal(g->read_file(two).c_str(), "z-/4\n");
  assert_string_equal(g->read_file(one).c_str(), "x-/1\ny-/2\n");
}

void a_parked_worker_says_when_it_is_idle_and_is_revived(void**) {
  start_one();
  Peer client = g->connect(1);
  assert_true(has(client.get("/"), "one\n"));
  Peer idle = g->connect(1);
  assert_true(g->reload(2, replying("two"), {.sockets = {}, .logs = {}, .parked = true}));
  // Only the worker's place is gone, not the listener: the new generation answers.
  const std::string response = client.get("/");
  assert_true(has(response, "two\n") && has(response, "Connection: close"));
  assert_true(client.at_end());
  assert_true(idle.at_end());
  assert_true(g->heard(ChannelVerb::kIdle, 2));
  g->listen(2);
  assert_true(g->reload(3, replying("three"), {.sockets = {{2, "a"}}, .logs = {}}));
  assert_true(has(g->get(2, "/"), "three\n"));
  assert_true(g->reload(4, replying("four"), {.sockets = {}, .logs = {}, .parked = true}));
  assert_true(g->heard(ChannelVerb::kIdle, 4));
  assert_true(g->reload(5, replying("five"), {.sockets = {}, .logs = {}, .parked = true}));
  assert_true(g->heard(ChannelVerb::kIdle, 5));
}

void a_worker_that_waits_for_the_switch_accepts_after_it(void**) {
  g->listen(1);
  g->start(replying("one"), kOne, true);
  assert_true(g->heard(ChannelVerb::kPrepared, 1));
  Peer client = g->connect(1);  // by the kernel, into the queue
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_false(has(client.read_to("\r\n\r\n", 200), "HTTP"));
  g->switch_to(1);
  g->send(ChannelVerb::kReopenSync, 1);
  assert_true(g->heard(ChannelVerb::kSwitched, 1));
  assert_true(g->heard(ChannelVerb::kReopened, 1));
  assert_true(has(client.read_response(), "one\n"));
}

void a_worker_that_waits_ends_where_its_generation_is_discarded(void**) {
  g->listen(1);
  g->start(replying("one"), kOne, true);
  assert_true(g->heard(ChannelVerb::kPrepared, 1));
  g->send(ChannelVerb::kDiscard, 1);
  assert_int_equal(g->exit_code(), 0);
}

void a_worker_that_waits_tells_why_it_cannot_start(void**) {
  g->listen(1);
  g->start("[route r]\nfoo = 1\n", kOne, true);
  const std::optional<ChannelMessage> answer = g->hear();
  assert_true(answer && answer->verb == ChannelVerb::kPrepareFailed);
  assert_true(has(WorkerDriver::text_of(answer), "foo"));
  assert_int_equal(g->exit_code(), 1);
}

void a_worker_whose_master_is_gone_ends_also_while_it_prepares(void**) {
  start_one();
  g->prepare(2, large(2000), kOne);
  g->close_channel();
  assert_int_equal(g->exit_code(), 0);
}

void orders_in_the_middle_of_a_prepare_are_obeyed(void**) {
  start_one();
  g->prepare(2, large(2000), kOne);
  g->send(ChannelVerb::kDrain);
  assert_int_equal(g->exit_code(), 0);
}

void the_helper_thread_is_made_once_and_when_needed(void**) {
  start_one();
  assert_true(has(g->get(1, "/"), "one\n"));
  const size_t without = g->threads();
  assert_true(g->reload(2, replying("x"), kOne));
  const size_t with = g->threads();
  // One more; the thread sanitizer adds one of its own to the first.
  assert_in_range(with, without + 1, without + 2);
  for (uint32_t generation = 3; generation < 6; ++generation) {
    assert_true(g->reload(generation, replying("x"), kOne));
  }
  assert_int_equal(g->threads(), with);
}

}  // namespace

#define RELOAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main() {
  const CMUnitTest tests[] = {
      RELOAD_TEST(a_switch_changes_the_answers_and_keeps_the_connection),
      RELOAD_TEST(a_broken_configuration_is_refused_with_every_error),
      RELOAD_TEST(bytes_that_are_no_configuration_are_refused),
      RELOAD_TEST(what_is_discarded_leaves_nothing_behind),
      RELOAD_TEST(a_newer_prepare_replaces_the_older),
      RELOAD_TEST(a_new_socket_is_served_and_a_renamed_listener_follows),
      RELOAD_TEST(a_socket_that_goes_answers_who_waits_in_it),
      RELOAD_TEST(an_exchange_ends_under_the_generation_it_began_under),
      RELOAD_TEST(what_is_left_on_a_socket_is_cut_after_the_drain_timeout),
      RELOAD_TEST(logs_are_added_kept_and_removed),
      RELOAD_TEST(a_parked_worker_says_when_it_is_idle_and_is_revived),
      RELOAD_TEST(a_worker_that_waits_for_the_switch_accepts_after_it),
      RELOAD_TEST(a_worker_that_waits_ends_where_its_generation_is_discarded),
      RELOAD_TEST(a_worker_that_waits_tells_why_it_cannot_start),
      RELOAD_TEST(a_worker_whose_master_is_gone_ends_also_while_it_prepares),
      RELOAD_TEST(orders_in_the_middle_of_a_prepare_are_obeyed),
      RELOAD_TEST(the_helper_thread_is_made_once_and_when_needed),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
