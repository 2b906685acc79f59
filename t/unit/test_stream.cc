// Streams over real sockets: edges, ends and resets in every order, timeouts, and cancelling
// whole conversations at every suspension.
#include "core/stream.h"

#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/task.h"
#include "loopback.h"

namespace gatehouse {
namespace {

using namespace loopback;
using std::chrono::milliseconds;

std::string pattern(size_t size) {
  std::string text(size, ' ');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

Task<IoResult> read_some(Stream& stream, std::span<char> into, Duration timeout) {
  const IoResult result = co_await stream.read(into, timeout);
  co_return result;
}

Task<IoResult> wait_readable(Stream& stream, Duration timeout) {
  const IoResult result = co_await stream.readable(timeout);
  co_return result;
}

Task<IoResult> write_all(Stream& stream, std::string_view bytes, Duration timeout) {
  const IoResult result = co_await stream.write(bytes, timeout);
  co_return result;
}

Task<IoResult> write_parts(Stream& stream, std::span<const iovec> parts, Duration timeout) {
  const IoResult result = co_await stream.write(parts, timeout);
  co_return result;
}

Task<IoResult> wait_connected(Stream& stream, Duration timeout) {
  const IoResult result = co_await stream.connected(timeout);
  co_return result;
}

// Starts the task and turns the loop until it is done.
IoResult finish(EventLoop& loop, Task<IoResult> task) {
  task.start();
  cr_assert(turn_until(loop, [&] { return task.done(); }), "it still waits");
  return task.take();
}

// ---- Reading ------------------------------------------------------------------------------------

Test(stream, a_short_read_has_emptied_the_socket_and_the_next_one_waits) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  cr_assert_not(tcp.stream->may_read());
  tcp.send("hello");
  IoResult result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.status, IoStatus::kOk);
  cr_assert_eq(std::string_view(block.data(), result.bytes), "hello");
  cr_assert_not(tcp.stream->may_read());
  cr_assert_eq(tcp.stream->read_now(block).status, IoStatus::kTimeout);
  Task<IoResult> next = read_some(*tcp.stream, block, kLong);
  next.start();
  loop->turn(false);
  cr_assert_not(next.done());
  tcp.send("!");
  cr_assert(turn_until(*loop, [&] { return next.done(); }));
  cr_assert_eq(next.take().bytes, 1u);
  cr_assert_eq(tcp.stream->bytes_in(), 6u);
}

Test(stream, a_read_that_filled_its_span_goes_on_at_once) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 4> block;
  tcp.send("12345678");
  for (int i = 0; i < 2; ++i) {
    const IoResult result = finish(*loop, read_some(*tcp.stream, block, kLong));
    cr_assert_eq(std::string_view(block.data(), result.bytes), i == 0 ? "1234" : "5678");
  }
  // Nothing is left, but nobody knows it yet.
  cr_assert(tcp.stream->may_read());
  cr_assert_eq(tcp.stream->read_now(block).status, IoStatus::kTimeout);
  cr_assert_not(tcp.stream->may_read());
}

Test(stream, bytes_and_the_end_in_one_event_are_both_read) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  tcp.send("last words");
  tcp.finish();
  IoResult result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.bytes, 10u);
  cr_assert(tcp.stream->peer_closed());
  const int64_t start = monotonic_ms();
  for (int i = 0; i < 2; ++i) {
    result = finish(*loop, read_some(*tcp.stream, block, kLong));
    cr_assert_eq(result.status, IoStatus::kEof);
  }
  cr_assert_lt(monotonic_ms() - start, 150);
  cr_assert_eq(tcp.stream->read_now(block).status, IoStatus::kEof);
  // The other direction lives on.
  result = finish(*loop, write_all(*tcp.stream, "answer", kLong));
  cr_assert_eq(result.status, IoStatus::kOk);
  cr_assert_eq(tcp.drain(), "answer");
}

Test(stream, a_reset_ends_a_waiting_read_with_its_error) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  Task<IoResult> read = read_some(*tcp.stream, block, Duration::zero());
  read.start();
  loop->turn(false);
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return read.done(); }));
  IoResult result = read.take();
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
  // And says so again, where the kernel would speak of an end now.
  result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
}

