// Encoding, decoding, sending and receiving of control messages. See control_message.h.
#include "core/control_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "core/descriptor_passing.h"
#include "core/json_text.h"

namespace gatehouse {
namespace {

using nlohmann::json;

static_assert(kControlFdsMax <= kPacketFdsMax);

// Texts that may be cut, since their beginning is of use without their end.
constexpr const char* kCuttable[] = {"error", "text", "warnings"};
constexpr const char* kReserved[] = {"v", "id", "command", "ok"};

// Goes through the tokens without building anything, and stops at the first limit.
class LimitChecker : public nlohmann::json_sax<json> {
 public:
  const std::string& problem() const { return problem_; }

  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }
  bool number_float(number_float_t, const string_t&) override { return count(); }
  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool key(string_t& name) override {
    // Of two members with one name, each reader may believe another.
    if (depth_ == 1 && !names_.insert(name).second) return stop("a member is given twice");
    return count();
  }
  bool start_object(std::size_t) override { return deeper(); }
  bool start_array(std::size_t) override { return deeper(); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return stop(fmt::format("not JSON (at byte {})", position));
  }

 private:
  bool count() {
    return ++values_ <= kControlValuesMax ||
           stop(fmt::format("more than {} values", kControlValuesMax));
  }
  bool deeper() {
    if (++depth_ > kControlDepthMax) {
      return stop(fmt::format("more than {} levels deep", kControlDepthMax));
    }
    return count();
  }
  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  size_t depth_ = 0;
  size_t values_ = 0;
  std::set<std::string> names_;  // of the outermost object
  std::string problem_;
};

Error refusal(std::string_view problem) {
  return Error{fmt::format("not a control message: {}", problem)};
}

Result<void> check_limits(std::string_view bytes) {
  LimitChecker checker;
  if (!json::sax_parse(bytes.begin(), bytes.end(), &checker)) return refusal(checker.problem());
  return {};
}

bool is_command(std::string_view name) {
  return !name.empty() && name.size() <= kControlCommandMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

const json* member(const json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// Cuts at least `excess` bytes off, if there are so many, and says how many lines went.
void cut_lines(std::string& text, size_t excess) {
  constexpr size_t kRoomForNote = 64;
  size_t keep = text.size() - std::min(text.size(), excess + kRoomForNote);
  const size_t line_end = keep == 0 ? std::string::npos : text.rfind('\n', keep - 1);
  if (line_end != std::string::npos) {
    keep = line_end + 1;
  } else {
    // One long line: not through the middle of a character.
    while (keep > 0 && (static_cast<unsigned char>(text[keep]) & 0xC0) == 0x80) --keep;
  }
  const std::string_view rest = std::string_view(text).substr(keep);
  auto lines = std::count(rest.begin(), rest.end(), '\n');
  if (!rest.ends_with('\n')) ++lines;
  text.resize(keep);
  text += line_end == std::string::npos && keep > 0
              ? "…\n"
              : fmt::format("… and {} more line{}\n", lines, lines == 1 ? "" : "s");
}

std::string* longest_cuttable(json& object) {
  std::string* longest = nullptr;
  for (const char* key : kCuttable) {
    const auto found = object.find(key);
    if (found == object.end()) continue;
    auto* text = found->get_ptr<std::string*>();
    if (text != nullptr && (longest == nullptr || text->size() > longest->size())) longest = text;
  }
  return longest;
}

ControlStatus status_of(PacketStatus status) {
  switch (status) {
    case PacketStatus::kOk:
      return ControlStatus::kOk;
    case PacketStatus::kWouldBlock:
      return ControlStatus::kWouldBlock;
    case PacketStatus::kClosed:
      return ControlStatus::kClosed;
    case PacketStatus::kFailed:
      break;
  }
  return ControlStatus::kFailed;
}

ControlStatus refuse(Error* error, Error reason) {
  if (error != nullptr) *error = std::move(reason);
  return ControlStatus::kRefused;
}

}  // namespace

std::string ControlReply::error() const {
  return ok ? std::string() : control_text(body, "error", "no reason was given");
}

ControlReply control_ok(json body, std::vector<UniqueFd> fds) {
  return {true, std::move(body), std::move(fds)};
}

ControlReply control_error(std::string text, json more) {
  if (!more.is_object()) more = json::object();
  more["error"] = std::move(text);
  return {false, std::move(more), {}};
}

Result<void> decode_control_message(std::string_view bytes, ControlMessage& message) {
  message.kind = ControlMessage::Kind::kRequest;
  message.id = 0;
  message.command.clear();
  message.ok = false;
  message.body = json::object();
  if (bytes.size() > kControlMessageMax) {
    return refusal(fmt::format("larger than {} bytes", kControlMessageMax));
  }
  if (Result<void> checked = check_limits(bytes); !checked) return checked;
  json body = json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (!body.is_object()) return refusal("not an object");

  const json* command = member(body, "command");
  const json* ok = member(body, "ok");
  // Told also with a refusal, for a reply must not be answered.
  if (ok != nullptr) message.kind = ControlMessage::Kind::kReply;
  const json* id = member(body, "id");
  if (id == nullptr || !id->is_number_unsigned()) return refusal("\"id\" is no number");
  message.id = id->get<uint64_t>();
  const json* version = member(body, "v");
  if (version == nullptr || !version->is_number_unsigned()) return refusal("\"v\" is no number");
  if (const auto number = version->get<uint64_t>(); number != kControlVersion) {
    return Error{fmt::format("version {} of the control messages is not spoken here; version {} is",
                             number, kControlVersion)};
  }
  if ((command == nullptr) == (ok == nullptr)) {
    return refusal("a request has \"command\", a reply has \"ok\"");
  }
  if (command != nullptr) {
    const auto* name = command->get_ptr<const std::string*>();
    if (name == nullptr || !is_command(*name)) return refusal("\"command\" is no name");
    message.command = *name;
  } else {
    if (!ok->is_boolean()) return refusal("\"ok\" is neither true nor false");
    message.ok = ok->get<bool>();
  }
  for (const char* key : kReserved) body.erase(key);
  message.body = std::move(body);
  return {};
}

Result<std::string> encode_control_message(const ControlMessage& message) {
  json whole = message.body;
  if (whole.is_null()) whole = json::object();  // what {} makes
  if (!whole.is_object()) return Error{"the body of a control message is no object"};
  if (message.fds.size() > kControlFdsMax) {
    return Error{fmt::format("a control message carries at most {} descriptors", kControlFdsMax)};
  }
  for (const char* key : kReserved) whole.erase(key);
  whole["v"] = kControlVersion;
  whole["id"] = message.id;
  if (message.kind == ControlMessage::Kind::kRequest) {
    if (!is_command(message.command)) return Error{"a control message without a command"};
    whole["command"] = message.command;
  } else {
    whole["ok"] = message.ok;
  }
  std::string bytes = json_to_text(whole);
  while (bytes.size() > kControlMessageMax) {
    std::string* text = longest_cuttable(whole);
    const size_t before = text == nullptr ? 0 : text->size();
    if (text != nullptr) cut_lines(*text, bytes.size() - kControlMessageMax);
    if (text == nullptr || text->size() >= before) {
      return Error{fmt::format("a control message of {} bytes is larger than the {} that one has",
                               bytes.size(), kControlMessageMax)};
    }
    bytes = json_to_text(whole);
  }
  if (Result<void> checked = check_limits(bytes); !checked) return checked.error();
  return bytes;
}

ControlStatus send_control_message(int socket, std::string_view encoded, std::span<const int> fds,
                                   Error* error) {
  return status_of(send_packet(socket, encoded, fds, error));
}

ControlStatus send_control_message(int socket, const ControlMessage& message, Error* error) {
  const Result<std::string> encoded = encode_control_message(message);
  if (!encoded) return refuse(error, encoded.error());
  std::vector<int> fds;
  fds.reserve(message.fds.size());
  for (const UniqueFd& fd : message.fds) fds.push_back(fd.get());
  return send_control_message(socket, *encoded, fds, error);
}

ControlStatus receive_control_message(int socket, ControlMessage& message, Error* error,
                                      size_t fds_max) {
  message = ControlMessage{};
  // Uninitialised: a page that nothing comes into is never touched.
  const std::unique_ptr<char[]> room(new char[kControlMessageMax]);
  Packet packet;
  const PacketStatus status =
      receive_packet(socket, {room.get(), kControlMessageMax}, fds_max, packet, error);
  if (status != PacketStatus::kOk) return status_of(status);
  if (packet.cut) {
    return refuse(error, refusal(fmt::format("larger than {} bytes", kControlMessageMax)));
  }
  if (Result<void> decoded = decode_control_message({room.get(), packet.size}, message); !decoded) {
    return refuse(error, decoded.error());
  }
  if (packet.fds_lost) {
    return refuse(error,
                  refusal(fmt::format("more than {} descriptors, or none can be opened", fds_max)));
  }
  message.fds = std::move(packet.fds);
  return ControlStatus::kOk;
}

std::string control_text(const json& object, std::string_view key, std::string_view fallback) {
  const json* found = member(object, key);
  const auto* text = found == nullptr ? nullptr : found->get_ptr<const std::string*>();
  return text == nullptr ? std::string(fallback) : *text;
}

uint64_t control_number(const json& object, std::string_view key, uint64_t fallback) {
  const json* found = member(object, key);
  // A number that was put in as a signed one is of that type until it has travelled.
  if (found == nullptr || !found->is_number_integer()) return fallback;
  if (!found->is_number_unsigned() && found->get<int64_t>() < 0) return fallback;
  return found->get<uint64_t>();
}

bool control_flag(const json& object, std::string_view key, bool fallback) {
  const json* found = member(object, key);
  return found == nullptr || !found->is_boolean() ? fallback : found->get<bool>();
}

const json& control_object(const json& object, std::string_view key) {
  static const json kNone = json::object();
  const json* found = member(object, key);
  return found == nullptr || !found->is_object() ? kNone : *found;
}

const json& control_array(const json& object, std::string_view key) {
  static const json kNone = json::array();
  const json* found = member(object, key);
  return found == nullptr || !found->is_array() ? kNone : *found;
}

std::vector<std::string> control_texts(const json& object, std::string_view key) {
  std::vector<std::string> texts;
  for (const json& entry : control_array(object, key)) {
    if (const auto* text = entry.get_ptr<const std::string*>(); text != nullptr) {
      texts.push_back(*text);
    }
  }
  return texts;
}

}  // namespace gatehouse
