// The client's side of HTTP/2 against a server's side of libnghttp2, bytes handed over by the test.
#include <criterion/criterion.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "http/h2_codec.h"
#include "http/h2_field_lines.h"
#include "http/h2_noise.h"

namespace {

using namespace gatehouse;
using End = H2Transfer::End;

// A server that notes what comes; the test answers by libnghttp2's own functions.
struct Server {
  nghttp2_session* session = nullptr;
  std::map<int32_t, std::string> heads;
  std::map<int32_t, std::string> bodies;
  std::map<int32_t, uint32_t> closed;
  std::vector<int32_t> ended;
  std::map<int32_t, std::string> to_send;  // bodies of answers

  Server() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
           const uint8_t* value, size_t value_size, uint8_t flags, void* self) {
          std::string& head = static_cast<Server*>(self)->heads[frame->hd.stream_id];
          head.append(reinterpret_cast<const char*>(name), name_size).append("=");
          head.append(reinterpret_cast<const char*>(value), value_size);
          if ((flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0) head += "!";
          head += ";";
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t stream, const uint8_t* bytes, size_t size,
                      void* self) {
          static_cast<Server*>(self)->bodies[stream].append(reinterpret_cast<const char*>(bytes),
                                                            size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
          if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
              (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
            static_cast<Server*>(self)->ended.push_back(frame->hd.stream_id);
          }
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t stream, uint32_t code, void* self) {
          static_cast<Server*>(self)->closed[stream] = code;
          return 0;
        });
    nghttp2_session_server_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
  }
  ~Server() { nghttp2_session_del(session); }

  void settings(uint32_t streams) {
    const nghttp2_settings_entry entry{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams};
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &entry, 1);
  }
  static std::vector<nghttp2_nv> lines(
      const std::vector<std::pair<const char*, const char*>>& fields) {
    std::vector<nghttp2_nv> made;
    for (const auto& [name, value] : fields) {
      made.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name)),
                      reinterpret_cast<uint8_t*>(const_cast<char*>(value)), std::strlen(name),
                      std::strlen(value), NGHTTP2_NV_FLAG_NONE});
    }
    return made;
  }
  void answer(int32_t stream, const std::vector<std::pair<const char*, const char*>>& fields,
              const char* body = nullptr) {
    const std::vector<nghttp2_nv> made = lines(fields);
    nghttp2_data_provider data{};
    if (body != nullptr) to_send[stream] = body;
    data.read_callback = [](nghttp2_session*, int32_t number, uint8_t* into, size_t room,
                            uint32_t* flags, nghttp2_data_source*, void* self) {
      std::string& left = static_cast<Server*>(self)->to_send[number];
      const size_t size = std::min(room, left.size());
      std::memcpy(into, left.data(), size);
      left.erase(0, size);
      if (left.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    nghttp2_submit_response(session, stream, made.data(), made.size(),
                            body != nullptr ? &data : nullptr);
  }
};

struct Pair {
  std::unique_ptr<H2Codec> codec;
  Server server;
  Moment now{1};
  bool alive = true;

  explicit Pair(H2Limits limits = {}, uint32_t streams = 100) {
    codec = std::make_unique<H2Codec>(limits);
    server.settings(streams);
    turn();
  }
  // Hands over whatever either side has to say, until both are silent.
  void turn() {
    for (bool moved = true; moved;) {
      moved = false;
      Buffer out(BufferClass::kBulk);
      codec->fill(out);
      if (!out.empty()) {
        moved = true;
        nghttp2_session_mem_recv(server.session,
                                 reinterpret_cast<const uint8_t*>(out.view().data()), out.size());
      }
      const uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(server.session, &bytes);
      if (size > 0) {
        moved = true;
        alive = codec->feed({reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)}, now);
      }
    }
  }
  std::vector<nghttp2_nv> request() const {
    return Server::lines(
        {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}});
  }
};

std::string take_all(H2Transfer& transfer) {
  std::string all;
  while (transfer.body_size() != 0) all += transfer.take_body().view();
  return all;
}

}  // namespace

Test(h2_codec, request_and_answer) {
  Pair pair;
  Arena arena;
  H2Transfer transfer(arena);
  cr_assert(pair.codec->may_open());
  cr_assert(pair.codec->open(transfer, pair.request(), false));
  cr_assert_not(transfer.sent());
  pair.turn();
  cr_assert(transfer.sent() && transfer.request_finished());
  pair.server.answer(1, {{":status", "200"}, {"x-a", "1"}}, "hello");
  pair.turn();
  cr_assert(pair.codec->next_changed() == &transfer);
  cr_assert(pair.codec->next_changed() == nullptr);
  cr_assert_eq(transfer.head().status, 200);
  cr_assert_eq(transfer.head().lines, "x-a: 1\r\n\r\n");
  cr_assert(transfer.end() == End::kWhole);
  cr_assert_eq(take_all(transfer), "hello");
  cr_assert_eq(pair.codec->active(), 0);
}

