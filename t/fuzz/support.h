// What the fuzzers share: a check that ends the process, and messages cut into reads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "http/body_framing.h"
#include "http/h1_parser.h"

namespace gatehouse::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

inline constexpr H1Limits kHeadLimits{.head_max = 2000, .fields_max = 20, .target_max = 200};

// The seed that the first two bytes of an input give: never 0, which means one read for all.
inline unsigned seed_of(const uint8_t* data) {
  return 1U + data[0] + (unsigned{data[1]} << 8);
}

// Reads a head in pieces, and checks what holds for both kinds. After each piece the parser sees
// a fresh copy of the exact size, so that a view into the last one, or a byte too far, is found;
// `buffer` holds the copy that the verdict's views point into.
template <class Parser, class Head>
ParseStatus read_head_in_pieces(std::string_view bytes, unsigned seed, Parser& parser, Head& head,
                                FieldList& fields, std::unique_ptr<char[]>& buffer) {
  std::minstd_rand random(seed + 1);
  ParseStatus status = ParseStatus::kIncomplete;
  for (size_t end = 0;;) {
    end = seed == 0 ? bytes.size() : std::min(bytes.size(), end + 1 + random() % (seed % 61 + 1));
    auto next = std::make_unique<char[]>(end);
    std::copy_n(bytes.data(), end, next.get());
    buffer = std::move(next);
    status = parser.parse({buffer.get(), end}, kHeadLimits, head, fields);
    if (status != ParseStatus::kIncomplete || end == bytes.size()) break;
  }
  require((status == ParseStatus::kRefused) == (parser.reason() != Reason::kNone),
          "a refusal has a reason, and nothing else has");
  if (status == ParseStatus::kComplete) {
    require(head.length <= bytes.size() && head.length <= kHeadLimits.head_max,
            "the head has an end");
  }
  return status;
}

inline std::string line_of(const Field& field) {
  return std::string(field.name) + ": " + std::string(field.value) + "\r\n";
}

// The field that tells a body's end, as a head is written anew.
inline std::string framing_line(const BodyLength& body) {
  if (body.kind == BodyLength::Kind::kLength) {
    return "Content-Length: " + std::to_string(body.length) + "\r\n";
  }
  if (body.kind == BodyLength::Kind::kChunked) return "Transfer-Encoding: chunked\r\n";
  return {};
}

}  // namespace gatehouse::fuzz
