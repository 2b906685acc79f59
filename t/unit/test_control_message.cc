// Control messages: what is read, what is refused and why, and what is cut.
#include "core/control_message.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace {

using namespace gatehouse;
using nlohmann::json;

std::string refused(std::string_view bytes, uint64_t id = 0) {
  ControlMessage message;
  const Result<void> decoded = decode_control_message(bytes, message);
  cr_assert(!decoded.ok(), "taken: %.*s", static_cast<int>(bytes.size()), bytes.data());
  cr_assert_eq(message.id, id, "the id of the refused: %.*s", static_cast<int>(bytes.size()),
               bytes.data());
  return decoded.error().message;
}

bool has(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) cr_log_error("no \"%s\" in: %s", part, text.c_str());
  return found;
}

ControlMessage decoded(std::string_view bytes) {
  ControlMessage message;
  const Result<void> result = decode_control_message(bytes, message);
  cr_assert(result.ok(), "%s", result.ok() ? "" : result.error().message.c_str());
  return message;
}

ControlMessage reply_with(json body) {
  ControlMessage message;
  message.kind = ControlMessage::Kind::kReply;
  message.id = 9;
  message.body = std::move(body);
  return message;
}

struct Sockets {
  UniqueFd a, b;
  Sockets() {
    int ends[2];
    cr_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    a.reset(ends[0]);
    b.reset(ends[1]);
  }
};

}  // namespace

Test(control_message, requests_and_replies_are_told_apart) {
  const ControlMessage request =
      decoded(R"({"v":1,"id":7,"command":"explain","request":"/","fields":["A: b"]})");
  cr_assert(request.kind == ControlMessage::Kind::kRequest);
  cr_assert(request.id == 7 && request.command == "explain");
  cr_assert(request.body == json({{"request", "/"}, {"fields", {"A: b"}}}));

  const ControlMessage good = decoded(R"({"ok":true,"id":18446744073709551615,"v":1})");
  cr_assert(good.kind == ControlMessage::Kind::kReply && good.ok);
  cr_assert(good.id == UINT64_MAX && good.body == json::object());
  const ControlMessage bad = decoded(R"({"v":1,"id":0,"ok":false,"error":"a\nb"})");
  cr_assert(!bad.ok && control_text(bad.body, "error") == "a\nb");
}

Test(control_message, what_is_no_message_is_refused_with_the_reason) {
  cr_assert(has(refused(""), "not JSON"));
  cr_assert(has(refused("{\"v\":1,"), "not JSON"));
  cr_assert(has(refused("{\"v\":1} x"), "not JSON"));
  cr_assert(has(refused("{\"v\":\"\xff\"}"), "not JSON"));
  cr_assert(has(refused("[1]"), "not an object"));
  cr_assert(has(refused("{}"), "\"id\" is no number"));
  cr_assert(has(refused(R"({"v":1,"id":-1,"command":"x"})"), "\"id\" is no number"));
  cr_assert(has(refused(R"({"v":1,"id":1.0,"command":"x"})"), "\"id\" is no number"));
  cr_assert(has(refused(R"({"id":3,"command":"x"})", 3), "\"v\" is no number"));
  cr_assert(has(refused(R"({"v":1,"id":3})", 3), "a request has"));
  cr_assert(has(refused(R"({"v":1,"id":3,"command":"x","ok":true})", 3), "a request has"));
  cr_assert(has(refused(R"({"v":1,"id":3,"command":4})", 3), "\"command\" is no name"));
  cr_assert(has(refused(R"({"v":1,"id":3,"command":"A b"})", 3), "\"command\" is no name"));
  cr_assert(has(refused(R"({"v":1,"id":3,"ok":1})", 3), "\"ok\" is neither"));
  cr_assert(has(refused(R"({"v":1,"id":3,"id":4,"ok":true})"), "given twice"));
}

Test(control_message, another_version_is_told_which_one_is_spoken) {
  const std::string text = refused(R"({"v":2,"id":5,"command":"status"})", 5);
  cr_assert(has(text, "version 2") && has(text, "version 1 is"));
  // So that two versions do not refuse each other's refusals for ever.
  ControlMessage message;
  cr_assert(!decode_control_message(R"({"v":2,"id":5,"ok":false})", message).ok());
  cr_assert(message.kind == ControlMessage::Kind::kReply);
}

