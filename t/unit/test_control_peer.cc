// Two peers that both ask: answers, deadlines, closing, and a side that does not read.
#include "core/control_peer.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

namespace {

using namespace gatehouse;
using namespace std::chrono_literals;
using nlohmann::json;

std::string text_of(const Result<ControlReply>& reply) {
  if (!reply) return "none: " + reply.error().message;
  return reply->ok ? control_text(reply->body, "text") : "refused: " + reply->error();
}

struct Pair {
  std::vector<ControlRequest> of_master, of_agent;  // requests that came to them
  std::optional<ControlPeer> master, agent;
  std::vector<std::string> heard;
  Moment now{1'000'000};

  Pair() {
    int ends[2];
    cr_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    master.emplace(UniqueFd(ends[0]),
                   [this](ControlRequest request) { of_master.push_back(std::move(request)); });
    agent.emplace(UniqueFd(ends[1]),
                  [this](ControlRequest request) { of_agent.push_back(std::move(request)); });
  }
  ControlPeer::AnswerHandler hear() {
    return [this](Result<ControlReply> reply) { heard.push_back(text_of(reply)); };
  }
  void turn(int times = 3) {
    for (int i = 0; i < times; ++i) {
      master->turn(now);
      agent->turn(now);
    }
  }
};

}  // namespace

Test(control_peer, both_sides_ask) {
  Pair pair;
  pair.master->ask("validate", {{"x", 1}}, {}, pair.now + 10s, pair.hear());
  pair.agent->ask("reopen", {}, {}, pair.now + 10s, pair.hear());
  pair.turn();
  cr_assert(pair.of_agent.size() == 1 && pair.of_agent[0].command == "validate");
  cr_assert(control_number(pair.of_agent[0].body, "x") == 1);
  cr_assert(pair.of_master.size() == 1 && pair.of_master[0].command == "reopen");
  cr_assert(pair.heard.empty());
  pair.agent->reply(pair.of_agent[0].id, control_ok({{"text", "valid"}}));
  pair.master->reply(pair.of_master[0].id, control_error("not now"));
  pair.turn();
  cr_assert(pair.heard == std::vector<std::string>({"valid", "refused: not now"}));
  pair.agent->reply(pair.of_agent[0].id, control_ok({{"text", "again"}}));
  pair.turn();
  cr_assert_eq(pair.heard.size(), 2);
}

Test(control_peer, descriptors_go_both_ways) {
  Pair pair;
  int ends[2];
  cr_assert(pipe2(ends, O_CLOEXEC) == 0);
  std::vector<UniqueFd> fds;
  fds.emplace_back(ends[1]);
  std::vector<UniqueFd> back;
  pair.master->ask("store", {}, std::move(fds), pair.now + 1s, [&back](Result<ControlReply> reply) {
    if (reply) back = std::move(reply->fds);
  });
  pair.turn();
  cr_assert(pair.of_agent.size() == 1 && pair.of_agent[0].fds.size() == 1);
  pair.agent->reply(pair.of_agent[0].id, control_ok({}, std::move(pair.of_agent[0].fds)));
  pair.turn();
  cr_assert(back.size() == 1 && write(back[0].get(), "x", 1) == 1);
  char byte = 0;
  cr_assert(read(ends[0], &byte, 1) == 1 && byte == 'x');
  close(ends[0]);
}

Test(control_peer, an_answer_that_does_not_come_is_told_at_the_deadline) {
  Pair pair;
  pair.master->ask("hello", {}, {}, pair.now + 5s, pair.hear());
  pair.turn();
  cr_assert(pair.master->next_deadline() == pair.now + 5s);
  pair.now = pair.now + 4999ms;
  pair.turn();
  cr_assert(pair.heard.empty());
  pair.now = pair.now + 1ms;
  pair.turn();
  cr_assert(pair.heard == std::vector<std::string>({"none: no answer in time"}));
  cr_assert(!pair.master->next_deadline());
  pair.agent->reply(pair.of_agent[0].id, control_ok());
  pair.turn();
  cr_assert_eq(pair.heard.size(), 1);
}