// libevent reports no end beside an error: without the probe the second read would wait for ever.
Test(stream, a_reset_in_the_same_event_as_bytes_is_noticed_soon) {
  for (const milliseconds timeout : {milliseconds(0), milliseconds(3'000)}) {
    auto loop = make_loop();
    Connection tcp(*loop);
    std::array<char, 64> block;
    tcp.send("partial");
    tcp.reset();
    IoResult result = finish(*loop, read_some(*tcp.stream, block, timeout));
    cr_assert_eq(result.status, IoStatus::kOk);
    cr_assert_eq(result.bytes, 7u);
    const int64_t start = monotonic_ms();
    result = finish(*loop, read_some(*tcp.stream, block, timeout));
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(result.error, ECONNRESET);
    cr_assert_lt(monotonic_ms() - start, 1'500);
  }
}

// Symptom: a tunnel, and an upstream's reply, hung on after such a reset for the whole timeout.
Test(stream, a_reset_in_the_same_event_as_bytes_ends_a_wait_without_reading_too) {
  for (const milliseconds timeout : {milliseconds(0), milliseconds(3'000)}) {
    auto loop = make_loop();
    Connection tcp(*loop);
    std::array<char, 64> block;
    tcp.send("partial");
    tcp.reset();
    IoResult result = finish(*loop, read_some(*tcp.stream, block, timeout));
    cr_assert_eq(result.bytes, 7u);
    const int64_t start = monotonic_ms();
    result = finish(*loop, wait_readable(*tcp.stream, timeout));
    cr_assert_eq(result.status, IoStatus::kOk);
    cr_assert_lt(monotonic_ms() - start, 1'500);
    result = tcp.stream->read_now(block);
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(result.error, ECONNRESET);
  }
}

// Symptom: a reply cut short by a reset looked whole, where a writer had met the reset first.
Test(stream, a_reset_that_the_writer_was_told_is_no_clean_end_to_the_reader) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  tcp.send("cut");
  tcp.reset();
  IoResult result = finish(*loop, write_all(*tcp.stream, "more", kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
  result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.bytes, 3u);
  result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
}

Test(stream, a_reset_ends_a_reader_and_a_writer_that_wait_at_once) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  std::array<char, 64> block;
  const std::string large = pattern(4 << 20);
  Task<IoResult> write = write_all(*tcp.stream, large, kLong);
  Task<IoResult> read = read_some(*tcp.stream, block, kLong);
  write.start();
  read.start();
  loop->turn(false);
  cr_assert(!write.done() && !read.done());
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return write.done() && read.done(); }));
  for (const IoResult& result : {write.take(), read.take()}) {
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(result.error, ECONNRESET);
  }
}

// The peer ended its side and then refused what we still sent: its end was a true one.
Test(stream, an_end_before_a_reset_stays_an_end) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  tcp.send("whole");
  tcp.hang_up();
  IoResult result = finish(*loop, write_all(*tcp.stream, "to nobody", kLong));
  cr_assert_eq(result.status, IoStatus::kOk);
  turn_for(*loop, milliseconds(30));
  result = finish(*loop, write_all(*tcp.stream, "to nobody", kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, EPIPE);
  result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.bytes, 5u);
  result = finish(*loop, read_some(*tcp.stream, block, kLong));
  cr_assert_eq(result.status, IoStatus::kEof);
}

Test(stream, a_read_times_out_before_and_after_the_probe) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  for (const int timeout : {40, 200, 300}) {
    const int64_t start = monotonic_ms();
    const IoResult result = finish(*loop, read_some(*tcp.stream, block, milliseconds(timeout)));
    cr_assert_eq(result.status, IoStatus::kTimeout);
    cr_assert_geq(monotonic_ms() - start, timeout - 1);
    cr_assert_lt(monotonic_ms() - start, timeout + 1'000);
  }
  tcp.send("x");
  cr_assert(finish(*loop, read_some(*tcp.stream, block, kLong)).ok());
}

Test(stream, readable_waits_without_reading) {
  auto loop = make_loop();
  Connection tcp(*loop);
  std::array<char, 64> block;
  for (const int timeout : {30, 300}) {  // before and behind the probe
    const IoResult none = finish(*loop, wait_readable(*tcp.stream, milliseconds(timeout)));
    cr_assert_eq(none.status, IoStatus::kTimeout);
  }
  IoResult result;
  tcp.send("abc");
  for (int i = 0; i < 2; ++i) {
    result = finish(*loop, wait_readable(*tcp.stream, kLong));
    cr_assert_eq(result.status, IoStatus::kOk);
  }
  result = tcp.stream->read_now(block);
  cr_assert_eq(result.bytes, 3u);
  tcp.finish();
  result = finish(*loop, wait_readable(*tcp.stream, kLong));
  cr_assert_eq(result.status, IoStatus::kOk);
  cr_assert_eq(tcp.stream->read_now(block).status, IoStatus::kEof);
}

// ---- Writing ------------------------------------------------------------------------------------

Test(stream, a_reader_and_a_writer_wait_at_once_and_both_go_on) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  std::array<char, 64> block;
  const std::string large = pattern(2 << 20);
  Task<IoResult> write = write_all(*tcp.stream, large, kLong);
  Task<IoResult> read = read_some(*tcp.stream, block, kLong);
  write.start();
  read.start();
  cr_assert(!write.done() && !read.done());
  tcp.send("early answer");
  cr_assert(turn_until(*loop, [&] { return read.done(); }));
  cr_assert_eq(read.take().bytes, 12u);
  cr_assert_not(write.done());
  std::string got;
  cr_assert(turn_until(*loop, [&] {
    got += tcp.drain();
    return write.done();
  }));
  got += tcp.drain();
  const IoResult result = write.take();
  cr_assert_eq(result.status, IoStatus::kOk);
  cr_assert_eq(result.bytes, large.size());
  cr_assert_eq(tcp.stream->bytes_out(), large.size());
  cr_assert(got == large);
}

