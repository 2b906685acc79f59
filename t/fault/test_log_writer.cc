// The log writer when write() fails: full disk, I/O error, interrupt, short write, stopped reader.
//
// Whatever happens, the file holds whole lines in order, a half line stands alone, and each line
// is either in the file or counted as dropped.
// wrap: write poll
#include "core/log_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
ssize_t __real_write(int fd, const void* bytes, size_t size);
int __real_poll(pollfd* fds, nfds_t count, int timeout);
}

namespace {

// What the next writes to `g_fd` do; beyond them, writes work.
struct Outcome {
  int error = 0;    // errno; 0: it works
  size_t most = 0;  // 0: all of it; else a short write of at most so many bytes
};
int g_fd = -1;
std::deque<Outcome> g_outcomes;
int g_writes = 0;
bool g_pipe_full = false;

}  // namespace

extern "C" ssize_t __wrap_write(int fd, const void* bytes, size_t size) {
  if (fd != g_fd) return __real_write(fd, bytes, size);
  ++g_writes;
  if (g_outcomes.empty()) return __real_write(fd, bytes, size);
  const Outcome outcome = g_outcomes.front();
  g_outcomes.pop_front();
  if (outcome.error != 0) {
    errno = outcome.error;
    return -1;
  }
  return __real_write(fd, bytes, outcome.most != 0 && outcome.most < size ? outcome.most : size);
}

extern "C" int __wrap_poll(pollfd* fds, nfds_t count, int timeout) {
  if (count == 1 && fds[0].fd == g_fd && g_pipe_full) return 0;
  return __real_poll(fds, count, timeout);
}

namespace gatehouse {
namespace {

struct Fixture {
  std::unique_ptr<EventLoop> loop;
  WorkerCells cells;
  LogTail tail{};
  int fd = -1;
  char path[32] = "/tmp/log_writer.XXXXXX";

