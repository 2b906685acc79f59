// Whole conversations, cancelled after the k-th suspension for k = 1, 2, 3 … until one ends by
// itself: afterwards nobody waits (the Stream's own assertions), no timer is left to fire, every
// frame and descriptor is gone, and the loop turns on.
#include <criterion/criterion.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/frame_pool.h"
#include "core/task.h"
#include "loopback.h"

#if !GATEHOUSE_POOLS
#include <sanitizer/lsan_interface.h>
#endif

namespace gatehouse {
namespace {

using namespace loopback;
using std::chrono::milliseconds;

int suspensions = 0;
int frames = 0;

// A local of every coroutine here: as many are destroyed as were made.
struct FrameCount {
  FrameCount() { ++frames; }
  FrameCount(const FrameCount&) = delete;
  FrameCount& operator=(const FrameCount&) = delete;
  ~FrameCount() { --frames; }
};

// An awaiter that counts its suspensions. It is no aggregate around one: g++ 12 would copy that
// into the frame byte by byte, and the timer inside would still point to where it came from.
template <typename Awaiter>
struct Counted : Awaiter {
  using Awaiter::Awaiter;
  void await_suspend(std::coroutine_handle<> handle) {
    ++suspensions;
    Awaiter::await_suspend(handle);
  }
};
using Reading = Counted<Stream::ReadAwaiter>;
using Writing = Counted<Stream::WriteAwaiter>;

Reading read(Stream& stream, std::span<char> into, Duration timeout) {
  return Reading(stream, into, timeout, Reading::Goal::kBytes);
}
Reading readable(Stream& stream, Duration timeout) {
  return Reading(stream, std::span<char>(), timeout, Reading::Goal::kReadable);
}
Writing write(Stream& stream, std::string_view text, Duration timeout) {
  const iovec part{const_cast<char*>(text.data()), text.size()};
  return Writing(stream, std::span(&part, 1), timeout, false);
}
Writing connected(Stream& stream, Duration timeout) {
  return Writing(stream, std::span<const iovec>(), timeout, true);
}

Task<bool> read_exactly(Stream& stream, std::span<char> into) {
  const FrameCount frame;
  size_t got = 0;
  while (got < into.size()) {
    const IoResult result = co_await read(stream, into.subspan(got), kLong);
    if (!result.ok()) co_return false;
    got += result.bytes;
  }
  co_return true;
}

Task<bool> write_text(Stream& stream, std::string_view text) {
  const FrameCount frame;
  const IoResult result = co_await write(stream, text, kLong);
  co_return result.ok();
}

// What a run may leave behind, and the way its end is checked.
struct Stage {
  EventLoop& loop;
  Listener listener;
  std::string large = std::string(300'000, 'L');
};

// One request and its answer on an open connection, three tasks deep from the root.
Task<bool> exchange(Stream& stream, std::string_view request, size_t answer) {
  const FrameCount frame;
  const bool sent = co_await write_text(stream, request);
  if (!sent) co_return false;
  std::string into(answer, ' ');
  const bool got = co_await read_exactly(stream, into);
  co_return got;
}

// The other side: answers each request of 4 bytes with 8, one byte at a time.
Task<bool> serve(Stream& stream, int requests) {
  const FrameCount frame;
  for (int i = 0; i < requests; ++i) {
    const IoResult there = co_await readable(stream, kLong);
    if (!there.ok()) co_return false;
    std::array<char, 4> request;
    const bool got = co_await read_exactly(stream, request);
    if (!got) co_return false;
    for (int byte = 0; byte < 8; ++byte) {
      const bool sent = co_await write_text(stream, "x");
      if (!sent) co_return false;
    }
  }
  co_return true;
}

Task<bool> talk(Stream& stream, int requests) {
  const FrameCount frame;
  for (int i = 0; i < requests; ++i) {
    const bool good = co_await exchange(stream, "ping", 8);
    if (!good) co_return false;
  }
  co_return true;
}

std::unique_ptr<Stream> adopt(EventLoop& loop, int fd) {
  auto stream = std::make_unique<Stream>(loop, fd);
  cr_assert(stream->open().ok());
  return stream;
}

Task<bool> both(Task<bool> a, Task<bool> b) {
  const FrameCount frame;
  a.start();
  b.start();
  co_await any_done(a, b);
  co_await done(a);
  co_await done(b);
  co_return a.take() && b.take();
}

// Connects, then plays request and response with the other side.
Task<bool> ping_pong(Stage& stage) {
  const FrameCount frame;
  const auto client = adopt(stage.loop, stage.listener.begin_connect());
  const IoResult there = co_await connected(*client, kLong);
  if (!there.ok()) co_return false;
  const auto server = adopt(stage.loop, stage.listener.accept_one());
  const bool good = co_await both(talk(*client, 5), serve(*server, 5));
  co_return good;
}

// A large body through small buffers: many short writes, and a reader who takes a little a time.
Task<bool> large_body(Stage& stage) {
  const FrameCount frame;
  int fds[2];
  cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  Connection::set_buffer(fds[0], SO_SNDBUF, 2048);
  const auto from = adopt(stage.loop, fds[0]);
  const auto to = adopt(stage.loop, fds[1]);
  std::string into(stage.large.size(), ' ');
  const bool good = co_await both(write_text(*from, stage.large), read_exactly(*to, into));
  co_return good&& into == stage.large;
}

Task<bool> read_that_times_out(Stream& stream, Duration timeout) {
  const FrameCount frame;
  std::array<char, 16> block;
  const IoResult result = co_await read(stream, block, timeout);
  co_return result.status == IoStatus::kTimeout;
}

// Timeouts on the way, before and behind the probe, raced against a task that is left behind.
Task<bool> timeouts(Stage& stage) {
  const FrameCount frame;
  const auto client = adopt(stage.loop, stage.listener.begin_connect());
  const auto server = adopt(stage.loop, stage.listener.accept_one());
  for (const int timeout : {5, 210}) {
    Task<bool> quick = read_that_times_out(*client, milliseconds(timeout));
    Task<bool> slow = read_that_times_out(*server, kLong);
    quick.start();
    slow.start();
    co_await any_done(quick, slow);
    if (!quick.done() || slow.done()) co_return false;
    if (!quick.take()) co_return false;
  }
  const IoResult blocked = co_await write(*client, stage.large, milliseconds(20));
  co_return blocked.ok() || blocked.status == IoStatus::kTimeout;
}

// How the root is cancelled: by plain code, or from within what the loop calls.
enum class From : uint8_t { kOutside, kDeferred, kTimer };

// Runs the scenario and cancels it after `limit` suspensions; true where it ended before.
bool run_once(Task<bool> (*scenario)(Stage&), int limit, From from) {
  const size_t descriptors = open_descriptors();
  bool ended = false;
  {
    auto loop = make_loop();
    Stage stage{*loop, Listener()};
    suspensions = 0;
    Task<bool> root = scenario(stage);
    Deferred deferred([](void* task) { static_cast<Task<bool>*>(task)->cancel(); }, &root);
    Timer timer([](void* task) { static_cast<Task<bool>*>(task)->cancel(); }, &root);
    root.start();
    while (root && !root.done() && suspensions < limit) loop->turn(true);
    ended = root.done();
    if (ended) cr_assert(root.take(), "the scenario itself failed");
    if (from == From::kOutside) root.cancel();
    if (from == From::kDeferred) loop->defer(deferred);
    if (from == From::kTimer) loop->arm(timer, milliseconds(0));
    while (root) loop->turn(true);
    cr_assert_eq(frames, 0);
    loop->turn(false);
    // The timers that the conversation had armed would fire, or be met in the wheel's lists.
    if (limit % 8 == 1) turn_for(*loop, milliseconds(30));
  }
  cr_assert_eq(open_descriptors(), descriptors);
  return ended;
}

void cancel_everywhere(Task<bool> (*scenario)(Stage&), int at_least, int step) {
  int limit = 1;
  while (!run_once(scenario, limit, static_cast<From>(limit % 3))) {
    limit += limit < 40 ? 1 : step;
    cr_assert_lt(limit, 5'000);
  }
  cr_assert_gt(limit, at_least, "only %d suspensions: too few to show anything", limit);
#if !GATEHOUSE_POOLS
  cr_assert_eq(__lsan_do_recoverable_leak_check(), 0);
#endif
}

Test(stream_cancel, request_and_response) {
  cancel_everywhere(&ping_pong, 10, 1);
}

Test(stream_cancel, a_large_body_through_small_buffers) {
  cancel_everywhere(&large_body, 40, 7);
}

Test(stream_cancel, timeouts_and_the_loser_of_a_race) {
  cancel_everywhere(&timeouts, 4, 1);
}

}  // namespace
}  // namespace gatehouse
