// Chunked bodies.
//
// What must hold for every input: the outcome is the same for one read and for many; a second,
// plain reading of the grammar comes to the same data and the same end; and the data, encoded
// again, decodes to itself.
//
// The first two bytes of the input seed the way it is split into reads.
#include "http/chunked.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

constexpr ChunkedLimits kLimits{
    .extension_max = 40, .overhead_max = 100, .trailer_max = 200, .trailer_fields_max = 4};

struct Read {
  ChunkedDecoder::Status status = ChunkedDecoder::Status::kNeedMore;
  Reason reason = Reason::kNone;
  std::string data;
  std::string trailers;
  size_t end = 0;  // where the next message would begin, if done
};

Read decode(std::string_view bytes, unsigned seed) {
  Read read;
  ChunkedDecoder decoder(kLimits);
  std::minstd_rand random(seed + 1);
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t size =
        seed == 0 ? bytes.size()
                  : std::min<size_t>(bytes.size() - begin, 1 + random() % (seed % 31 + 1));
    auto part = std::make_unique<char[]>(size);
    std::copy_n(bytes.data() + begin, size, part.get());
    std::string_view input(part.get(), size);
    while (true) {
      const ChunkedDecoder::Step step = decoder.next(input);
      require(step.consumed <= input.size(), "no more is consumed than was given");
      read.status = step.status;
      input.remove_prefix(step.consumed);
      if (step.status != ChunkedDecoder::Status::kData) break;
      require(!step.data.empty(), "a piece of data is not empty");
      read.data += step.data;
    }
    begin += size;
    if (read.status == ChunkedDecoder::Status::kNeedMore) {
      require(input.empty(), "all was consumed");
      continue;
    }
    if (read.status == ChunkedDecoder::Status::kDone) {
      part.reset();
      read.end = begin - input.size();
      if (decoder.trailers() != nullptr) {
        for (const Field& field : *decoder.trailers()) {
          read.trailers += std::string(field.name) + "=" + std::string(field.value) +
                           (field.dropped ? "-\n" : "+\n");
        }
      }
    }
    break;
  }
  read.reason = decoder.reason();
  return read;
}

// The same grammar once more, without increments and without a thought for speed: extensions are
// skipped by looking for CRLF, which an accepted one cannot hold.
bool plainly(std::string_view bytes, std::string& data, size_t& end) {
  size_t at = 0;
  while (true) {
    const size_t line = bytes.find("\r\n", at);
    if (line == std::string_view::npos) return false;
    const unsigned long long size =
        std::strtoull(std::string(bytes.substr(at)).c_str(), nullptr, 16);
    at = line + 2;
    if (size == 0) break;
    if (bytes.size() - at < size + 2) return false;
    data += bytes.substr(at, size);
    at += size + 2;
  }
  while (bytes.substr(at, 2) != "\r\n") {
    const size_t line = bytes.find("\r\n", at);
    if (line == std::string_view::npos) return false;
    at = line + 2;
  }
  end = at + 2;
  return true;
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 2) return 0;
  const unsigned seed = seed_of(data);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Read whole = decode(bytes, 0);
  const Read split = decode(bytes, seed);
  require(whole.status == split.status && whole.reason == split.reason &&
              whole.data == split.data && whole.trailers == split.trailers &&
              whole.end == split.end,
          "one read and many have the same outcome");
  if (whole.status != ChunkedDecoder::Status::kDone) return 0;

  std::string plain_data;
  size_t plain_end = 0;
  require(plainly(bytes, plain_data, plain_end), "the grammar, read plainly, accepts too");
  require(plain_data == whole.data && plain_end == whole.end, "and reads the same");

  std::string encoded;
  if (!whole.data.empty()) {
    char header[kChunkHeaderMax];
    encoded.append(header, write_chunk_header(header, whole.data.size()));
    encoded += whole.data;
    encoded += kChunkEnd;
  }
  encoded += kLastChunk;
  const Read again = decode(encoded, seed);
  require(again.status == ChunkedDecoder::Status::kDone && again.data == whole.data &&
              again.end == encoded.size(),
          "encoded again it decodes to itself");
  return 0;
}
