// See certificate_expiry.h.
#include "core/certificate_expiry.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <span>

namespace gatehouse {
namespace {

constexpr std::string_view kZone = "certificates.expiry";
constexpr std::string_view kType = "certificate_expiry";
constexpr uint32_t kVersion = 1;
constexpr size_t kNameWords = kExpiryNameMax / sizeof(uint64_t);
constexpr size_t kRowsMin = 16;
constexpr int kReadsMax = 8;

struct Row {
  std::atomic<int64_t> not_after;
  std::atomic<uint64_t> kind;
  std::array<std::atomic<uint64_t>, kNameWords> name;  // padded with zeros
};

struct Head {
  std::atomic<uint64_t> sequence;  // odd: being written
  std::atomic<uint64_t> count;
};
static_assert(ZoneLayout<Head> && ZoneLayout<Row> && sizeof(Head) % alignof(Row) == 0);

struct Table {
  Head* head = nullptr;
  std::span<Row> rows;
};

Table table_in(std::span<std::byte> zone) {
  if (zone.size() < sizeof(Head)) return {};
  const std::span<std::byte> rest = zone.subspan(sizeof(Head));
  return {reinterpret_cast<Head*>(zone.data()),
          {reinterpret_cast<Row*>(rest.data()), rest.size() / sizeof(Row)}};
}

void write_row(Row& row, std::string_view name, const CertificateEntry& entry) {
  std::array<uint64_t, kNameWords> words{};
  std::memcpy(words.data(), name.data(), std::min(name.size(), kExpiryNameMax));
  for (size_t i = 0; i < kNameWords; ++i) row.name[i].store(words[i], std::memory_order_relaxed);
  row.kind.store(static_cast<uint64_t>(entry.kind), std::memory_order_relaxed);
  row.not_after.store(entry.not_after, std::memory_order_relaxed);
}

CertificateExpiry read_row(const Row& row) {
  std::array<char, kExpiryNameMax> name{};
  for (size_t i = 0; i < kNameWords; ++i) {
    const uint64_t word = row.name[i].load(std::memory_order_relaxed);
    std::memcpy(name.data() + i * sizeof(word), &word, sizeof(word));
  }
  CertificateExpiry expiry;
  expiry.name.assign(name.data(), strnlen(name.data(), name.size()));
  const uint64_t kind = row.kind.load(std::memory_order_relaxed);
  expiry.kind = static_cast<KeyKind>(std::min<uint64_t>(kind, 2));
  expiry.not_after = row.not_after.load(std::memory_order_relaxed);
  return expiry;
}

}  // namespace

Result<void> publish_certificate_expiry(SharedMemory& shared, const CertificateSet* set) {
  size_t count = 0;
  for (uint32_t number = 0; set != nullptr && number < set->size(); ++number) {
    count += set->entries_of(number).size();
  }
  std::span<std::byte> zone = shared.find_zone(kZone, kType, kVersion);
  if (count == 0 && zone.empty()) return {};
  if (table_in(zone).rows.size() < count) {
    const size_t rows = std::bit_ceil(std::max(count, kRowsMin));
    Result<std::span<std::byte>> larger = shared.adopt_or_create_zone(
        kZone, kType, kVersion, sizeof(Head) + rows * sizeof(Row), alignof(Row));
    if (!larger) return larger.error();
    zone = *larger;
  }
  const Table table = table_in(zone);
  // A predecessor that died while it wrote has left it odd.
  const uint64_t sequence = table.head->sequence.load(std::memory_order_relaxed) | 1;
  table.head->sequence.store(sequence, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  size_t row = 0;
  for (uint32_t number = 0; set != nullptr && number < set->size(); ++number) {
    for (const CertificateEntry& entry : set->entries_of(number)) {
      write_row(table.rows[row++], set->name_of(number), entry);
    }
  }
  table.head->count.store(row, std::memory_order_relaxed);
  table.head->sequence.store(sequence + 1, std::memory_order_release);
  return {};
}

std::vector<CertificateExpiry> read_certificate_expiry(SharedMemory& shared) {
  const Table table = table_in(shared.find_zone(kZone, kType, kVersion));
  if (table.head == nullptr) return {};
  for (int read = 0; read < kReadsMax; ++read) {
    const uint64_t before = table.head->sequence.load(std::memory_order_acquire);
    if (before % 2 != 0) continue;
    const uint64_t count = table.head->count.load(std::memory_order_relaxed);
    std::vector<CertificateExpiry> list;
    for (const Row& row : table.rows.first(std::min<size_t>(count, table.rows.size()))) {
      list.push_back(read_row(row));
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (table.head->sequence.load(std::memory_order_relaxed) == before) return list;
  }
  return {};
}

}  // namespace gatehouse
