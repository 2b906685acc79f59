// The small parts of HTTP/2: frame heads, budgets of what a client may do, priorities.
#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "expect_text.h"
#include "http/h2_frames.h"
#include "http/h2_guard.h"
#include "http/h2_priority.h"

namespace gatehouse {
namespace {

std::string frame(uint32_t length, uint8_t type, uint8_t flags, uint32_t stream) {
  std::string text;
  for (const int shift : {16, 8, 0}) text += static_cast<char>(length >> shift);
  text += static_cast<char>(type);
  text += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) text += static_cast<char>(stream >> shift);
  return text;
}

// "type/flags/stream/length/dependency@begin " for each frame of the pieces.
std::string scan(const std::vector<std::string>& pieces) {
  H2FrameScanner scanner;
  std::string text;
  for (const std::string& piece : pieces) {
    size_t at = 0;
    size_t begin = 0;
    H2FrameHead head;
    while (scanner.next(piece, at, begin, head)) {
      text += std::to_string(head.type) + "/" + std::to_string(head.flags) + "/" +
              std::to_string(head.stream) + "/" + std::to_string(head.length) + "/" +
              std::to_string(head.other_stream + head.padding) + "@" + std::to_string(begin) + " ";
      begin = 0;
    }
    cr_assert_eq(at, piece.size());
  }
  return text;
}

const std::string kBytes = std::string(kH2Preface) + frame(0, 4, 0, 0) + frame(5, 2, 0, 7) +
                           std::string("\x80\x00\x01\x02\x10", 5) + frame(3, 0, 1, 0x80000005U) +
                           "abc" + frame(4, 2, 0, 9) + "1234" + frame(70000, 255, 6, 1);

Test(h2_parts, frame_heads_are_found) {
  expect(scan({kBytes}),
         "4/0/0/0/0@24 2/0/7/5/258@33 0/1/5/3/0@47 2/0/9/4/0@59 255/6/1/70000/0@72 ");
}

Test(h2_parts, frame_heads_are_found_however_the_bytes_are_split) {
  const auto without_places = [](std::string text) {
    std::string kept;
    for (size_t at = 0; at < text.size();) {
      const size_t place = text.find('@', at);
      kept += text.substr(at, place - at) + " ";
      at = text.find(' ', place) + 1;
    }
    return kept;
  };
  const std::string whole = without_places(scan({kBytes}));
  for (size_t size = 1; size < 30; ++size) {
    std::vector<std::string> pieces;
    for (size_t at = 0; at < kBytes.size(); at += size) pieces.push_back(kBytes.substr(at, size));
    expect(without_places(scan(pieces)), whole);
  }
}

Test(h2_parts, each_abuse_has_a_budget_of_its_own) {
  const H2Budgets budgets = {{3, 3, 3, 3, 3, 3}};
  const Reason reasons[] = {Reason::kH2ResetFlood,    Reason::kH2PingFlood,
                            Reason::kH2SettingsFlood, Reason::kH2EmptyFlood,
                            Reason::kH2PriorityFlood, Reason::kH2WindowFlood};
  H2Guard guard(budgets);
  const Moment now{100'000'000};
  for (unsigned i = 0; i < kH2Events; ++i) {
    for (int n = 0; n < 3; ++n)
      cr_expect(guard.note(static_cast<H2Event>(i), now) == Reason::kNone);
  }
  for (unsigned i = 0; i < kH2Events; ++i) {
    cr_expect(guard.note(static_cast<H2Event>(i), now) == reasons[i]);
  }
}

Test(h2_parts, budgets_begin_anew_after_ten_seconds) {
  const H2Budgets budgets = {{1, 1, 1, 1, 1, 1}};
  H2Guard guard(budgets);
  Moment now{1'000'000'000};
  cr_expect(guard.note(H2Event::kPing, now) == Reason::kNone);
  now = now + std::chrono::milliseconds(9999);
  cr_expect(guard.note(H2Event::kPing, now) == Reason::kH2PingFlood);
  now = now + std::chrono::milliseconds(1);
  cr_expect(guard.note(H2Event::kPing, now) == Reason::kNone);
}

Test(h2_parts, what_moves_allows_more) {
  const H2Budgets budgets = {{1, 1, 1, 1, 1, 1}};
  H2Guard guard(budgets);
  const Moment now{1'000'000'000};
  cr_expect(guard.note(H2Event::kWindow, now) == Reason::kNone);
  guard.moved();
  for (int n = 0; n < 4; ++n) cr_expect(guard.note(H2Event::kWindow, now) == Reason::kNone);
  cr_expect(guard.note(H2Event::kWindow, now) == Reason::kH2WindowFlood);
  for (int n = 0; n < 2; ++n) cr_expect(guard.note(H2Event::kPing, now) == Reason::kNone);
  cr_expect(guard.note(H2Event::kPing, now) == Reason::kH2PingFlood);
  cr_expect(guard.note(H2Event::kReset, now) == Reason::kNone);
  cr_expect(guard.note(H2Event::kReset, now) == Reason::kH2ResetFlood);
}

std::string priority(const char* field) {
  H2Priority priority;
  update_priority(field, priority);
  return std::to_string(priority.urgency) + (priority.incremental ? "i" : "");
}

// RFC 9218 §4
Test(h2_parts, priorities) {
  expect(priority(""), "3");
  expect(priority("u=5"), "5");
  expect(priority("u=0, i"), "0i");
  expect(priority("i=?1"), "3i");
  expect(priority("i;x=1,u=7"), "7i");
  expect(priority("u=2, i=?0, x, y=\"z\""), "2");
  expect(priority("u=1, u=6"), "6");
  for (const char* wrong : {"u=8", "u=-1", "u=1.5", "u", "u=11", "u=?1", "i=1", "i=yes"}) {
    expect(priority(wrong), "3");
  }
  for (const char* malformed : {"u=1,,i", "u=1,", "U=1", "1=2", "u=1, =", "@@@"}) {
    const std::string got = priority(malformed);
    cr_expect(got == "3" || got == "1", "%s: %s", malformed, got.c_str());
  }
  H2Priority kept{1, true};
  cr_expect(!update_priority("u=1", kept));
  cr_expect(update_priority("i=?0", kept));
  cr_expect_eq(kept.urgency, 1);
}

}  // namespace
}  // namespace gatehouse