Test(stream, a_gathered_write_keeps_its_order_through_short_writes) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  std::vector<std::string> texts;
  std::string whole;
  for (size_t i = 0; i < Stream::kMaxParts; ++i) {
    texts.push_back(i == 1 ? std::string() : pattern(200'000 + i * 77'777));
    whole += texts.back();
  }
  std::vector<iovec> parts;
  for (std::string& text : texts) parts.push_back({text.data(), text.size()});
  Task<IoResult> write = write_parts(*tcp.stream, parts, kLong);
  write.start();
  parts.clear();  // they were copied
  parts.shrink_to_fit();
  std::string got;
  cr_assert(turn_until(*loop, [&] {
    got += tcp.drain();
    return write.done();
  }));
  got += tcp.drain();
  cr_assert_eq(write.take().bytes, whole.size());
  cr_assert(got == whole);
}

Test(stream, nothing_to_write_is_written_at_once) {
  auto loop = make_loop();
  Connection tcp(*loop);
  Task<IoResult> write = write_all(*tcp.stream, {}, kLong);
  write.start();
  cr_assert(write.done());
  cr_assert(write.take().ok());
  const std::array<iovec, 2> empty{};
  Task<IoResult> parts = write_parts(*tcp.stream, empty, kLong);
  parts.start();
  cr_assert(parts.done());
  cr_assert(parts.take().ok());
}

Test(stream, a_write_that_does_not_move_times_out_and_says_how_far_it_came) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  const std::string large = pattern(2 << 20);
  const int64_t start = monotonic_ms();
  const IoResult result = finish(*loop, write_all(*tcp.stream, large, milliseconds(100)));
  cr_assert_eq(result.status, IoStatus::kTimeout);
  cr_assert_geq(monotonic_ms() - start, 99);
  cr_assert(result.bytes > 0 && result.bytes < large.size());
  cr_assert_eq(result.bytes, tcp.stream->bytes_out());
  turn_for(*loop, milliseconds(20));
  const std::string got = tcp.drain();
  cr_assert(large.compare(0, got.size(), got) == 0);
}

