// Which content coding a client wants (RFC 9110 §12.5.3).
#pragma once

#include <optional>
#include <span>

#include "core/encoder.h"
#include "http/field.h"

namespace gatehouse {

// The best of `offered` for the request's Accept-Encoding fields: the highest weight, of equal ones
// the first offered. None where the request has no such field, takes none of them (q=0), wants the
// plain form more (identity;q=1, gzip;q=0.5), or where the field is malformed. "x-gzip" is gzip,
// "*" is all that is not named.
std::optional<Coding> choose_coding(const FieldList& fields, std::span<const Coding> offered);

}  // namespace gatehouse