Test(control_peer, a_side_that_goes_answers_everything) {
  Pair pair;
  for (int i = 0; i < 3; ++i) pair.master->ask("hello", {}, {}, pair.now + 5s, pair.hear());
  pair.turn();
  pair.agent->reply(pair.of_agent[1].id, control_ok({{"text", "the last word"}}));
  pair.agent.reset();
  pair.master->turn(pair.now);
  cr_assert(!pair.master->is_open());
  cr_assert_eq(pair.heard.size(), 3);
  cr_assert(pair.heard[0] == "the last word");
  cr_assert(pair.heard[1] == "none: no answer: the other side has closed it");
  // Asking on is an error that comes with the next turn, not out of ask().
  pair.master->ask("hello", {}, {}, pair.now + 5s, pair.hear());
  cr_assert_eq(pair.heard.size(), 3);
  cr_assert(pair.master->next_deadline() == Moment{});
  pair.master->turn(pair.now);
  cr_assert(pair.heard.size() == 4 && pair.heard[3].starts_with("none: the connection is closed"));
  cr_assert(!pair.master->next_deadline());
}

Test(control_peer, handlers_may_ask_reply_and_close) {
  Pair pair;
  pair.master->ask("one", {}, {}, pair.now + 5s, [&pair](Result<ControlReply> first) {
    pair.heard.push_back(text_of(first));
    pair.master->ask("two", {}, {}, pair.now + 5s, pair.hear());
    pair.master->close("enough");
  });
  pair.turn();
  pair.agent->reply(pair.of_agent[0].id, control_ok({{"text", "first"}}));
  pair.turn();
  cr_assert(pair.heard == std::vector<std::string>({"first", "none: no answer: enough"}));
  cr_assert(pair.master->closed_because() == "enough");
  cr_assert(!pair.agent->is_open());
}

Test(control_peer, a_side_that_does_not_read_is_bounded) {
  Pair pair;
  const std::string large(60'000, 'x');
  pair.master->turn(pair.now);
  for (int i = 0; i < 100; ++i) {
    pair.master->ask("hello", {{"x", large}}, {}, pair.now + 60s, pair.hear());
  }
  cr_assert((pair.master->events() & POLLOUT) != 0);
  pair.master->turn(pair.now);
  cr_assert(!pair.heard.empty() && pair.heard.size() < 100);
  cr_assert(pair.heard[0] == "none: the other side does not read what it is sent");
  cr_assert(pair.master->is_open());
  pair.now = pair.now + kControlStallMax;
  pair.master->turn(pair.now);
  cr_assert(!pair.master->is_open());
  cr_assert_eq(pair.heard.size(), 100, "each ask is answered once");
}

Test(control_peer, what_was_not_sent_yet_is_not_sent_after_its_deadline) {
  Pair pair;
  const std::string large(60'000, 'x');
  for (int i = 0; i < 8; ++i) {
    pair.master->ask("hello", {{"x", large}}, {}, pair.now + 1s, pair.hear());
  }
  pair.now = pair.now + 1s;
  pair.master->turn(pair.now);
  cr_assert_eq(pair.heard.size(), 8);
  pair.turn(10);
  cr_assert_lt(pair.of_agent.size(), 8);
  pair.master->ask("status", {}, {}, pair.now + 1s, pair.hear());
  pair.turn();
  cr_assert(pair.of_agent.back().command == "status");
}

Test(control_peer, what_cannot_be_said_is_refused_and_not_forgotten) {
  Pair pair;
  pair.master->ask("Not A Name", {}, {}, pair.now + 1s, pair.hear());
  pair.master->ask("list", {}, {}, pair.now + 1s, pair.hear());
  pair.turn();
  cr_assert(pair.heard.size() == 1 && pair.heard[0].starts_with("none: "));
  pair.agent->reply(pair.of_agent[0].id, control_ok({{"rows", std::string(100'000, 'x')}}));
  pair.turn();
  cr_assert(pair.heard.size() == 2);
  cr_assert(pair.heard[1].starts_with("refused: the reply cannot be sent"));
}

Test(control_peer, two_versions_do_not_refuse_each_other_for_ever) {
  Pair pair;
  const std::string other = R"({"v":2,"id":1,"ok":false,"error":"?"})";
  pair.master->ask("hello", {}, {}, pair.now + 1s, pair.hear());
  cr_assert(send(pair.agent->fd(), other.data(), other.size(), 0) > 0);
  pair.master->turn(pair.now);
  cr_assert(pair.heard.size() == 1 && pair.heard[0].find("version 2") != std::string::npos);
  pair.turn();
  cr_assert(pair.master->is_open() && pair.agent->is_open());
  cr_assert(pair.of_agent.size() == 1 && pair.of_master.empty());
  char byte;
  cr_assert(recv(pair.agent->fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0, "no word more");
}