// Three writes at once: they go out one after the other, in the order of their calls.
Test(stream, writes_that_meet_one_under_way_go_out_after_it) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  const std::string texts[] = {pattern(2 << 20), std::string(50'000, 'B'), std::string(9, 'C')};
  std::vector<Task<IoResult>> writes;
  for (const std::string& text : texts) {
    writes.push_back(write_all(*tcp.stream, text, kLong));
    writes.back().start();
    cr_assert_not(writes.back().done());
  }
  std::string got;
  cr_assert(turn_until(*loop, [&] {
    got += tcp.drain();
    return writes[2].done();
  }));
  got += tcp.drain();
  cr_assert(got == texts[0] + texts[1] + texts[2]);
  for (size_t i = 0; i < 3; ++i) {
    cr_assert(writes[i].done());
    cr_assert_eq(writes[i].take().bytes, texts[i].size());
  }
}

Test(stream, a_write_that_waits_behind_another_can_be_cancelled) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  const std::string texts[] = {pattern(2 << 20), std::string(50'000, 'B'), std::string(9, 'C')};
  std::vector<Task<IoResult>> writes;
  for (const std::string& text : texts) {
    writes.push_back(write_all(*tcp.stream, text, kLong));
    writes.back().start();
  }
  writes[1].cancel();
  std::string got;
  cr_assert(turn_until(*loop, [&] {
    got += tcp.drain();
    return writes[2].done();
  }));
  got += tcp.drain();
  cr_assert(got == texts[0] + texts[2]);
}

// Symptom: a write behind one that ended half done was sent as if it were the rest of it.
Test(stream, nothing_follows_a_write_that_ended_in_its_middle) {
  for (const bool cancelled : {true, false}) {
    auto loop = make_loop();
    Connection tcp(*loop, 4096);
    const std::string large = pattern(2 << 20);
    const std::string behind(100, 'B');
    Task<IoResult> first = write_all(*tcp.stream, large, milliseconds(60));
    Task<IoResult> second = write_all(*tcp.stream, behind, kLong);
    first.start();
    second.start();
    if (cancelled) {
      first.cancel();
    } else {
      cr_assert(turn_until(*loop, [&] { return first.done(); }));
      cr_assert_eq(first.take().status, IoStatus::kTimeout);
    }
    std::string got;
    cr_assert(turn_until(*loop, [&] {
      got += tcp.drain();
      return second.done();
    }));
    IoResult result = second.take();
    cr_assert_eq(result.status, IoStatus::kError);
    cr_assert_eq(result.error, EPIPE);
    result = finish(*loop, write_all(*tcp.stream, behind, kLong));
    cr_assert_eq(result.error, EPIPE);
    turn_for(*loop, milliseconds(20));
    got += tcp.drain();
    cr_assert(large.compare(0, got.size(), got) == 0);
  }
}

// Symptom: a write that waited behind one which moved all the time came to its timeout.
Test(stream, progress_counts_for_the_writes_that_wait_too) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  const std::string large = pattern(400'000);
  Task<IoResult> first = write_all(*tcp.stream, large, milliseconds(300));
  Task<IoResult> second = write_all(*tcp.stream, "behind", milliseconds(300));
  first.start();
  second.start();
  const int64_t start = monotonic_ms();
  std::string got;
  while (!second.done()) {
    turn_for(*loop, milliseconds(20));
    got += tcp.drain(large.size() / 40);
    cr_assert_lt(monotonic_ms() - start, 20'000);
  }
  cr_assert_geq(monotonic_ms() - start, 301, "too quick to show anything");
  cr_assert(first.take().ok());
  cr_assert(second.take().ok());
  turn_for(*loop, milliseconds(20));
  got += tcp.drain();
  cr_assert(got == large + "behind");
}

// The peer takes a little now and then: the whole takes longer than the timeout.
Test(stream, a_write_timeout_begins_anew_with_every_progress) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  const std::string large = pattern(400'000);
  Task<IoResult> write = write_all(*tcp.stream, large, milliseconds(300));
  const int64_t start = monotonic_ms();
  write.start();
  std::string got;
  while (!write.done()) {
    turn_for(*loop, milliseconds(20));
    got += tcp.drain(large.size() / 40);
    cr_assert_lt(monotonic_ms() - start, 20'000);
  }
  cr_assert_geq(monotonic_ms() - start, 301, "too quick to show anything");
  const IoResult result = write.take();
  cr_assert_eq(result.status, IoStatus::kOk);
  cr_assert_eq(result.bytes, large.size());
}

Test(stream, ends_its_sending_side) {
  auto loop = make_loop();
  Connection tcp(*loop);
  cr_assert(finish(*loop, write_all(*tcp.stream, "bye", kLong)).ok());
  tcp.stream->shutdown_write();
  cr_assert_eq(tcp.drain(), "bye");
  char byte = 0;
  cr_assert_eq(recv(tcp.peer, &byte, 1, MSG_DONTWAIT), 0);
  std::array<char, 8> block;
  tcp.send("ok");
  cr_assert_eq(finish(*loop, read_some(*tcp.stream, block, kLong)).bytes, 2u);
}

// ---- Connecting ---------------------------------------------------------------------------------

Test(stream, connects) {
  auto loop = make_loop();
  const Listener listener;
  Stream stream(*loop, listener.begin_connect());
  cr_assert(stream.open().ok());
  cr_assert(finish(*loop, wait_connected(stream, kLong)).ok());
  const int peer = listener.accept_one();
  cr_assert_geq(peer, 0);
  cr_assert(finish(*loop, write_all(stream, "hi", kLong)).ok());
  close(peer);
}

Test(stream, reports_a_refused_connection) {
  auto loop = make_loop();
  const Listener bound(-1);
  Stream stream(*loop, bound.begin_connect());
  cr_assert(stream.open().ok());
  const IoResult result = finish(*loop, wait_connected(stream, kLong));
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNREFUSED);
}

Test(stream, a_connection_that_nobody_answers_times_out) {
  auto loop = make_loop();
  const Listener full(0);
  std::vector<int> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(full.begin_connect());
  Stream stream(*loop, full.begin_connect());
  cr_assert(stream.open().ok());
  const IoResult result = finish(*loop, wait_connected(stream, milliseconds(60)));
  cr_assert_eq(result.status, IoStatus::kTimeout);
  for (const int fd : waiting) close(fd);
}

// ---- Watching an idle connection ----------------------------------------------------------------

struct PeerEvents {
  int calls = 0;
  bool reset = false;
  static void on_peer(void* self, bool was_reset) {
    auto* events = static_cast<PeerEvents*>(self);
    ++events->calls;
    events->reset = was_reset;
  }
};

Test(stream, tells_a_half_close_once_and_a_later_reset_when_asked_again) {
  auto loop = make_loop();
  Connection tcp(*loop);
  PeerEvents events;
  tcp.stream->watch_peer(&PeerEvents::on_peer, &events);
  tcp.finish();
  cr_assert(turn_until(*loop, [&] { return events.calls > 0; }));
  cr_assert_not(events.reset);
  cr_assert(tcp.stream->peer_closed());
  tcp.stream->watch_peer(&PeerEvents::on_peer, &events);
  turn_for(*loop, milliseconds(20));
  cr_assert_eq(events.calls, 1);
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return events.calls > 1; }));
  cr_assert(events.reset);
  turn_for(*loop, milliseconds(20));
  cr_assert_eq(events.calls, 2);
}

