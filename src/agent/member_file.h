// Members as JSON: the file of `discover = file`, and what a registration says of itself.
//
//   {"targets": ["10.0.0.1:8080",
//                {"address": "10.0.0.2:8080", "weight": 3, "backup": true,
//                 "version": "1.4.2", "tags": ["blue", "canary"]}]}
//
// The list alone will do. Anything else is refused: an unknown key is more likely a slip than a
// wish. Pure functions of bytes.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "core/member_lists.h"
#include "core/result.h"

namespace gatehouse {

inline constexpr size_t kMemberFileMax = size_t{8} << 20;  // bytes

Result<std::vector<Member>> members_from_json(std::string_view text);

// An address that can be connected to.
Result<SocketAddress> member_address(std::string_view text);

// Takes weight, backup, version and tags from the object into `member`, which has its address
// already. `known`: other keys that the object may have.
Result<void> read_member(const nlohmann::json& object, std::string_view known, Member& member);

}  // namespace gatehouse