Test(h2_codec, body_goes_up_as_it_is_offered) {
  Pair pair;
  Arena arena;
  H2Transfer transfer(arena);
  pair.codec->open(transfer, pair.request(), true);
  pair.turn();
  cr_assert_eq(pair.server.ended.size(), 0);
  pair.codec->offer(transfer, "one ", false, nullptr);
  cr_assert_not(transfer.taken());
  pair.turn();
  cr_assert(transfer.taken());
  pair.codec->offer(transfer, "two", true, nullptr);
  pair.turn();
  cr_assert(transfer.taken() && transfer.request_finished());
  cr_assert_eq(pair.server.bodies[1], "one two");
  cr_assert_eq(pair.server.ended.size(), 1);
}

Test(h2_codec, trailers_go_up) {
  Pair pair;
  Arena arena;
  FieldList trailers;
  trailers.push("X-Sum", "7");
  trailers.push("X-Dropped", "1").dropped = true;
  H2Transfer transfer(arena);
  pair.codec->open(transfer, pair.request(), true);
  pair.codec->offer(transfer, "body", true, &trailers);
  pair.turn();
  cr_assert(transfer.taken());
  cr_assert(pair.server.heads[1].ends_with("x-sum=7;"), "%s", pair.server.heads[1].c_str());
  cr_assert_eq(pair.server.bodies[1], "body");
  cr_assert_eq(pair.server.ended.size(), 1);
}

Test(h2_codec, offer_that_is_taken_back_is_not_read) {
  Pair pair;
  Arena arena;
  H2Transfer transfer(arena);
  pair.codec->open(transfer, pair.request(), true);
  pair.turn();
  auto piece = std::make_unique<std::string>(1000, 'x');
  pair.codec->offer(transfer, *piece, true, nullptr);
  pair.codec->retract(transfer);
  piece.reset();
  pair.turn();
  cr_assert_eq(pair.server.bodies[1], "");
  cr_assert_eq(pair.server.ended.size(), 0);
}

Test(h2_codec, limit_of_the_peer) {
  Pair pair({}, 2);
  Arena arena;
  H2Transfer one(arena);
  H2Transfer two(arena);
  pair.codec->open(one, pair.request(), false);
  cr_assert(pair.codec->may_open());
  cr_assert_not(pair.codec->may_open(1));
  pair.codec->open(two, pair.request(), false);
  cr_assert_not(pair.codec->may_open());
  pair.turn();
  pair.codec->close(one);
  pair.turn();
  cr_assert_eq(pair.server.closed[1], NGHTTP2_CANCEL);
  cr_assert(pair.codec->may_open());
}

Test(h2_codec, one_request_before_the_settings) {
  H2Codec codec({});
  Arena arena;
  H2Transfer transfer(arena);
  cr_assert(codec.may_open());
  codec.open(transfer, Server::lines({{":method", "GET"}, {":path", "/"}}), false);
  cr_assert_not(codec.may_open());
}

Test(h2_codec, goaway_tells_what_is_safe) {
  Pair pair;
  Arena arena;
  H2Transfer seen(arena);
  H2Transfer unseen(arena);
  pair.codec->open(seen, pair.request(), false);
  pair.codec->open(unseen, pair.request(), false);
  pair.turn();
  nghttp2_submit_goaway(pair.server.session, NGHTTP2_FLAG_NONE, 1, NGHTTP2_NO_ERROR, nullptr, 0);
  pair.turn();
  cr_assert(seen.end() == End::kOpen);
  cr_assert(unseen.end() == End::kUnprocessed);
  cr_assert(pair.codec->going_away());
  cr_assert_not(pair.codec->may_open());
  pair.server.answer(1, {{":status", "200"}}, "late");
  pair.turn();
  cr_assert(seen.end() == End::kWhole);
  cr_assert_eq(take_all(seen), "late");
}

Test(h2_codec, refusal_teaches_a_limit) {
  Pair pair;
  Arena arena;
  H2Transfer one(arena);
  H2Transfer two(arena);
  pair.codec->open(one, pair.request(), false);
  pair.codec->open(two, pair.request(), false);
  pair.turn();
  nghttp2_submit_rst_stream(pair.server.session, NGHTTP2_FLAG_NONE, 3, NGHTTP2_REFUSED_STREAM);
  pair.turn();
  cr_assert(two.end() == End::kUnprocessed);
  cr_assert(pair.codec->may_open());
  cr_assert_not(pair.codec->may_open(1));
}

Test(h2_codec, lost_connection) {
  Pair pair;
  Arena arena;
  H2Transfer sent(arena);
  H2Transfer unsent(arena);
  H2Transfer whole(arena);
  pair.codec->open(whole, pair.request(), false);
  pair.turn();
  pair.server.answer(1, {{":status", "204"}});
  pair.turn();
  pair.codec->open(sent, pair.request(), false);
  pair.turn();
  pair.codec->open(unsent, pair.request(), false);
  pair.codec->lose();
  cr_assert(whole.end() == End::kWhole);
  cr_assert(sent.end() == End::kReset);
  cr_assert(unsent.end() == End::kUnprocessed);
}

