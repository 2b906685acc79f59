// The messages of the control socket: one JSON object each, with a version, over SOCK_SEQPACKET.
//
//   request  {"v":1,"id":7,"command":"reload",…}
//   reply    {"v":1,"id":7,"ok":true,…}  or  {"v":1,"id":7,"ok":false,"error":"text, may be
//   lines",…}
//
// and up to kControlFdsMax descriptors (SCM_RIGHTS) beside either. The master, the agent, the
// command line and the tests speak it. `v`, `id`, `command` and `ok` are taken out on the way in
// and put in on the way out: a body holds the rest.
//
// Whatever bytes come, decoding answers with a message or with a refusal that a person can read;
// its cost is bounded by the limits below. Nothing here throws: bodies are looked into with
// control_text() and its kin, which never do, and not with json's own value() and get(), which do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

inline constexpr uint64_t kControlVersion = 1;
inline constexpr size_t kControlMessageMax = 64 * 1024;  // bytes of JSON
inline constexpr size_t kControlFdsMax = 4;
inline constexpr size_t kControlDepthMax = 16;          // objects and arrays inside each other
inline constexpr size_t kControlValuesMax = 16 * 1024;  // numbers, strings, keys, … altogether
inline constexpr size_t kControlCommandMax = 64;        // bytes of a command's name

struct ControlMessage {
  enum class Kind : uint8_t { kRequest, kReply };
  Kind kind = Kind::kRequest;
  uint64_t id = 0;
  std::string command;                             // of a request
  bool ok = false;                                 // of a reply
  nlohmann::json body = nlohmann::json::object();  // always an object
  std::vector<UniqueFd> fds;
};

// What a request is answered with.
struct ControlReply {
  bool ok = true;
  nlohmann::json body = nlohmann::json::object();  // where not ok, "error" says why
  std::vector<UniqueFd> fds;

  std::string error() const;  // the body's "error"; empty where ok
};
ControlReply control_ok(nlohmann::json body = nlohmann::json::object(),
                        std::vector<UniqueFd> fds = {});
// `more` may hold further members beside "error".
ControlReply control_error(std::string text, nlohmann::json more = nlohmann::json::object());

// Where the bytes are no message, the error says why, and `message.id` is that of the message if it
// could be read, 0 otherwise, so that the refusal can be sent back. Fills everything but `fds`.
Result<void> decode_control_message(std::string_view bytes, ControlMessage& message);

// At most kControlMessageMax bytes. Where there is more to say than fits, the longest of "error",
// "text" and "warnings" is cut at the end of a line, and "… and N more lines" says so; where that
// does not help, an Error. What is not UTF-8 in a string is sent as U+FFFD.
Result<std::string> encode_control_message(const ControlMessage& message);

enum class ControlStatus : uint8_t {
  kOk,
  kWouldBlock,  // nothing to receive; no room to send: wait for readiness and try again
  kClosed,      // the other process is gone
  kRefused,     // received: no message (dropped; see the error, and message.id); sent: too large
  kFailed,      // the socket does not work; see the error
};

// Neither blocks, whatever the socket's flags are. `encoded` is what encode_control_message() gave;
// `fds` stay the caller's.
ControlStatus send_control_message(int socket, std::string_view encoded, std::span<const int> fds,
                                   Error* error = nullptr);
ControlStatus send_control_message(int socket, const ControlMessage& message,
                                   Error* error = nullptr);
// `fds_max`: descriptors that are taken; a message with more is refused and all are closed.
ControlStatus receive_control_message(int socket, ControlMessage& message, Error* error = nullptr,
                                      size_t fds_max = kControlFdsMax);

// A member of an object, or the fallback where it is missing or of another type.
std::string control_text(const nlohmann::json& object, std::string_view key,
                         std::string_view fallback = {});
uint64_t control_number(const nlohmann::json& object, std::string_view key, uint64_t fallback = 0);
bool control_flag(const nlohmann::json& object, std::string_view key, bool fallback = false);
// The member, or an empty object or array where it is missing or something else.
const nlohmann::json& control_object(const nlohmann::json& object, std::string_view key);
const nlohmann::json& control_array(const nlohmann::json& object, std::string_view key);
// The strings in an array; what else is in it is left out.
std::vector<std::string> control_texts(const nlohmann::json& object, std::string_view key);

}  // namespace gatehouse
