// Field lines as libnghttp2 takes them, written from parsed fields only.
//
// Names in lower case, nothing that is dropped, no connection fields; what is secret is never kept
// in the compression's table, where requests of others could be compared with it (RFC 7541 §7.1).
#pragma once

#include <nghttp2/nghttp2.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "http/exchange.h"
#include "http/field.h"

namespace gatehouse {

// The views in it are of the fields that were added, and of the names that it keeps itself.
class H2FieldLines {
 public:
  H2FieldLines() = default;
  H2FieldLines(const H2FieldLines&) = delete;
  H2FieldLines& operator=(const H2FieldLines&) = delete;

  // Room for the names of these. REQUIRED before they are added, of all lists before the first.
  void reserve(const FieldList& fields);
  // `name` is in lower case; both outlive this.
  void add(std::string_view name, std::string_view value);
  void add(const FieldList& fields);
  std::span<const nghttp2_nv> all() const { return lines_; }
  void clear();

 private:
  std::string names_;
  size_t names_size_ = 0;
  std::vector<nghttp2_nv> lines_;
};

// The head of exchange.request towards a target. `scratch` gets texts made here and lives as long
// as `lines` is used.
void write_h2_request(const Exchange& exchange, std::string_view authority, bool https,
                      std::string& scratch, H2FieldLines& lines);

}  // namespace gatehouse
