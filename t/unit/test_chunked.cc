// The chunked coding. Each input is decoded whole, byte by byte and in all pairs of reads, with
// the same outcome.
#include "http/chunked.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace gatehouse {
namespace {

using namespace std::string_literals;

// "data|trailers|rest" when done, "more:data" when not, "refused code".
std::string decode(const std::string& bytes, const std::vector<size_t>& ends,
                   const ChunkedLimits& limits) {
  ChunkedDecoder decoder(limits);
  std::string data;
  size_t begin = 0;
  for (const size_t end : ends) {
    auto part = std::make_unique<char[]>(end - begin);
    std::copy_n(bytes.data() + begin, end - begin, part.get());
    std::string_view input(part.get(), end - begin);
    while (true) {
      const ChunkedDecoder::Step step = decoder.next(input);
      cr_assert(step.consumed <= input.size());
      if (step.status == ChunkedDecoder::Status::kRefused) {
        cr_assert(decoder.next(input).status == ChunkedDecoder::Status::kRefused);
        return "refused "s + reason_info(decoder.reason()).code;
      }
      input.remove_prefix(step.consumed);
      if (step.status == ChunkedDecoder::Status::kNeedMore) {
        cr_assert(input.empty());
        break;
      }
      if (step.status == ChunkedDecoder::Status::kData) {
        cr_assert_not(step.data.empty());
        data += step.data;
        continue;
      }
      cr_assert(decoder.done());
      part.reset();  // trailers must not need the input
      std::string text = data + "|";
      if (decoder.trailers() != nullptr) {
        for (const Field& field : *decoder.trailers()) {
          text += std::string(field.name) + "=" + std::string(field.value);
          text += field.dropped ? "(dropped);" : ";";
        }
      }
      return text + "|" + bytes.substr(end - input.size());
    }
    begin = end;
  }
  return "more:" + data;
}

void expect(const std::string& bytes, const std::string& wanted, const ChunkedLimits& limits = {}) {
  const std::string whole = decode(bytes, {bytes.size()}, limits);
  cr_assert_str_eq(whole.c_str(), wanted.c_str(), "\n%s\ngives %s", bytes.c_str(), whole.c_str());
  std::vector<size_t> each;
  for (size_t i = 1; i <= bytes.size(); ++i) each.push_back(i);
  const std::string single = decode(bytes, each, limits);
  cr_assert_str_eq(single.c_str(), wanted.c_str(), "byte by byte: %s", bytes.c_str());
  for (size_t i = 0; i < bytes.size() && bytes.size() < 400; ++i) {
    const std::string split = decode(bytes, {i, bytes.size()}, limits);
    cr_assert_str_eq(split.c_str(), wanted.c_str(), "split at %zu: %s", i, bytes.c_str());
  }
}

void refused(const std::string& bytes) {
  expect(bytes, "refused bad_chunk");
}

Test(chunked, bodies_that_are_well_formed) {
  expect("0\r\n\r\n", "||");
  expect("5\r\nhello\r\n0\r\n\r\n", "hello||");
  expect("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", "hello world||GET /");
  expect("A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n000\r\n\r\n",
         "0123456789\r\n\r\n\r\n\r\n\r\n||");
  expect("0000000000000001\r\nx\r\n0\r\n\r\n", "x||");
  expect("1\r\n\0\r\n0\r\n\r\n"s, "\0||"s);
}

Test(chunked, unfinished_bodies) {
  expect("", "more:");
  expect("5", "more:");
  expect("5\r", "more:");
  expect("5\r\nhel", "more:hel");
  expect("5\r\nhello\r", "more:hello");
  expect("5\r\nhello\r\n0\r\n", "more:hello");
  expect("0\r\n\r", "more:");
  expect("0\r\nA: b\r\n", "more:");
  expect("7fffffffffffffff\r\nx", "more:x");
}

Test(chunked, sizes_that_are_malformed) {
  for (const auto* bytes : {"\r\n",
                            "g\r\n",
                            "x5\r\n",
                            "0x5\r\nhello\r\n",
                            "+5\r\n",
                            "-1\r\n",
                            " 5\r\n",
                            "5 \r\n",
                            "5\t\r\n",
                            "5\n",
                            "5\nhello",
                            "5\rhello",
                            "5\r\rhello",
                            "5\r \n",
                            "00000000000000001\r\n",
                            "8000000000000000\r\n",
                            "ffffffffffffffff\r\n",
                            "10000000000000000\r\n",
                            "5_0\r\n",
                            "5.\r\n",
                            "5,\r\n",
                            "\n5\r\n",
                            ";\r\n",
                            ";a\r\n",
                            "5 5\r\n",
                            "\xEF\xBC\x95\r\n"}) {
    refused(bytes);
  }
  refused("5\0\r\n"s);
  refused("\0"s);
}

Test(chunked, data_that_does_not_end_where_it_should) {
  refused("5\r\nhelloX\r\n");
  refused("5\r\nhello!\n0\r\n\r\n");
  refused("5\r\nhello\n0\r\n\r\n");
  refused("5\r\nhello\r0\r\n\r\n");
  refused("5\r\nhello\r\r\n");
  refused("5\r\nhello0\r\n\r\n");
  refused("5\r\nhello\r\n\r\n");
  refused("5\r\nhello\r\n 0\r\n\r\n");
}

Test(chunked, extensions_in_their_exact_syntax_are_skipped) {
  expect("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello||");
  expect("1;a;b=c;d=\"e f\\\"\xC3\xA9\t\"\r\nx\r\n0\r\n\r\n", "x||");
  expect("1 ; a = b ; c\r\nx\r\n0\r\n\r\n", "x||");
  expect("1\t;\ta\t=\t\"\"\t;c=d\r\nx\r\n0\r\n\r\n", "x||");
}

Test(chunked, extensions_that_are_malformed) {
  for (const auto* bytes : {"1;\r\nx",
                            "1;;a\r\nx",
                            "1;a;\r\nx",
                            "1; \r\nx",
                            "1;a \r\nx",
                            "1;a=b \r\nx",
                            "1;a=\"b\" \r\nx",
                            "1;a=\r\nx",
                            "1;=b\r\nx",
                            "1;a=b c\r\nx",
                            "1;a b\r\nx",
                            "1;a=\"b\r\nx",
                            "1;a=\"b\"c\r\nx",
                            "1;a=\"b\\\r\n\"\r\nx",
                            "1;a\nx",
                            "1;a\rx",
                            "1;a\r\rx",
                            "1;a=\"\n\"\r\nx",
                            "1;a=b=c\r\nx",
                            "1;a=\"\r\n\"\r\nx",
                            "1;\xC3\xA9\r\nx",
                            "1;a\x01\r\nx",
                            "1,a\r\nx",
                            "1;(a)\r\nx",
                            "1;\nxx\r\n0\r\n\r\n",
                            "2;\n12\r\n0\r\n\r\n"}) {
    refused(bytes);
  }
  refused("1;a\0\r\nx"s);
  refused("1;a=\"\0\"\r\nx"s);
}

Test(chunked, extensions_are_bounded) {
  ChunkedLimits limits;
  limits.extension_max = 10;
  limits.overhead_max = 25;
  expect("1;aaaaaaaaa\r\nx\r\n0\r\n\r\n", "x||", limits);
  expect("1;aaaaaaaaaa\r\nx\r\n0\r\n\r\n", "refused bad_chunk", limits);
  // Each chunk owes 10 and pays 2: the debt is 10, 18, 26.
  const std::string chunk = "1;aaaaaaaaa\r\nx\r\n";
  expect(chunk + chunk + "0\r\n\r\n", "xx||", limits);
  expect(chunk + chunk + chunk + "0\r\n\r\n", "refused bad_chunk", limits);
  // Data of at least half the size pays for all.
  std::string fair;
  for (int i = 0; i < 20; ++i) fair += "5;aaaaaaaaa\r\nhello\r\n";
  cr_assert_eq(decode(fair, {fair.size()}, limits).size(), 5u + 100u);
}

Test(chunked, trailers) {
  expect("0\r\nA: b\r\n\r\n", "|A=b;|");
  expect("1\r\nx\r\n0\r\nGrpc-Status: 0\r\nETag: \"x\"\r\n\r\nrest",
         "x|Grpc-Status=0;ETag=\"x\";|rest");
  expect("0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nX: y\r\n\r\n",
         "|Content-Length=5(dropped);Transfer-Encoding=chunked(dropped);Host=a(dropped);X=y;|");
  expect(
      "0\r\nAuthorization: x\r\nX-Forwarded-For: 1\r\nX-Forwarded-New: 1\r\nSet-Cookie: a\r\n\r\n",
      "|Authorization=x(dropped);X-Forwarded-For=1(dropped);X-Forwarded-New=1(dropped);"
      "Set-Cookie=a(dropped);|");
  expect("0\r\nContent_Length: 5\r\nContent-Digest: x\r\nContent-Foo: y\r\n\r\n",
         "|Content_Length=5(dropped);Content-Digest=x;Content-Foo=y(dropped);|");
}

Test(chunked, trailers_that_are_malformed) {
  expect("0\r\nA : b\r\n\r\n", "refused space_before_colon");
  expect("0\r\nA: b\n\r\n", "refused bare_lf");
  expect("0\r\nA: b\rX: c\r\n\r\n", "refused bare_cr");
  expect("0\r\n A: b\r\n\r\n", "refused obs_fold");
  expect("0\r\nA: b\r\n c\r\n\r\n", "refused obs_fold");
  expect("0\r\nGET / HTTP/1.1\r\n\r\n", "refused space_before_colon");
  expect("0\r\nA: \0\r\n\r\n"s, "refused nul_byte");
  expect("0\r\n\n", "refused bare_lf");
  refused("0\r\n\rX");
  expect("0\r\nA: b\r\n\rX", "refused bare_cr");
}

Test(chunked, trailers_are_bounded) {
  ChunkedLimits limits;
  limits.trailer_max = 12;
  limits.trailer_fields_max = 2;
  expect("0\r\nA: bbbbb\r\n\r\n", "|A=bbbbb;|", limits);
  expect("0\r\nA: bbbbb\r\n\r\nrest", "|A=bbbbb;|rest", limits);
  expect("0\r\nA: bbbbbb\r\n\r\n", "refused bad_trailer", limits);
  limits.trailer_max = 100;
  expect("0\r\nA: 1\r\nB: 2\r\n\r\n", "|A=1;B=2;|", limits);
  expect("0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", "refused bad_trailer", limits);
}

Test(chunked, a_decoder_is_reused) {
  ChunkedDecoder decoder;
  for (const auto* bytes : {"0\r\nA: b\r\n\r\n", "1;a\r\n", "0\r\n\r\n"}) {
    decoder.reset();
    decoder.next(bytes);
  }
  cr_assert(decoder.done());
  cr_assert(decoder.trailers() == nullptr);
  decoder.reset();
  cr_assert(decoder.next("x").status == ChunkedDecoder::Status::kRefused);
  decoder.reset();
  cr_assert(decoder.next("0\r\n\r\nmore").status == ChunkedDecoder::Status::kDone);
  cr_assert_eq(decoder.next("more").consumed, 0u);
}

Test(chunked, chunk_headers_are_written_and_read_back) {
  char header[kChunkHeaderMax];
  for (const uint64_t size : {uint64_t{1}, uint64_t{9}, uint64_t{16}, uint64_t{255},
                              uint64_t{65536}, uint64_t{0x123456789abcdef}, ~uint64_t{0} >> 1}) {
    const std::string text(header, write_chunk_header(header, size));
    char wanted[kChunkHeaderMax + 1];
    std::snprintf(wanted, sizeof wanted, "%llx\r\n", static_cast<unsigned long long>(size));
    cr_assert_str_eq(text.c_str(), wanted);
    ChunkedDecoder decoder;
    const std::string input = text + "x";
    cr_assert(decoder.next(input).status == ChunkedDecoder::Status::kData);
  }
  cr_assert_eq(write_chunk_header(header, ~uint64_t{0}), kChunkHeaderMax);
}

}  // namespace
}  // namespace gatehouse
