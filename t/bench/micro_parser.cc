// How long the parsers take for typical requests, in nanoseconds each: the parser alone, and all
// that a session does with a head before it routes (parser, target, framing).
//
//   c++ -std=c++20 -O2 -Isrc t/bench/micro_parser.cc src/http/*.cc … -lfmt && ./a.out
//
// Each figure is the best of several rounds, for the machine is shared. The last figure of a
// row is for two plain passes over the same bytes, something to measure the machine by.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "http/body_framing.h"
#include "http/chunked.h"
#include "http/h1_parser.h"
#include "http/target.h"

namespace gatehouse {
namespace {

volatile uint64_t sink;

template <typename Function>
double best_ns(Function&& function) {
  constexpr int kRounds = 15;
  constexpr int kCalls = 20000;
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int call = 0; call < kCalls; ++call) function();
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
    best = std::min(best, spent.count() / kCalls);
  }
  return best;
}

void measure(const char* name, const std::string& bytes) {
  FieldList fields;
  RequestHead head;
  H1RequestParser parser;
  const H1Limits limits;
  const auto parse = [&] {
    fields.clear();
    parser.reset();
    if (parser.parse(bytes, limits, head, fields) != ParseStatus::kComplete) std::abort();
    sink = head.length;
  };
  const double alone = best_ns(parse);
  const auto all = [&] {
    parse();
    RequestTarget target;
    RequestFacts facts;
    std::pmr::memory_resource& arena = *std::pmr::null_memory_resource();
    if (parse_target(head.target, head.method_id, {}, arena, target) != Reason::kNone ||
        check_request(head, fields, target, arena, facts) != Reason::kNone) {
      std::abort();
    }
    sink = facts.body.length + target.path.size();
  };
  const double whole = best_ns(all);
  const auto plain = [&] {
    uint64_t sum = 0;
    for (int pass = 0; pass < 2; ++pass) {
      for (const char c : bytes) sum = sum * 31 + static_cast<unsigned char>(c);
    }
    sink = sum;
  };
  std::printf(
      "%-10s %4zu bytes %2zu fields  parser %6.0f ns   with target and framing %6.0f ns   "
      "(two plain passes %6.0f ns)\n",
      name, bytes.size(), fields.size(), alone, whole, best_ns(plain));
}

void measure_chunked(size_t chunk) {
  char header[kChunkHeaderMax];
  std::string bytes;
  size_t data = 0;
  while (bytes.size() < 65536) {
    bytes.append(header, write_chunk_header(header, chunk));
    bytes.append(chunk, 'x');
    bytes += kChunkEnd;
    data += chunk;
  }
  bytes += kLastChunk;
  ChunkedDecoder decoder;
  const double ns = best_ns([&] {
    decoder.reset();
    std::string_view input = bytes;
    uint64_t sum = 0;
    while (true) {
      const ChunkedDecoder::Step step = decoder.next(input);
      input.remove_prefix(step.consumed);
      if (step.status != ChunkedDecoder::Status::kData) break;
      sum += step.data.size();
    }
    if (sum != data) std::abort();
    sink = sum;
  });
  std::printf("chunked, %5zu bytes a chunk: %6.1f ns a chunk\n", chunk,
              ns / (static_cast<double>(data) / static_cast<double>(chunk)));
}

}  // namespace
}  // namespace gatehouse

int main() {
  using namespace gatehouse;
  measure("wrk", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
  measure("curl",
          "GET /v1/users/42?fields=name HTTP/1.1\r\nHost: api.example.com\r\n"
          "User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n");
  measure("client",
          "POST /v1/users HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Go-http-client/1.1\r\n"
          "Content-Length: 52\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzd"
          "WIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U\r\n"
          "Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n");
  measure(
      "browser",
      "GET /assets/app.js?v=20260101 HTTP/1.1\r\nHost: www.example.com\r\n"
      "Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"120\", \"Not?A_Brand\";v=\"24\"\r\n"
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
      "Chrome/120.0.0.0 Safari/537.36\r\nAccept: */*\r\nSec-Fetch-Site: same-origin\r\n"
      "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n"
      "Referer: https://www.example.com/index.html\r\nAccept-Encoding: gzip, deflate, br\r\n"
      "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
      "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\r\n");
  measure_chunked(16);
  measure_chunked(4096);
  return 0;
}
