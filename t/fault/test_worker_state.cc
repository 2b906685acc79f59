// What a worker carries over a reload by name, and what it lets go: upstream connections, the
// balancer's position, tunnels, counters, memory.
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

constexpr std::string_view kUpgrade =
    "GET /ws/room?q=1 HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nUser-Agent: tester\r\n\r\n";

const WorkerDriver::Plan kOne{.sockets = {{1, "public"}}, .logs = {1}};

// A listener, an upstream with these targets, a route to it, a log; and a text that varies.
std::string config(const std::vector<uint64_t>& targets, const std::string& more = "") {
  std::string text = "[listener public]\naddress = 127.0.0.1:1\n[upstream app]\n";
  for (const uint64_t id : targets) text += "target = http://" + g->address(id).format() + "\n";
  return text + "[route chat]\npath = /ws/{room}\nupstream = app\nidle_timeout = 1h\n" +
         "[route app]\nupstream = app\n[log access]\nfile = " + g->log_path(1) +
         "\nformat = $route $listener $target $upstream $status $capture_room $query "
         "$header_user_agent $response_header_x_server $upstream_bytes_in $upstream_bytes_out "
         "$request_line\nflush = 0s\n" +
         more;
}

void start(const std::vector<uint64_t>& targets) {
  g->listen(1);
  for (const uint64_t id : targets) g->listen(id);
  g->open_log(1);
  g->start(config(targets), kOne);
  assert_true(g->heard(ChannelVerb::kReady, 1));
}

struct Tunnel {
  Peer client;
  Peer server;
};

Tunnel open_tunnel(uint64_t upstream) {
  Tunnel tunnel{g->connect(1), Peer()};
  tunnel.client.send(kUpgrade);
  tunnel.server = Peer::accept_from(g->socket(upstream));
  (void)tunnel.server.read_to("\r\n\r\n");
  tunnel.server.send(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "X-Server: one\r\n\r\n");
  (void)tunnel.client.read_to("\r\n\r\n");
  return tunnel;
}

bool echoes(Tunnel& tunnel) {
  tunnel.client.send("ping");
  if (tunnel.server.read_to("ping") != "ping") return false;
  tunnel.server.send("pong!");
  return tunnel.client.read_to("pong!") == "pong!";
}

// What the file says, once it says a line.
std::string line_of(const std::string& path) {
  std::string line;
  const auto read = [&] { return has(line = g->read_file(path), "\n"); };
  if (!eventually(read)) return "";
  return line;
}

void a_tunnel_outlives_fifty_reloads_and_logs_as_if_there_were_none(void**) {
  start({9});
  {
    Tunnel reference = open_tunnel(9);
    for (int i = 0; i < 51; ++i) assert_true(echoes(reference));
    reference.client.close();
  }
  const std::string expected = line_of(g->log_path(1));
  assert_true(
      has(expected, "chat public " + g->address(9).format() + " app 101 room q=1 tester one "));
  const SeriesCells once = g->cells(SeriesKind::kRoute, "chat");

  Tunnel tunnel = open_tunnel(9);
  assert_true(echoes(tunnel));
  for (uint32_t generation = 2; generation <= 51; ++generation) {
    // Routes, upstream and listener come and go; the log stays.
    const bool other = generation % 2 == 0;
    g->listen(generation + 100);
    const std::string text = other ? "[listener x]\naddress = 127.0.0.1:1\n[route z]\nreply = 200 "
                                     "z\n[log access]\nfile = " +
                                         g->log_path(1) + "\nformat = other-$route\n"
                                   : config({9});
    const WorkerDriver::Plan plan{.sockets = {{generation + 100, other ? "x" : "public"}},
                                  .logs = {1},
                                  .drain_timeout = std::chrono::milliseconds(50)};
    assert_true(g->reload(generation, text, plan));
    assert_true(echoes(tunnel));
  }
  assert_int_equal(g->cells(SeriesKind::kRoute, "chat").requests_active.get(), 1);
  std::filesystem::resize_file(g->log_path(1), 0);
  tunnel.client.close();
  tunnel.server.close();
  assert_string_equal(line_of(g->log_path(1)).c_str(), expected.c_str());
  const SeriesCells twice = g->cells(SeriesKind::kRoute, "chat");
  assert_int_equal(twice.requests_total(), 2);
  assert_int_equal(twice.requests_active.get(), 0);
  assert_int_equal(twice.bytes_in.get(), 2 * once.bytes_in.get());
  assert_int_equal(twice.bytes_out.get(), 2 * once.bytes_out.get());
  const std::string target = "app/" + g->address(9).format();
  assert_int_equal(g->cells(SeriesKind::kTarget, target).requests_total(), 2);
  assert_true(eventually(
      [&] { return g->cells(SeriesKind::kTarget, target).connections_active.get() == 0; }));
}

