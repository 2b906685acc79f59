// ColumnTable: shared counts of which each worker has a column of its own.
//
// What a worker holds (requests in flight, probes, waiting ones) must be right after it was killed
// at any instruction. So each worker writes its own column only, the sum over the columns is the
// count, and when a worker has ended the master sets its column to zero (zero_columns). Nobody
// takes a lock, and no two workers write to one cache line.
//
// A limit over all workers that is never exceeded: add to the own cell (seq_cst), then sum all
// columns, and take back where the sum is over the limit. Of two that do so at once, at least the
// later one sees the earlier one's count; both may be refused, both admitted never.
//
// Layout: one zone of the type "worker_columns" with a header, and a zone NAME.ROW for each column.
// The header says where each column stands, so that finding one takes no lock. A column is made
// when its worker first asks for it, and stays: the next worker of that row goes on with it,
// zeroed. Leaves out: what must outlive its worker; that belongs into plain shared cells.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/metrics.h"
#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

struct ColumnsHeader {
  static constexpr uint32_t kRowsMax = Metrics::kRowsMax;
  std::atomic<uint32_t> cells;            // of each column
  std::atomic<uint32_t> cell_bytes;       // of each cell
  std::atomic<uint32_t> rows;             // columns above this row were never made
  std::atomic<int64_t> offset[kRowsMax];  // of the column's bytes from the header; 0: none yet
};
static_assert(ZoneLayout<ColumnsHeader>);

// Finds or makes the header's zone. For ColumnTable.
Result<ColumnsHeader*> open_columns(SharedMemory& shared, std::string_view name, uint32_t version,
                                    uint32_t cells, uint32_t cell_bytes);
// The column's bytes, made where it is not there. Takes the segment's lock. For ColumnTable.
Result<void*> open_column(SharedMemory& shared, ColumnsHeader& header, std::string_view name,
                          uint32_t version, uint32_t row);

// A worker has ended: what it held, in whatever table, is held no more. The master calls it before
// another process gets the row. Returns how many columns there were.
size_t zero_columns(SharedMemory& shared, uint32_t row);

// T is made of lock-free atomics and of a size that 8 divides; all zeros is its first state.
template <ZoneLayout T>
class ColumnTable {
  static_assert(sizeof(T) % 8 == 0);

 public:
  ColumnTable() = default;

  // `name` has at most 40 bytes. A table of other dimensions than the one that is there begins
  // anew.
  static Result<ColumnTable> open(SharedMemory& shared, std::string_view name, uint32_t version,
                                  uint32_t cells) {
    Result<ColumnsHeader*> header = open_columns(shared, name, version, cells, sizeof(T));
    if (!header) return header.error();
    ColumnTable table;
    table.shared_ = &shared;
    table.header_ = *header;
    table.name_ = name;
    table.version_ = version;
    return table;
  }

  // The column of a row, made where it is not there: for its worker. Not for the request path.
  Result<T*> own(uint32_t row) {
    if (T* known = column(row)) return known;
    Result<void*> made = open_column(*shared_, *header_, name_, version_, row);
    if (!made) return made.error();
    return static_cast<T*>(*made);
  }

  // Null where there is none (yet).
  T* column(uint32_t row) const {
    if (row >= ColumnsHeader::kRowsMax) return nullptr;
    const int64_t offset = header_->offset[row].load(std::memory_order_acquire);
    if (offset == 0) return nullptr;
    return reinterpret_cast<T*>(reinterpret_cast<char*>(header_) + offset);
  }

  // No row from here on has a column.
  uint32_t rows() const { return header_->rows.load(std::memory_order_acquire); }
  uint32_t cells() const { return header_->cells.load(std::memory_order_relaxed); }

  // Calls visit(const T* column) for each column that is there.
  template <typename Visit>
  void each(Visit visit) const {
    const uint32_t end = rows();
    for (uint32_t row = 0; row < end; ++row) {
      if (const T* found = column(row)) visit(found);
    }
  }

 private:
  SharedMemory* shared_ = nullptr;
  ColumnsHeader* header_ = nullptr;
  std::string name_;
  uint32_t version_ = 0;
};

}  // namespace gatehouse
