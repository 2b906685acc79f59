// See member_file.h.
#include "agent/member_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "core/config_values.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

// A text that may stand in a log, a table and a label.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7f; });
}

Result<void> read_texts(const Json& object, Member& member) {
  if (const auto version = object.find("version"); version != object.end()) {
    if (!version->is_string()) return Error{"version: expected a text"};
    member.version = version->get<std::string>();
    if (member.version.size() > kMemberVersionMax || !is_plain(member.version)) {
      return Error{fmt::format("version: up to {} bytes without blanks", kMemberVersionMax)};
    }
  }
  const auto tags = object.find("tags");
  if (tags == object.end()) return {};
  if (!tags->is_array()) return Error{"tags: expected a list of words"};
  for (const Json& tag : *tags) {
    if (!tag.is_string() || tag.get_ref<const std::string&>().empty() ||
        !is_plain(tag.get_ref<const std::string&>())) {
      return Error{"tags: expected a list of words"};
    }
    if (!member.tags.empty()) member.tags += ' ';
    member.tags += tag.get_ref<const std::string&>();
  }
  if (member.tags.size() > kMemberTagsMax) {
    return Error{fmt::format("tags: up to {} bytes in all", kMemberTagsMax)};
  }
  return {};
}

}  // namespace

Result<SocketAddress> member_address(std::string_view text) {
  Result<SocketAddress> address = SocketAddress::parse(text, uint16_t{80});
  if (!address) return Error{"not an address: " + std::string(text)};
  if (!address->is_unix() && address->port() == 0) return Error{"port 0 cannot be connected to"};
  return address;
}

Result<void> read_member(const Json& object, std::string_view known, Member& member) {
  std::vector<std::string_view> keys = split_words(known);
  for (const char* key : {"weight", "backup", "version", "tags"}) keys.emplace_back(key);
  for (const auto& [key, value] : object.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      return Error{fmt::format("\"{}\": {}", key, unknown_word(key, keys).message)};
    }
  }
  if (const auto weight = object.find("weight"); weight != object.end()) {
    if (!weight->is_number_unsigned() || weight->get<uint64_t>() < 1 ||
        weight->get<uint64_t>() > kMemberWeightMax) {
      return Error{fmt::format("weight: expected 1 to {}", kMemberWeightMax)};
    }
    member.weight = weight->get<uint32_t>();
  }
  if (const auto backup = object.find("backup"); backup != object.end()) {
    if (!backup->is_boolean()) return Error{"backup: expected true or false"};
    member.backup = backup->get<bool>();
  }
  return read_texts(object, member);
}

Result<std::vector<Member>> members_from_json(std::string_view text) {
  const Json whole = Json::parse(text, nullptr, false);
  if (whole.is_discarded()) return Error{"not JSON"};
  const bool wrapped = whole.is_object();
  if (wrapped && (!whole.contains("targets") || whole.size() != 1)) {
    return Error{"expected an object with \"targets\" and nothing else"};
  }
  const Json& list = wrapped ? whole["targets"] : whole;
  if (!list.is_array()) return Error{"expected a list of targets"};
  if (list.size() > kMembersMax) return Error{"too many targets"};
  std::vector<Member> members;
  for (const Json& entry : list) {
    const auto fail = [&members](const std::string& problem) {
      return Error{fmt::format("target {}: {}", members.size() + 1, problem)};
    };
    const bool plain = entry.is_string();
    if (!plain &&
        (!entry.is_object() || !entry.contains("address") || !entry["address"].is_string())) {
      return fail("expected an address, or an object with \"address\"");
    }
    Member member;
    const auto& address_text = plain ? entry.get_ref<const std::string&>()
                                     : entry["address"].get_ref<const std::string&>();
    const Result<SocketAddress> address = member_address(address_text);
    if (!address) return fail(address.error().message);
    member.address = *address;
    for (const Member& other : members) {
      if (other.address == member.address) return fail(address_text + " is there twice");
    }
    if (!plain) {
      const Result<void> read = read_member(entry, "address", member);
      if (!read) return fail(read.error().message);
    }
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace gatehouse