  Fixture() {
    Result<std::unique_ptr<EventLoop>> made = EventLoop::create();
    assert_true(made.ok());
    loop = std::move(*made);
    close(mkstemp(path));
    fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    g_fd = fd;
    g_outcomes.clear();
    g_writes = 0;
    g_pipe_full = false;
  }
  ~Fixture() {
    g_fd = -1;
    close(fd);
    unlink(path);
  }
  std::unique_ptr<LogWriter> writer(uint32_t id = 1, size_t buffer = 4096,
                                    Duration flush = std::chrono::seconds(1)) {
    return std::make_unique<LogWriter>(*loop, "test", fd, id, &cells, &tail,
                                       LogWriter::Options{buffer, flush});
  }
  std::string text() const {
    std::string all;
    char piece[4096];
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t n = 0; (n = read(file, piece, sizeof piece)) > 0;) {
      all.append(piece, static_cast<size_t>(n));
    }
    close(file);
    return all;
  }
};

void check_text(const Fixture& f, const char* expected) {
  assert_string_equal(f.text().c_str(), expected);
}

void lines_are_collected_and_written_at_once(void**) {
  Fixture f;
  auto writer = f.writer();
  writer->append("one");
  writer->append("");
  writer->append("three");
  assert_int_equal(g_writes, 0);
  writer->flush();
  assert_int_equal(g_writes, 1);
  check_text(f, "one\n\nthree\n");
  assert_int_equal(f.cells.log_lines.get(), 3);
  writer->flush();
  assert_int_equal(g_writes, 1);
}

void the_timer_flushes(void**) {
  Fixture f;
  auto writer = f.writer(1, 4096, std::chrono::milliseconds(1));
  writer->append("line");
  while (g_writes == 0) f.loop->turn(true);
  check_text(f, "line\n");
  // And again: the timer was armed anew by the first line of the next batch.
  writer->append("next");
  while (g_writes == 1) f.loop->turn(true);
  check_text(f, "line\nnext\n");
}

void without_a_delay_each_turn_flushes(void**) {
  Fixture f;
  auto writer = f.writer(1, 4096, Duration{0});
  writer->append("a");
  writer->append("b");
  f.loop->turn(false);
  assert_int_equal(g_writes, 1);
  check_text(f, "a\nb\n");
}

void a_full_buffer_flushes_and_long_lines_pass(void**) {
  Fixture f;
  auto writer = f.writer();
  const std::string line(1000, 'x');
  for (int i = 0; i < 5; ++i) writer->append(line);
  assert_int_equal(g_writes, 1);
  const std::string long_line(10'000, 'y');
  writer->append(long_line);
  writer->append("z");
  writer->flush();
  std::string expected;
  for (int i = 0; i < 5; ++i) expected += line + "\n";
  check_text(f, (expected + long_line + "\nz\n").c_str());
  assert_int_equal(f.cells.log_lines_dropped.get(), 0);
}

// Fails the Nth write in each way, for every N there is; nothing may be lost or change places.
void any_one_write_may_fail(void**) {
  const Outcome failures[] = {{ENOSPC, 0}, {EIO, 0}, {EINTR, 0}, {EDQUOT, 0},
                              {0, 1},      {0, 7},   {0, 8},     {0, 4000}};
  for (const Outcome& failure : failures) {
    for (int nth = 1;; ++nth) {
      Fixture f;
      auto writer = f.writer();
      for (int i = 1; i < nth; ++i) g_outcomes.push_back({});
      g_outcomes.push_back(failure);
      std::string expected;
      for (int i = 0; i < 12; ++i) {
        const std::string line = fmt::format("line {} {}", i, std::string(i * 40, '-'));
        expected += line + "\n";
        writer->append(line);
        if (i % 3 == 2) writer->flush();
      }
      writer->flush();
      writer.reset();
      check_text(f, expected.c_str());
      assert_int_equal(f.cells.log_lines.get(), 12);
      assert_int_equal(f.cells.log_lines_dropped.get(), 0);
      assert_int_equal(f.tail.torn_by.load(), 0);
      if (!g_outcomes.empty()) break;  // the failure was not reached any more
    }
  }
}

void a_full_disk_keeps_a_buffer_and_counts_the_rest(void**) {
  Fixture f;
  auto writer = f.writer();
  for (int i = 0; i < 100'000; ++i) g_outcomes.push_back({ENOSPC, 0});
  const std::string line(99, 'x');
  for (int i = 0; i < 1000; ++i) writer->append(line);
  // One attempt when the buffer was full, and no system call for each line after it.
  assert_int_equal(g_writes, 1);
  assert_true(writer->failing());
  assert_true(writer->buffered() <= 4096);
  const uint64_t dropped = f.cells.log_lines_dropped.get();
  assert_true(dropped >= 959 && dropped < 1000);
  g_outcomes.clear();
  writer->flush();
  assert_false(writer->failing());
  assert_int_equal(f.cells.log_lines.get(), 1000 - dropped);
  assert_int_equal(f.text().size(), (1000 - dropped) * 100);
  writer->append("again");
  writer->flush();
  assert_int_equal(f.cells.log_lines_dropped.get(), dropped);
}

void a_full_disk_is_tried_again_by_itself(void**) {
  Fixture f;
  auto writer = f.writer(1, 4096, std::chrono::milliseconds(1));
  g_outcomes.assign(1, {ENOSPC, 0});
  writer->append("line");
  while (g_writes < 2) f.loop->turn(true);
  check_text(f, "line\n");
}

void half_a_line_is_finished_where_nobody_wrote_since(void**) {
  Fixture f;
  auto writer = f.writer();
  g_outcomes = {{0, 9}, {ENOSPC, 0}, {ENOSPC, 0}};
  writer->append("first");
  writer->append("second");
  writer->append("third");
  writer->flush();
  check_text(f, "first\nsec");
  writer->flush();  // still full
  writer->flush();
  check_text(f, "first\nsecond\nthird\n");
  assert_int_equal(f.cells.log_lines.get(), 3);
  assert_int_equal(f.cells.log_lines_dropped.get(), 0);
}

void half_a_line_stands_alone_where_another_wrote_since(void**) {
  Fixture f;
  auto one = f.writer(1);
  auto two = f.writer(2);
  g_outcomes = {{0, 9}, {ENOSPC, 0}};
  one->append("first");
  one->append("second");
  one->append("third");
  one->flush();
  two->append("other");
  two->flush();
  one->flush();
  check_text(f, "first\nsec\nother\nthird\n");
  assert_int_equal(f.cells.log_lines.get(), 3);
  assert_int_equal(f.cells.log_lines_dropped.get(), 1);
}

void the_mending_newline_may_fail_too(void**) {
  Fixture f;
  auto one = f.writer(1);
  auto two = f.writer(2);
  g_outcomes = {{0, 3}, {ENOSPC, 0}, {ENOSPC, 0}};
  one->append("first");
  one->flush();
  two->append("other");
  two->flush();
  check_text(f, "fir");
  // The mark is still there, so that whoever comes first mends it.
  two->flush();
  check_text(f, "fir\nother\n");
  one->flush();
  check_text(f, "fir\nother\n");
  assert_int_equal(f.cells.log_lines_dropped.get(), 1);
}

// A worker died with half a line in the file; its replacement has the same id.
void a_replacement_mends_what_its_predecessor_left(void**) {
  Fixture f;
  {
    auto writer = f.writer(1);
    g_outcomes = {{0, 3}};
    for (int i = 0; i < 10; ++i) g_outcomes.push_back({ENOSPC, 0});
    writer->append("first");
    writer->flush();
  }
  assert_int_equal(f.cells.log_lines_dropped.get(), 1);
  g_outcomes.clear();
  auto writer = f.writer(1);
  writer->append("second");
  writer->flush();
  check_text(f, "fir\nsecond\n");
}

void reopening_leaves_the_half_line_behind(void**) {
  Fixture f;
  Fixture next;
  g_fd = f.fd;
  auto writer = f.writer();
  g_outcomes = {{0, 9}, {ENOSPC, 0}};
  writer->append("first");
  writer->append("second");
  writer->append("third");
  writer->flush();
  writer->reopen(next.fd);
  check_text(f, "first\nsec");
  check_text(next, "third\n");
  assert_int_equal(f.tail.torn_by.load(), 0);
  assert_int_equal(f.cells.log_lines_dropped.get(), 1);
}

void a_pipe_gets_whole_lines_and_is_never_waited_for(void**) {
  Fixture f;
  int ends[2];
  assert_int_equal(pipe(ends), 0);  // blocking, as a terminal or a supervisor's pipe may be
  g_fd = ends[1];
  {
    LogWriter writer(*f.loop, "stdout", ends[1], 1, &f.cells, nullptr,
                     LogWriter::Options{size_t{1} << 20, std::chrono::seconds(1)});
    const std::string line(999, 'x');
    constexpr int kLines = 500;  // far more than a pipe holds
    for (int i = 0; i < kLines; ++i) writer.append(line);
    writer.flush();
    assert_true(writer.failing());
    assert_true(f.cells.log_lines.get() > 0);
    assert_int_equal(f.cells.log_lines_dropped.get(), 0);
    // The reader comes back: everything arrives, in order and whole.
    size_t bytes = 0;
    while (bytes < kLines * 1000) {
      char piece[1000];
      size_t got = 0;
      while (got < sizeof piece) {
        const ssize_t n = read(ends[0], piece + got, sizeof piece - got);
        assert_true(n > 0);
        got += static_cast<size_t>(n);
      }
      assert_int_equal(piece[999], '\n');
      assert_int_equal(piece[0], 'x');
      bytes += got;
      if (bytes % 30'000 == 0) writer.flush();
    }
    assert_false(writer.failing());
    assert_int_equal(f.cells.log_lines.get(), kLines);

    g_pipe_full = true;
    for (int i = 0; i < 2000; ++i) writer.append(line);
    assert_true(f.cells.log_lines_dropped.get() > 900);
  }
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace gatehouse

int main() {
  using namespace gatehouse;
  const CMUnitTest tests[] = {
      cmocka_unit_test(lines_are_collected_and_written_at_once),
      cmocka_unit_test(the_timer_flushes),
      cmocka_unit_test(without_a_delay_each_turn_flushes),
      cmocka_unit_test(a_full_buffer_flushes_and_long_lines_pass),
      cmocka_unit_test(any_one_write_may_fail),
      cmocka_unit_test(a_full_disk_keeps_a_buffer_and_counts_the_rest),
      cmocka_unit_test(a_full_disk_is_tried_again_by_itself),
      cmocka_unit_test(half_a_line_is_finished_where_nobody_wrote_since),
      cmocka_unit_test(half_a_line_stands_alone_where_another_wrote_since),
      cmocka_unit_test(the_mending_newline_may_fail_too),
      cmocka_unit_test(a_replacement_mends_what_its_predecessor_left),
      cmocka_unit_test(reopening_leaves_the_half_line_behind),
      cmocka_unit_test(a_pipe_gets_whole_lines_and_is_never_waited_for),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
