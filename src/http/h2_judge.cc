// What HTTP/2 clients may send, before libnghttp2 has it: the frames that it would pass over, and
// those that come too often. Part of H2Session; its life is in h2_session.cc.
#include <algorithm>

#include "core/log.h"
#include "http/h2_conf.h"
#include "http/h2_session.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// CONTINUATION frames of one field section. The largest head_max fits four.
constexpr uint32_t kContinuationsMax = 8;

}  // namespace

bool H2Session::feed(std::string_view bytes) {
  size_t at = 0;
  size_t begin = 0;
  size_t given = 0;
  H2FrameHead head;
  while (scanner_.next(bytes, at, begin, head)) {
    // What a frame is worth may depend on those before it, but for the beginning of a request.
    const bool new_request = head.is(H2FrameType::kHeaders) && head.stream > last_stream_ &&
                             head.length != 0 && (head.flags & kH2Padded) == 0;
    if (new_request) {
      last_stream_ = head.stream;
      continuations_ = 0;
      continue;
    }
    if (begin > given) {
      if (!give_to_library(bytes.substr(given, begin - given))) return false;
      given = begin;
    }
    if (!judge(head)) return false;
  }
  return give_to_library(bytes.substr(given));
}

bool H2Session::give_to_library(std::string_view bytes) {
  if (bytes.empty()) return true;
  const ssize_t taken =
      nghttp2_session_mem_recv(ng_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (taken >= 0) return true;
  if (end_why_ != Reason::kNone) return false;
  switch (taken) {
    case NGHTTP2_ERR_FLOODED:  // answers that the client does not take
      return refuse(NGHTTP2_ENHANCE_YOUR_CALM, Reason::kH2SettingsFlood);
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
      return refuse(NGHTTP2_PROTOCOL_ERROR, Reason::kH2Protocol);
    default:
      return refuse(NGHTTP2_INTERNAL_ERROR, Reason::kInternal);
  }
}

bool H2Session::refuse(uint32_t code, Reason why) {
  end_code_ = code;
  end_why_ = why;
  return false;
}

bool H2Session::note(H2Event event) {
  const Reason why = guard_.note(event, loop().now());
  return why == Reason::kNone || refuse(NGHTTP2_ENHANCE_YOUR_CALM, why);
}

// What libnghttp2 would not say, before it gets the frame.
bool H2Session::judge(const H2FrameHead& head) {
  switch (static_cast<H2FrameType>(head.type)) {
    case H2FrameType::kData:
      if (!judge_padding(head, 0)) return false;
      if (head.length == 0 && (head.flags & kH2EndStream) == 0 && !note(H2Event::kEmpty)) {
        return false;
      }
      if (head.length != 0) guard_.moved();
      return judge_closed(head);
    case H2FrameType::kHeaders:
      if (!judge_padding(head, (head.flags & kH2Prioritized) != 0 ? 5 : 0)) return false;
      continuations_ = 0;
      if (head.stream > last_stream_) last_stream_ = head.stream;
      if (head.length == 0 && !note(H2Event::kEmpty)) return false;
      return judge_closed(head);
    case H2FrameType::kContinuation:
      // A flood of them never comes to an end that could be judged.
      if (++continuations_ > kContinuationsMax) {
        return refuse(NGHTTP2_ENHANCE_YOUR_CALM, Reason::kH2HeaderFlood);
      }
      return head.length != 0 || note(H2Event::kEmpty);
    case H2FrameType::kPriority:
      if (head.stream == 0 || (head.length == 5 && head.other_stream == head.stream)) {
        return refuse(NGHTTP2_PROTOCOL_ERROR, Reason::kH2Protocol);
      }
      return note(H2Event::kPriority);
    case H2FrameType::kPriorityUpdate:
      if (head.other_stream == 0 && head.length >= 4) {  // RFC 9218 §7.1
        return refuse(NGHTTP2_PROTOCOL_ERROR, Reason::kH2Protocol);
      }
      return note(H2Event::kPriority);
    case H2FrameType::kRstStream:
      said_last(head.stream);
      return note(H2Event::kReset);
    case H2FrameType::kSettings:
      return note(H2Event::kSettings);
    case H2FrameType::kPing:
      return note(H2Event::kPing);
    case H2FrameType::kWindowUpdate:
      return note(H2Event::kWindow);
    default:
      return note(H2Event::kEmpty);
  }
}

// Padding that does not fit is an error of the connection, also where the payload is passed over.
bool H2Session::judge_padding(const H2FrameHead& head, uint32_t others) {
  if ((head.flags & kH2Padded) == 0) return true;
  if (head.length == 0) return refuse(NGHTTP2_FRAME_SIZE_ERROR, Reason::kH2Protocol);
  if (head.padding + others + 1 <= head.length) return true;
  return refuse(NGHTTP2_PROTOCOL_ERROR, Reason::kH2Protocol);
}

// DATA or HEADERS for a stream that is closed (§5.1). libnghttp2 passes over them; only what
// follows a reset by the gateway may have been sent in good faith.
bool H2Session::judge_closed(const H2FrameHead& head) {
  if (head.stream == 0 || head.stream % 2 == 0 || head.stream > last_stream_) return true;
  if (last_said_ || find(static_cast<int32_t>(head.stream)) != nullptr) return true;
  if (std::find(reset_.begin(), reset_.end(), head.stream) != reset_.end()) {
    if ((head.flags & kH2EndStream) != 0) said_last(head.stream);
    return true;
  }
  const bool used =
      std::find(std::begin(closed_), std::end(closed_), head.stream) != std::end(closed_);
  if (head.is(H2FrameType::kHeaders) && !used && head.stream != last_stream_) {
    return refuse(NGHTTP2_PROTOCOL_ERROR, Reason::kH2Protocol);  // §5.1.1
  }
  if (!used && head.stream == last_stream_) return true;  // has just begun
  return refuse(NGHTTP2_STREAM_CLOSED, Reason::kH2Protocol);
}

void H2Session::begin_ending() {
  if (ending_) return;
  ending_ = true;
  idle_.cancel();
  head_timer_.cancel();
  nghttp2_session_terminate_session(ng_, end_code_);
  SeriesCells& pool = connection_.worker().pool_cells();
  pool.reasons[static_cast<unsigned>(end_why_)].add();
  if (const AcceptorState* const from = acceptor(); from != nullptr) {
    from->listener->cells->reasons[static_cast<unsigned>(end_why_)].add();
    GH_LOG(kInfo, "listener {}: client {}: connection ended: {}", from->listener->name,
           connection_.source.format(), reason_info(end_why_).code);
  }
  flush_later();
}

// ---- Streams that are closed
// -----------------------------------------------------------------------

void H2Session::remember_closed(int32_t id) {
  closed_[closed_next_++ % kClosedKept] = static_cast<uint32_t>(id);
}

void H2Session::remember_reset(int32_t id) {
  // As many as can be under way, twice.
  constexpr size_t kLeast = 128;
  const size_t most = acceptor() == nullptr
                          ? kLeast
                          : std::max<size_t>(kLeast, 2 * acceptor()->listener->h2->max_streams);
  const auto value = static_cast<uint32_t>(id);
  if (std::find(reset_.begin(), reset_.end(), value) != reset_.end()) return;
  if (reset_.size() < most) {
    reset_.push_back(value);
  } else {
    reset_[reset_next_++ % reset_.size()] = value;
  }
}

// The client has ended a stream: after this nothing is in good faith any more.
void H2Session::said_last(uint32_t id) {
  const auto at = std::find(reset_.begin(), reset_.end(), id);
  if (at == reset_.end()) return;
  *at = 0;
  remember_closed(static_cast<int32_t>(id));
}

}  // namespace gatehouse