void a_tunnel_whose_route_is_gone_is_logged_by_the_defaults(void**) {
  start({9});
  Tunnel tunnel = open_tunnel(9);
  assert_true(g->reload(2,
                        "[listener public]\naddress = 127.0.0.1:1\n[route z]\nreply = 200 z\n"
                        "[log access]\nfile = " +
                            g->log_path(1) + "\nformat = now-$route-$target\nflush = 0s\n",
                        kOne));
  assert_true(echoes(tunnel));
  tunnel.server.close();
  assert_true(tunnel.client.at_end());
  tunnel.client.close();
  assert_string_equal(line_of(g->log_path(1)).c_str(),
                      ("now-chat-" + g->address(9).format() + "\n").c_str());
}

void a_parked_worker_keeps_its_tunnels(void**) {
  start({9});
  Tunnel tunnel = open_tunnel(9);
  assert_true(g->reload(2, config({9}),
                        {.sockets = {},
                         .logs = {1},
                         .parked = true,
                         .drain_timeout = std::chrono::milliseconds(50)}));
  usleep(200'000);
  assert_true(echoes(tunnel));
  assert_true(g->reload(3, config({9}, "[route more]\npath = /more\nreply = 200 x\n"),
                        {.sockets = {}, .logs = {1}, .parked = true}));
  assert_true(echoes(tunnel));
  tunnel.client.close();
  tunnel.server.close();
  assert_true(g->heard(ChannelVerb::kIdle, 3));
}

void kept_alive_connections_go_on_while_the_target_is_named(void**) {
  start({9});
  Peer client = g->connect(1);
  client.send("GET /1 HTTP/1.1\r\nHost: h\r\nUser-Agent: h\r\n\r\n");
  Peer server = Peer::accept_from(g->socket(9));
  const auto answer = [&](Peer& from) {
    assert_true(has(from.read_to("\r\n\r\n"), "GET "));
    from.send("HTTP/1.1 200 OK\r\nX-Server: nine\r\nContent-Length: 2\r\n\r\nok");
    assert_true(has(client.read_response(), "ok"));
  };
  answer(server);
  assert_true(has(line_of(g->log_path(1)), " h nine "));
  g->listen(10);
  assert_true(g->reload(2, config({10, 9}), kOne));
  assert_true(g->reload(3, config({9}), kOne));
  client.send("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
  answer(server);  // the same connection
  assert_true(g->reload(4, config({10}), kOne));
  assert_true(server.at_end());  // nobody names it any more
  client.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer other = Peer::accept_from(g->socket(10));
  answer(other);
  // One in use while its target goes is closed after its answer.
  client.send("GET /4 HTTP/1.1\r\nHost: h\r\n\r\n");
  assert_true(has(other.read_to("\r\n\r\n"), "GET /4"));
  assert_true(g->reload(5, config({9}), kOne));
  other.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  assert_true(has(client.read_response(), "ok"));
  assert_true(other.at_end());
}

void the_balancer_goes_on_where_it_stood(void**) {
  start({11, 12, 13});
  Peer client = g->connect(1);
  std::map<uint64_t, Peer> servers;
  uint64_t number = 0;
  // Which of the targets gets the next request.
  const auto next = [&]() -> uint64_t {
    client.send(fmt::format("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", ++number));
    for (;;) {
      std::vector<pollfd> waiting;
      std::vector<uint64_t> ids;
      for (const uint64_t id : {11, 12, 13, 14}) {
        const int fd = servers.contains(id) ? servers[id].fd() : g->socket(id);
        waiting.push_back({fd, POLLIN, 0});
        ids.push_back(id);
      }
      if (poll(waiting.data(), waiting.size(), kPatienceMs) <= 0) return 0;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (waiting[i].revents == 0) continue;
        if (waiting[i].fd == g->socket(ids[i])) {
          servers[ids[i]] = Peer::accept_from(g->socket(ids[i]));
          continue;
        }
        Peer& server = servers[ids[i]];
        if (!has(server.read_to("\r\n\r\n"), "GET ")) continue;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return has(client.read_response(), "ok") ? ids[i] : 0;
      }
    }
  };
  g->listen(14);
  assert_int_equal(next(), 11);
  assert_int_equal(next(), 12);
  assert_true(g->reload(2, config({11, 12, 13}, "[route y]\npath = /y\nreply = 200 y\n"), kOne));
  assert_int_equal(next(), 13);
  assert_int_equal(next(), 11);
  // Another list: those who stay keep their credit, the new one begins with none.
  assert_true(g->reload(3, config({14, 11, 12, 13}), kOne));
  std::map<uint64_t, int> picked;
  for (int i = 0; i < 8; ++i) ++picked[next()];
  for (const uint64_t id : {11, 12, 13, 14}) assert_in_range(picked[id], 1, 3);
  assert_int_equal(picked[0], 0);
}

void memory_is_flat_over_two_hundred_reloads(void**) {
  start({9});
  Tunnel tunnel = open_tunnel(9);
  Peer client = g->connect(1);
  g->open_log(2);
  long early = 0;
  size_t descriptors = 0;
  for (uint32_t generation = 2; generation <= 201; ++generation) {
    const bool odd = generation % 2 != 0;
    g->listen(20 + generation);
    std::string text = config({9}, "[listener extra]\naddress = 127.0.0.1:2\n");
    // Other targets each time: their states must go. (Names of series stay, hence not ever new.)
    for (uint32_t i = 0; i < 50; ++i) {
      text += fmt::format("[upstream u{}]\ntarget = http://127.0.0.{}:9\n", i, generation % 19 + 1);
      text += fmt::format("[route r{}]\npath = /r/{}/*\nupstream = u{}\n", i, i, i);
    }
    WorkerDriver::Plan plan{.sockets = {{1, "public"}, {20 + generation, "extra"}}, .logs = {1}};
    if (odd) {
      text += "[log second]\nfile = " + g->log_path(2) + "\n";
      plan.logs.push_back(2);
    }
    assert_true(g->reload(generation, text, plan));
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    static Peer server;
    if (generation == 2) server = Peer::accept_from(g->socket(9));
    assert_true(has(server.read_to("\r\n\r\n"), "GET "));
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_true(has(client.read_response(), "ok"));
    assert_true(echoes(tunnel));
    g->close_socket(20 + generation);
    if (generation == 21) {
      usleep(100'000);
      early = g->memory_kib();
      descriptors = g->open_descriptors();
    }
  }
  usleep(100'000);
  print_message("resident: %ld KiB after 20 reloads, %ld KiB after 200\n", early, g->memory_kib());
  assert_int_equal(g->open_descriptors(), descriptors);
#if GATEHOUSE_POOLS && !defined(__SANITIZE_THREAD__)
  assert_true(g->memory_kib() < early + 200);
#endif
}

}  // namespace

#define STATE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main() {
  const CMUnitTest tests[] = {
      STATE_TEST(a_tunnel_outlives_fifty_reloads_and_logs_as_if_there_were_none),
      STATE_TEST(a_tunnel_whose_route_is_gone_is_logged_by_the_defaults),
      STATE_TEST(a_parked_worker_keeps_its_tunnels),
      STATE_TEST(kept_alive_connections_go_on_while_the_target_is_named),
      STATE_TEST(the_balancer_goes_on_where_it_stood),
      STATE_TEST(memory_is_flat_over_two_hundred_reloads),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