Test(control_message, limits_are_kept) {
  cr_assert(has(refused(std::string(kControlMessageMax + 1, ' ')), "larger than 65536 bytes"));

  const std::string head = R"({"v":1,"id":1,"ok":true,"x":)";
  const auto nested = [&head](size_t levels) {
    return head + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  decoded(nested(kControlDepthMax - 1));
  cr_assert(has(refused(nested(kControlDepthMax)), "levels deep"));
  cr_assert(has(refused(std::string(kControlMessageMax, '[')), "levels deep"));

  const auto counted = [&head](size_t values) {
    std::string text = head + "[0";
    for (size_t i = 1; i < values; ++i) text += ",0";
    return text + "]}";
  };
  decoded(counted(kControlValuesMax - 9));
  cr_assert(has(refused(counted(kControlValuesMax)), "more than 16384 values"));

  const auto named = [](size_t length) {
    return R"({"v":1,"id":1,"command":")" + std::string(length, 'a') + "\"}";
  };
  decoded(named(kControlCommandMax));
  cr_assert(has(refused(named(kControlCommandMax + 1), 1), "no name"));
}

Test(control_message, what_is_encoded_is_decoded) {
  ControlMessage message;
  message.id = 3;
  message.command = "config_show";
  message.body = {{"number", 12}, {"v", 99}, {"ok", "in the way"}};
  const Result<std::string> bytes = encode_control_message(message);
  cr_assert(bytes.ok());
  const ControlMessage back = decoded(*bytes);
  cr_assert(back.command == "config_show" && back.id == 3 && back.body == json({{"number", 12}}));

  cr_assert(!encode_control_message(ControlMessage()).ok(), "no command");
  message.body = json::array();
  cr_assert(!encode_control_message(message).ok(), "no object");
}

Test(control_message, what_is_not_utf8_is_replaced) {
  const Result<std::string> bytes = encode_control_message(reply_with({{"error", "a\xff\xfe z"}}));
  cr_assert(bytes.ok());
  cr_assert(control_text(decoded(*bytes).body, "error") == "a\uFFFD\uFFFD z");
}

Test(control_message, a_long_error_is_cut_at_the_end_of_a_line) {
  std::string text;
  size_t lines = 0;
  while (text.size() < 3 * kControlMessageMax) {
    text += "gatehouse.conf:" + std::to_string(++lines) + ": \"quoted\"\n";
  }
  const Result<std::string> bytes =
      encode_control_message(reply_with({{"error", text}, {"generation", 4}}));
  cr_assert(bytes.ok() && bytes->size() <= kControlMessageMax);
  const ControlMessage back = decoded(*bytes);
  const std::string cut = control_text(back.body, "error");
  cr_assert_eq(control_number(back.body, "generation"), 4);
  const size_t note = cut.rfind("… and ");
  cr_assert(note != std::string::npos && note > kControlMessageMax / 3);
  const std::string kept = cut.substr(0, note);
  cr_assert(text.starts_with(kept) && kept.ends_with("\n"));
  const auto shown = static_cast<size_t>(std::count(kept.begin(), kept.end(), '\n'));
  cr_assert(cut.substr(note) == "… and " + std::to_string(lines - shown) + " more lines\n");
}

Test(control_message, one_long_line_is_cut_between_characters) {
  std::string text;
  while (text.size() < 2 * kControlMessageMax) text += "€";
  const Result<std::string> bytes = encode_control_message(reply_with({{"text", text}}));
  cr_assert(bytes.ok());
  const std::string cut = control_text(decoded(*bytes).body, "text");
  cr_assert(cut.ends_with("€…\n"));
  cr_assert(cut.find("\uFFFD") == std::string::npos);
}

Test(control_message, what_cannot_be_cut_is_an_error) {
  const std::string big(kControlMessageMax, 'x');
  const Result<std::string> bytes = encode_control_message(reply_with({{"other", big}}));
  cr_assert(!bytes.ok() && has(bytes.error().message, "larger than"));
  // Both long: each is cut until the whole fits.
  cr_assert(encode_control_message(reply_with({{"error", big + big}, {"warnings", big}})).ok());
  cr_assert(!encode_control_message(reply_with({{"error", big}, {"other", big}})).ok());
}

