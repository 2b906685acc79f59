// The cookie of `balance = sticky NAME`: which target a client is to be sent to again.
//
// Its value is the target's sticky_id in hexadecimal: a keyed hash of its name, from which nobody
// can tell an address, and which nobody needs to trust, for all it can do is choose a target.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "http/balance_conf.h"

namespace gatehouse {

class Exchange;
class FieldList;

// What the request's cookie of that name says; none where there is none, or it is not ours.
std::optional<uint64_t> find_sticky_cookie(const FieldList& fields, std::string_view name);

// Adds the Set-Cookie field to the response, or replaces the one that a try before has added:
// `field_value` tells which it is, and is empty before the first.
void set_sticky_cookie(Exchange& exchange, const BalanceConf& conf, uint64_t id,
                       std::string_view& field_value);

}  // namespace gatehouse
