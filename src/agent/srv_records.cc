// See srv_records.h.
#include "agent/srv_records.h"

#include <ares.h>

#include <algorithm>
#include <cstring>

namespace gatehouse {
namespace {

constexpr size_t kHeaderSize = 12;
constexpr size_t kQuestionTail = 4;  // type and class, behind the name
constexpr size_t kRecordTail = 10;   // type, class, TTL, length
constexpr uint16_t kTypeCname = 5;
constexpr uint16_t kTypeSrv = 33;
constexpr uint16_t kClassInternet = 1;

uint16_t number_at(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool has(size_t count) const { return bytes_.size() - at_ >= count; }
  void skip(size_t count) { at_ += count; }
  uint16_t peek16(size_t ahead) const { return number_at(bytes_, at_ + ahead); }
  uint32_t peek32(size_t ahead) const { return uint32_t{peek16(ahead)} << 16 | peek16(ahead + 2); }

  // Takes a name, whose parts may lie elsewhere; false where it is malformed.
  bool name(std::string& into) {
    if (at_ >= bytes_.size()) return false;
    char* text = nullptr;
    long size = 0;
    const int status = ares_expand_name(bytes_.data() + at_, bytes_.data(),
                                        static_cast<int>(bytes_.size()), &text, &size);
    if (status != ARES_SUCCESS) return false;
    into = text;
    ares_free_string(text);
    if (size <= 0 || !has(static_cast<size_t>(size))) return false;
    at_ += static_cast<size_t>(size);
    return true;
  }

  // The same `ahead` bytes further on, without taking it.
  bool name_at(size_t ahead, std::string& into) const {
    Reader other = *this;
    other.at_ += ahead;
    return other.name(into);
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace

Result<SrvRecords> parse_srv_records(std::span<const uint8_t> answer) {
  const Error malformed{"a malformed answer"};
  Reader reader(answer);
  if (answer.size() < kHeaderSize || answer.size() > 65535) return malformed;
  const uint16_t questions = number_at(answer, 4);
  const uint16_t answers = number_at(answer, 6);
  reader.skip(kHeaderSize);
  std::string name;
  for (uint16_t i = 0; i < questions; ++i) {
    if (!reader.name(name) || !reader.has(kQuestionTail)) return malformed;
    reader.skip(kQuestionTail);
  }
  SrvRecords found;
  uint32_t ttl = UINT32_MAX;
  for (uint16_t i = 0; i < answers; ++i) {
    if (!reader.name(name) || !reader.has(kRecordTail)) return malformed;
    const uint16_t type = reader.peek16(0);
    const bool internet = reader.peek16(2) == kClassInternet;
    const uint32_t age = reader.peek32(4);
    const uint16_t size = reader.peek16(8);
    reader.skip(kRecordTail);
    if (!reader.has(size)) return malformed;
    if (internet && (type == kTypeSrv || type == kTypeCname)) ttl = std::min(ttl, age);
    if (internet && type == kTypeSrv && found.records.size() < kSrvRecordsMax) {
      SrvRecord record;
      if (size < 7 || !reader.name_at(6, record.host)) return malformed;
      record.priority = reader.peek16(0);
      record.weight = reader.peek16(2);
      record.port = reader.peek16(4);
      if (!record.host.empty() && record.host != "." && record.port != 0) {
        found.records.push_back(std::move(record));
      }
    }
    reader.skip(size);
  }
  // The uppermost bit has no meaning (RFC 2181 §8).
  found.ttl = std::chrono::seconds(ttl > INT32_MAX ? 0 : ttl);
  return found;
}

}  // namespace gatehouse
