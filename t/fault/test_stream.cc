// Faults of a Stream: its system calls fail in turn, are interrupted, and move one byte, or any
// number of bytes, at a time. Each wait ends in a result that says what happened, and what was
// sent is what was given, in order.
// wrap: recv send sendmsg getsockopt

#include "core/stream.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/task.h"
#include "fail_at.h"

namespace {

size_t g_first_write = SIZE_MAX;  // what the next write may move; then the rest as usual
size_t g_each_write = SIZE_MAX;   // what every write may move
int g_interrupts = 0;             // how many of the next calls are interrupted
int g_refusals = 0;               // how many of the next writes find no room

size_t allowed(size_t size) {
  const size_t first = std::exchange(g_first_write, SIZE_MAX);
  return std::min({size, first, g_each_write});
}

bool interrupted() {
  if (g_interrupts == 0) return false;
  --g_interrupts;
  errno = EINTR;
  return true;
}

bool no_room() {
  if (g_refusals == 0) return false;
  --g_refusals;
  errno = EAGAIN;
  return true;
}

}  // namespace

extern "C" ssize_t __real_recv(int fd, void* to, size_t size, int flags);
extern "C" ssize_t __wrap_recv(int fd, void* to, size_t size, int flags);
extern "C" ssize_t __wrap_recv(int fd, void* to, size_t size, int flags) {
  if (interrupted() || gatehouse::fault::fails_now()) return -1;
  return __real_recv(fd, to, size, flags);
}

extern "C" ssize_t __real_send(int fd, const void* from, size_t size, int flags);
extern "C" ssize_t __wrap_send(int fd, const void* from, size_t size, int flags);
extern "C" ssize_t __wrap_send(int fd, const void* from, size_t size, int flags) {
  if (interrupted() || no_room() || gatehouse::fault::fails_now()) return -1;
  return __real_send(fd, from, allowed(size), flags);
}

extern "C" ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags);
extern "C" ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  if (interrupted() || no_room() || gatehouse::fault::fails_now()) return -1;
  std::string all;
  for (size_t i = 0; i < message->msg_iovlen; ++i) {
    all.append(static_cast<const char*>(message->msg_iov[i].iov_base), message->msg_iov[i].iov_len);
  }
  return __real_send(fd, all.data(), allowed(all.size()), flags);
}

GH_FAIL_AT(int, getsockopt, (int fd, int level, int name, void* value, socklen_t* size),
           (fd, level, name, value, size));

namespace gatehouse {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong{3'000};
constexpr size_t kRequest = 12;

struct Ends {
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<Stream> near;
  std::unique_ptr<Stream> far;

