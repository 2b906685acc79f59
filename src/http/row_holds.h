// RowHolds: the rows of the traffic table that one generation, or one set of targets, names.
//
// As long as it lives the rows keep their owners. Made and destroyed on any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "core/traffic_table.h"

namespace gatehouse {

class RowHolds {
 public:
  RowHolds() = default;
  // REQUIRES: the worker's column is open; `table` outlives this.
  RowHolds(TrafficTable& table, uint32_t worker_row) : table_(&table), worker_row_(worker_row) {}
  RowHolds(RowHolds&& other) noexcept { *this = std::move(other); }
  RowHolds& operator=(RowHolds&& other) noexcept {
    std::swap(table_, other.table_);
    std::swap(worker_row_, other.worker_row_);
    std::swap(rows_, other.rows_);
    return *this;
  }
  ~RowHolds() {
    for (const uint32_t index : rows_) table_->release(worker_row_, index);
  }

  // Takes the segment's lock.
  Result<uint32_t> hold(TrafficKind kind, std::string_view name) {
    Result<uint32_t> index = table_->hold(worker_row_, kind, name);
    if (index) rows_.push_back(*index);
    return index;
  }
  TrafficTable& table() { return *table_; }
  uint32_t worker_row() const { return worker_row_; }

 private:
  TrafficTable* table_ = nullptr;
  uint32_t worker_row_ = 0;
  std::vector<uint32_t> rows_;
};

}  // namespace gatehouse