Test(control_message, descriptors_travel) {
  Sockets sockets;
  int ends[2];
  cr_assert(pipe2(ends, O_CLOEXEC) == 0);
  ControlMessage message = reply_with({{"x", 1}});
  message.fds.emplace_back(ends[1]);
  cr_assert(send_control_message(sockets.a.get(), message) == ControlStatus::kOk);
  ControlMessage back;
  cr_assert(receive_control_message(sockets.b.get(), back) == ControlStatus::kOk);
  cr_assert(back.fds.size() == 1 && back.id == 9);
  cr_assert((fcntl(back.fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  cr_assert(write(back.fds[0].get(), "x", 1) == 1);
  char byte = 0;
  cr_assert(read(ends[0], &byte, 1) == 1 && byte == 'x');
  close(ends[0]);
}

Test(control_message, too_many_descriptors_are_refused_and_closed) {
  for (const size_t allowed : {size_t{0}, size_t{1}, kControlFdsMax}) {
    Sockets sockets;
    int ends[2];
    cr_assert(pipe2(ends, O_CLOEXEC) == 0);
    const std::vector<int> many(allowed + 1, ends[1]);
    const std::string bytes = *encode_control_message(reply_with({}));
    cr_assert(send_control_message(sockets.a.get(), bytes, many) == ControlStatus::kOk);
    close(ends[1]);
    ControlMessage back;
    Error error;
    cr_assert(receive_control_message(sockets.b.get(), back, &error, allowed) ==
              ControlStatus::kRefused);
    cr_assert(has(error.message, "descriptors") && back.fds.empty());
    cr_assert_eq(back.id, 9, "so that it can be answered");
    char byte;
    cr_assert_eq(read(ends[0], &byte, 1), 0, "the other copies are closed");
    close(ends[0]);
  }
}

Test(control_message, the_socket_is_told_from_the_message) {
  Sockets sockets;
  ControlMessage message;
  Error error;
  cr_assert(receive_control_message(sockets.b.get(), message) == ControlStatus::kWouldBlock);
  cr_assert(send(sockets.a.get(), "hello", 5, 0) == 5);
  cr_assert(receive_control_message(sockets.b.get(), message, &error) == ControlStatus::kRefused);
  const std::string large(kControlMessageMax + 1, ' ');
  cr_assert(send(sockets.a.get(), large.data(), large.size(), 0) > 0);
  cr_assert(receive_control_message(sockets.b.get(), message, &error) == ControlStatus::kRefused);
  cr_assert(has(error.message, "larger than"));

  // A side that closes with unread messages: what it said last is still heard.
  cr_assert(send_control_message(sockets.b.get(), reply_with({})) == ControlStatus::kOk);
  cr_assert(send_control_message(sockets.a.get(), reply_with({})) == ControlStatus::kOk);
  sockets.a.reset();
  cr_assert(receive_control_message(sockets.b.get(), message) == ControlStatus::kOk);
  cr_assert(receive_control_message(sockets.b.get(), message) == ControlStatus::kClosed);
  cr_assert(send_control_message(sockets.b.get(), reply_with({})) == ControlStatus::kClosed);
  cr_assert(receive_control_message(-1, message, &error) == ControlStatus::kFailed);
}

Test(control_message, members_of_other_types_are_not_there) {
  const json body = json::parse(
      R"({"t":"x","n":5,"m":-5,"f":1.5,"b":true,"o":{"a":1},"a":["x",1,"y"],"z":null})");
  cr_assert(control_text(body, "t") == "x");
  cr_assert(control_text(body, "n", "none") == "none");
  cr_assert_eq(control_number(body, "n"), 5);
  cr_assert_eq(control_number(json({{"n", 5}}), "n"), 5, "one that has not travelled");
  for (const char* key : {"m", "f", "t", "b", "o", "a", "z", "missing"}) {
    cr_assert_eq(control_number(body, key, 77), 77, "%s", key);
  }
  cr_assert(control_flag(body, "b") && control_flag(body, "n", true) && !control_flag(body, "o"));
  cr_assert(control_object(body, "o").size() == 1 && control_object(body, "a").is_object());
  cr_assert(control_array(body, "a").size() == 3 && control_array(body, "t").is_array());
  cr_assert(control_texts(body, "a") == std::vector<std::string>({"x", "y"}));
  cr_assert(control_text(json(5), "t").empty() && control_number(json::array(), "t") == 0);
  cr_assert(control_error("why", json(5)).error() == "why");
  cr_assert(control_ok().error().empty());
}