Test(stream, tells_a_reset_of_an_idle_connection) {
  auto loop = make_loop();
  Connection tcp(*loop);
  PeerEvents events;
  tcp.stream->watch_peer(&PeerEvents::on_peer, &events);
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return events.calls > 0; }));
  cr_assert(events.reset);
  // Having been asked what it was, the kernel would call it an end now.
  std::array<char, 8> block;
  const IoResult result = tcp.stream->read_now(block);
  cr_assert_eq(result.status, IoStatus::kError);
  cr_assert_eq(result.error, ECONNRESET);
}

// Symptom: a client that pipelined and then reset its connection was not noticed.
Test(stream, tells_a_reset_behind_unread_bytes) {
  auto loop = make_loop();
  Connection tcp(*loop);
  PeerEvents events;
  tcp.stream->watch_peer(&PeerEvents::on_peer, &events);
  tcp.send("pipelined");
  turn_for(*loop, milliseconds(20));
  cr_assert_eq(events.calls, 0);
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return events.calls > 0; }));
  cr_assert(events.reset);
  std::array<char, 64> block;
  cr_assert_eq(tcp.stream->read_now(block).bytes, 9u);
}

Test(stream, does_not_tell_the_peers_end_while_somebody_reads_or_after_it_was_stopped) {
  auto loop = make_loop();
  Connection tcp(*loop);
  PeerEvents events;
  std::array<char, 8> block;
  tcp.stream->watch_peer(&PeerEvents::on_peer, &events);
  Task<IoResult> read = read_some(*tcp.stream, block, kLong);
  read.start();
  tcp.finish();
  cr_assert(turn_until(*loop, [&] { return read.done(); }));
  cr_assert_eq(read.take().status, IoStatus::kEof);
  cr_assert_eq(events.calls, 0);
  Connection other(*loop);
  other.stream->watch_peer(&PeerEvents::on_peer, &events);
  other.stream->watch_peer(nullptr, nullptr);
  other.reset();
  turn_for(*loop, milliseconds(20));
  cr_assert_eq(events.calls, 0);
}