  Ends() : loop(std::move(*EventLoop::create())) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    near = std::make_unique<Stream>(*loop, fds[0]);
    far = std::make_unique<Stream>(*loop, fds[1]);
    assert_true(near->open().ok() && far->open().ok());
    loop->turn(false);
  }
};

// Turns the loop until the task is done.
template <typename T>
void finish(EventLoop& loop, Task<T>& task) {
  bool late = false;
  Timer guard([](void* flag) { *static_cast<bool*>(flag) = true; }, &late);
  loop.arm(guard, milliseconds(20'000));
  while (!task.done() && !late) loop.turn(true);
  assert_true(task.done());
}

Task<IoResult> write_parts(Stream& stream, std::span<const iovec> parts) {
  const IoResult result = co_await stream.write(parts, kLong);
  co_return result;
}

Task<IoResult> read_exactly(Stream& stream, std::span<char> into) {
  size_t got = 0;
  while (got < into.size()) {
    const IoResult result = co_await stream.read(into.subspan(got), kLong);
    if (!result.ok()) co_return result;
    got += result.bytes;
  }
  co_return IoResult{IoStatus::kOk, 0, got};
}

Task<IoResult> answer(Stream& stream) {
  std::array<char, kRequest> request;
  const IoResult got = co_await read_exactly(stream, request);
  if (!got.ok()) co_return got;
  const IoResult sent = co_await stream.write(std::string_view("good"), kLong);
  co_return sent;
}

// A request in three parts and its answer.
Task<IoResult> ask(Stream& near, Stream& far) {
  Task<IoResult> server = answer(far);
  server.start();
  char a[] = "abc";
  char b[] = "defgh";
  char c[] = "ijkl";
  const std::array<iovec, 3> parts{iovec{a, 3}, iovec{b, 5}, iovec{c, 4}};
  const IoResult sent = co_await near.write(parts, kLong);
  if (!sent.ok()) co_return sent;
  co_await done(server);
  const IoResult served = server.take();
  if (!served.ok()) co_return served;
  std::array<char, 4> reply;
  const IoResult got = co_await read_exactly(near, reply);
  if (got.ok()) assert_memory_equal(reply.data(), "good", 4);
  co_return got;
}

void test_each_call_fails_in_turn(void** /*state*/) {
  for (const int error : {ECONNRESET, ETIMEDOUT, ENOBUFS, EPIPE}) {
    const std::set<int> before = fault::open_descriptors();
    int failures = 0;
    for (int nth = 1;; ++nth) {
      assert_in_range(nth, 1, 100);
      Ends ends;
      Task<IoResult> task = ask(*ends.near, *ends.far);
      fault::arm(nth, error);
      task.start();
      finish(*ends.loop, task);
      const bool failed = fault::fired();
      fault::disarm();
      const IoResult result = task.take();
      if (!failed) {
        assert_true(result.ok());
        break;
      }
      ++failures;
      assert_int_equal(static_cast<int>(result.status), static_cast<int>(IoStatus::kError));
      assert_int_equal(result.error, error);
    }
    assert_in_range(failures, 4, 100);
    assert_true(fault::open_descriptors() == before);
  }
}

void test_interrupted_calls_are_made_again(void** /*state*/) {
  for (const int interrupts : {1, 2, 5, 50}) {
    Ends ends;
    g_interrupts = interrupts;
    Task<IoResult> task = ask(*ends.near, *ends.far);
    task.start();
    finish(*ends.loop, task);
    assert_true(task.take().ok());
    assert_int_equal(g_interrupts, 0);
  }
}

// Whatever the kernel takes of a gathered write, the rest follows from the very next byte.
void test_a_gathered_write_is_cut_at_each_byte(void** /*state*/) {
  // Parts of several lengths, an empty one among them, as many as are allowed.
  std::vector<std::string> texts = {"h", "", "ello, this", "is a", "gathered-write-of-ma", "ny"};
  assert_int_equal(texts.size(), Stream::kMaxParts);
  std::string whole;
  std::vector<iovec> parts;
  for (std::string& text : texts) {
    whole += text;
    parts.push_back({text.data(), text.size()});
  }
  for (const bool refuse : {false, true}) {
    for (size_t cut = 1; cut <= whole.size(); ++cut) {
      Ends ends;
      std::string got(whole.size(), ' ');
      Task<IoResult> read = read_exactly(*ends.far, got);
      Task<IoResult> write = write_parts(*ends.near, parts);
      g_first_write = cut;
      g_refusals = refuse ? 1 : 0;
      read.start();
      write.start();
      if (refuse) {
        // Nothing was sent: what stands for the edge of a socket that has room again.
        assert_false(write.done());
        assert_int_equal(__real_send(ends.near->fd(), "#", 1, 0), 1);
        got.push_back(' ');
        read = read_exactly(*ends.far, got);
        read.start();
      }
      finish(*ends.loop, read);
      finish(*ends.loop, write);
      const IoResult result = write.take();
      assert_true(result.ok());
      assert_int_equal(result.bytes, whole.size());
      assert_int_equal(ends.near->bytes_out(), whole.size());
      assert_string_equal(got.c_str(), ((refuse ? "#" : "") + whole).c_str());
    }
  }
}

// The peer reads meanwhile: its reading is the edge that a really full socket would give.
void test_a_write_may_move_a_byte_at_a_time(void** /*state*/) {
  for (const size_t each : {size_t{1}, size_t{2}, size_t{3}}) {
    Ends ends;
    std::string whole(300, ' ');
    for (size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<char>('a' + i % 26);
    const std::array<iovec, 2> parts{iovec{whole.data(), 100}, iovec{whole.data() + 100, 200}};
    std::string got(whole.size(), ' ');
    Task<IoResult> read = read_exactly(*ends.far, got);
    Task<IoResult> write = write_parts(*ends.near, parts);
    g_each_write = each;
    read.start();
    write.start();
    finish(*ends.loop, read);
    finish(*ends.loop, write);
    g_each_write = SIZE_MAX;
    assert_true(write.take().ok());
    assert_string_equal(got.c_str(), whole.c_str());
  }
}

// After a failure that the writer met, the reader gets what is left, and then no clean end.
void test_a_failed_write_spoils_the_end_of_the_reading(void** /*state*/) {
  Ends ends;
  assert_int_equal(__real_send(ends.far->fd(), "left", 4, 0), 4);
  ends.loop->turn(true);
  char text[] = "text";
  const std::array<iovec, 1> parts{iovec{text, 4}};
  Task<IoResult> write = write_parts(*ends.near, parts);
  fault::arm(1, ECONNRESET);
  write.start();
  fault::disarm();
  assert_true(write.done());
  assert_int_equal(write.take().error, ECONNRESET);
  ends.far.reset();
  ends.loop->turn(true);
  std::array<char, 16> block;
  assert_int_equal(ends.near->read_now(block).bytes, 4);
  const IoResult end = ends.near->read_now(block);
  assert_int_equal(static_cast<int>(end.status), static_cast<int>(IoStatus::kError));
  assert_int_equal(end.error, ECONNRESET);
}

}  // namespace
}  // namespace gatehouse

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(gatehouse::test_each_call_fails_in_turn),
      cmocka_unit_test(gatehouse::test_interrupted_calls_are_made_again),
      cmocka_unit_test(gatehouse::test_a_gathered_write_is_cut_at_each_byte),
      cmocka_unit_test(gatehouse::test_a_write_may_move_a_byte_at_a_time),
      cmocka_unit_test(gatehouse::test_a_failed_write_spoils_the_end_of_the_reading),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