Test(h2_codec, closed_before_it_was_sent) {
  Pair pair;
  Arena arena;
  {
    H2Transfer transfer(arena);
    pair.codec->open(transfer, pair.request(), true);
    pair.codec->offer(transfer, "never", true, nullptr);
  }
  pair.turn();
  cr_assert_eq(pair.server.bodies[1], "");
  cr_assert_eq(pair.codec->active(), 0);
  H2Transfer next(arena);
  pair.codec->open(next, pair.request(), false);
  pair.turn();
  cr_assert_eq(pair.server.ended.size(), 1);
}

Test(h2_codec, transfers_outlive_the_codec) {
  auto pair = std::make_unique<Pair>();
  Arena arena;
  H2Transfer transfer(arena);
  pair->codec->open(transfer, pair->request(), false);
  pair->turn();
  pair->codec.reset();
  cr_assert(transfer.end() == End::kReset);
}

Test(h2_codec, window_holds_the_peer_back) {
  Pair pair({.window = 65'536});
  Arena arena;
  H2Transfer transfer(arena);
  pair.codec->open(transfer, pair.request(), false);
  pair.turn();
  const std::string large(300'000, 'x');
  pair.server.answer(1, {{":status", "200"}}, large.c_str());
  pair.turn();
  cr_assert_eq(transfer.body_size(), 65'536);
  std::string all;
  while (transfer.end() == End::kOpen || transfer.body_size() != 0) {
    cr_assert_neq(transfer.body_size(), 0);
    const Buffer piece = transfer.take_body();
    all += piece.view();
    pair.codec->release(transfer, piece.size());
    pair.turn();
    cr_assert_leq(transfer.body_size(), 65'536);
  }
  cr_assert(all == large);
}

Test(h2_codec, heads_have_limits) {
  Pair pair({.head_max = 1000, .fields_max = 5});
  Arena arena;
  H2Transfer many(arena);
  H2Transfer large(arena);
  pair.codec->open(many, pair.request(), false);
  pair.codec->open(large, pair.request(), false);
  pair.turn();
  pair.server.answer(
      1, {{":status", "200"}, {"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""}, {"f", ""}});
  const std::string value(990, 'v');
  pair.server.answer(3, {{":status", "200"}, {"name-of-it", value.c_str()}});
  pair.turn();
  cr_assert(many.end() == End::kHeadTooLarge);
  cr_assert(large.end() == End::kHeadTooLarge);
  cr_assert(pair.alive);
}

Test(h2_codec, secrets_are_not_kept_in_the_table) {
  Pair pair;
  Arena arena;
  FieldList fields;
  fields.push("Authorization", "Bearer 1");
  fields.push("X-Plain", "1");
  H2FieldLines lines;
  lines.reserve(fields);
  lines.add(":method", "GET");
  lines.add(":scheme", "http");
  lines.add(":path", "/");
  lines.add(":authority", "a");
  lines.add(fields);
  H2Transfer transfer(arena);
  pair.codec->open(transfer, lines.all(), false);
  pair.turn();
  cr_assert_eq(pair.server.heads[1],
               ":method=GET;:scheme=http;:path=/;:authority=a;authorization=Bearer 1!;x-plain=1;");
}

Test(h2_codec, peer_that_speaks_something_else) {
  H2Codec codec({});
  Arena arena;
  H2Transfer transfer(arena);
  codec.open(transfer, Server::lines({{":method", "GET"}, {":path", "/"}}), false);
  Buffer out(BufferClass::kBulk);
  codec.fill(out);
  (void)codec.feed("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Moment{1});
  codec.fill(out);
  cr_assert(codec.peer_failed());
  codec.lose();
  cr_assert(transfer.end() == End::kMalformed);
}

Test(h2_noise, counts_what_serves_nothing) {
  const std::string ping("\0\0\x08\x06\0\0\0\0\0", 9);
  const std::string data("\0\0\x01\0\0\0\0\0\x01", 9);
  H2Noise noise;
  for (uint32_t i = 0; i < H2Noise::kAllowance; ++i) {
    cr_assert(noise.note(ping, Moment{1}));
    cr_assert(noise.note("12345678", Moment{1}));
  }
  // What carries something earns more.
  cr_assert(noise.note(data + "x", Moment{1}));
  for (uint32_t i = 0; i < H2Noise::kForUseful; ++i) {
    cr_assert(noise.note(ping + "12345678", Moment{1}));
  }
  cr_assert_not(noise.note(ping + "12345678", Moment{1}));
  // Another stretch of time.
  cr_assert(noise.note(ping + "12345678", Moment{2 + H2Noise::kStretchUs}));
}

Test(h2_noise, is_the_same_however_the_bytes_are_cut) {
  std::string bytes;
  for (int i = 0; i < 1005; ++i) bytes += std::string("\0\0\x03\x42\0\0\0\0\0abc", 12);
  H2Noise whole;
  cr_assert_not(whole.note(bytes, Moment{1}));
  H2Noise cut;
  size_t passed = 0;
  while (cut.note(bytes.substr(passed, 1), Moment{1})) ++passed;
  // The header of the first frame that is one too many has just been read.
  cr_assert_eq(passed, 12 * H2Noise::kAllowance + 8);
}