Test(stream, tells_activity_of_every_kind) {
  for (const char what : {'b', 'f', 'r'}) {
    auto loop = make_loop();
    Connection tcp(*loop);
    int calls = 0;
    tcp.stream->watch_activity([](void* count) { ++*static_cast<int*>(count); }, &calls);
    turn_for(*loop, milliseconds(20));
    cr_assert_eq(calls, 0);
    if (what == 'b') tcp.send("unasked");
    if (what == 'f') tcp.finish();
    if (what == 'r') tcp.reset();
    cr_assert(turn_until(*loop, [&] { return calls > 0; }));
    cr_assert(tcp.stream->may_read());
  }
}

// ---- Destroying the stream from what it calls ---------------------------------------------------

Test(stream, may_be_destroyed_in_its_callbacks) {
  for (const bool activity : {true, false}) {
    auto loop = make_loop();
    Connection tcp(*loop);
    if (activity) {
      tcp.stream->watch_activity(
          [](void* owner) { static_cast<Connection*>(owner)->stream.reset(); }, &tcp);
    } else {
      tcp.stream->watch_peer(
          [](void* owner, bool) { static_cast<Connection*>(owner)->stream.reset(); }, &tcp);
    }
    tcp.send("x");
    tcp.finish();
    cr_assert(turn_until(*loop, [&] { return tcp.stream == nullptr; }));
    loop->turn(false);
  }
}

Task<> read_and_destroy(std::unique_ptr<Stream>& stream, Duration timeout) {
  std::array<char, 64> block;
  co_await stream->read(block, timeout);
  stream.reset();
}

Task<> write_and_destroy(std::unique_ptr<Stream>& stream, std::string_view text, Duration timeout) {
  co_await stream->write(text, timeout);
  stream.reset();
}

Test(stream, may_be_destroyed_by_the_coroutine_that_it_resumes) {
  auto loop = make_loop();
  const std::string large = pattern(2 << 20);
  for (const char what : {'b', 'f', 'r', 't', 'w', 'W'}) {
    Connection tcp(*loop, 4096);
    const bool writes = what == 'w' || what == 'W';
    const milliseconds timeout = what == 't' || what == 'W' ? milliseconds(20) : kLong;
    Task<> task = writes ? write_and_destroy(tcp.stream, large, timeout)
                         : read_and_destroy(tcp.stream, timeout);
    task.start();
    cr_assert_not(task.done());
    if (what == 'b') tcp.send("x");
    if (what == 'f') tcp.finish();
    if (what == 'r') tcp.reset();
    cr_assert(turn_until(*loop, [&] {
      if (what == 'w') tcp.drain();
      return task.done();
    }));
    cr_assert_null(tcp.stream.get());
    loop->turn(false);
  }
}

// The writer is resumed first, and takes the reader and the stream away within the same event.
Task<> write_and_destroy_all(std::unique_ptr<Stream>& stream, Task<IoResult>& reader,
                             std::string_view text) {
  co_await stream->write(text, kLong);
  reader.cancel();
  stream.reset();
}

Test(stream, a_writer_may_take_the_reader_and_the_stream_away) {
  auto loop = make_loop();
  Connection tcp(*loop, 4096);
  std::array<char, 64> block;
  const std::string large = pattern(2 << 20);
  Task<IoResult> reader = read_some(*tcp.stream, block, kLong);
  reader.start();
  Task<> writer = write_and_destroy_all(tcp.stream, reader, large);
  writer.start();
  cr_assert_not(writer.done());
  tcp.reset();
  cr_assert(turn_until(*loop, [&] { return writer.done(); }));
  cr_assert_null(tcp.stream.get());
  loop->turn(false);
}

}  // namespace
}  // namespace gatehouse
