// See worker_columns.h.
#include "core/worker_columns.h"

#include <fmt/format.h>

namespace gatehouse {
namespace {

constexpr std::string_view kHeaderType = "worker_columns";
constexpr std::string_view kColumnType = "worker_column";
// Of the header; the caller's version of its cells comes on top.
constexpr uint32_t kLayoutVersion = 1;

}  // namespace

Result<ColumnsHeader*> open_columns(SharedMemory& shared, std::string_view name, uint32_t version,
                                    uint32_t cells, uint32_t cell_bytes) {
  // Another number or size of cells is another table: the zone's name says so, so that whoever has
  // the old one open goes on with that.
  const std::string zone_name = fmt::format("{}:{}x{}v{}", name, cells, cell_bytes, version);
  Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
      zone_name, kHeaderType, kLayoutVersion, sizeof(ColumnsHeader), alignof(ColumnsHeader));
  if (!zone) return zone.error();
  auto* header = zone_as<ColumnsHeader>(*zone);
  header->cells.store(cells, std::memory_order_relaxed);
  header->cell_bytes.store(cell_bytes, std::memory_order_relaxed);
  return header;
}

Result<void*> open_column(SharedMemory& shared, ColumnsHeader& header, std::string_view name,
                          uint32_t version, uint32_t row) {
  if (row >= ColumnsHeader::kRowsMax) {
    return Error{fmt::format("{}: there are at most {} rows", name, ColumnsHeader::kRowsMax)};
  }
  const uint32_t cells = header.cells.load(std::memory_order_relaxed);
  const uint32_t cell_bytes = header.cell_bytes.load(std::memory_order_relaxed);
  Result<std::span<std::byte>> zone =
      shared.adopt_or_create_zone(fmt::format("{}:{}x{}.{}", name, cells, cell_bytes, row),
                                  kColumnType, version, size_t{cells} * cell_bytes);
  if (!zone) return zone.error();
  const auto offset = reinterpret_cast<char*>(zone->data()) - reinterpret_cast<char*>(&header);
  header.offset[row].store(offset, std::memory_order_release);
  uint32_t rows = header.rows.load(std::memory_order_relaxed);
  while (rows <= row && !header.rows.compare_exchange_weak(rows, row + 1)) {
  }
  return static_cast<void*>(zone->data());
}

size_t zero_columns(SharedMemory& shared, uint32_t row) {
  size_t zeroed = 0;
  for (const ZoneInfo& zone : shared.zones()) {
    if (zone.type != kHeaderType || zone.retired) continue;
    auto* header = zone_as<ColumnsHeader>(shared.find_zone(zone.name, kHeaderType, kLayoutVersion));
    if (header == nullptr || row >= ColumnsHeader::kRowsMax) continue;
    const int64_t offset = header->offset[row].load(std::memory_order_acquire);
    if (offset == 0) continue;
    auto* words =
        reinterpret_cast<std::atomic<uint64_t>*>(reinterpret_cast<char*>(header) + offset);
    const size_t count = size_t{header->cells.load(std::memory_order_relaxed)} *
                         header->cell_bytes.load(std::memory_order_relaxed) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i) words[i].store(0, std::memory_order_relaxed);
    ++zeroed;
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return zeroed;
}

}  // namespace gatehouse
