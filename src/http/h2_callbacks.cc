// The callbacks note what has happened and act on nothing; see h2_callbacks.h.
#include "http/h2_callbacks.h"

#include <cstring>
#include <limits>

#include "http/h2_session.h"
#include "http/h2_stream.h"

// nghttp2_option_set_stream_reset_rate_limit: later than 1.52, and in Debian's 1.52 all the same.
// Null where there is none. Under a name of its own, since some headers declare it.
extern "C" void h2_set_stream_reset_rate_limit(
    nghttp2_option* option, uint64_t burst,
    uint64_t rate) __asm__("nghttp2_option_set_stream_reset_rate_limit") __attribute__((weak));

namespace gatehouse {

namespace {

std::string_view text(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

H2Session& session_of(void* self) {
  return *static_cast<H2Session*>(self);
}

// A field section is read to its end whatever is in it, for HPACK needs that. Not for ever.
constexpr size_t kDecodedFactor = 8;

}  // namespace

struct H2Callbacks {
  static int begin_headers(nghttp2_session* ng, const nghttp2_frame* frame, void* self) {
    H2Session& session = session_of(self);
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    session.trailer_section_ = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
    if (session.trailer_section_) {
      session.section_ = session.find(frame->hd.stream_id);
      session.trailers_.begin(session.limits_);
      return 0;
    }
    if (session.acceptor() == nullptr) {
      // Only tunnels are left; the last GOAWAY is still on its way.
      session.section_ = nullptr;
      session.remember_reset(frame->hd.stream_id);
      session.submit_reset(frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
      return 0;
    }
    H2Stream& stream = H2Stream::borrow(session, frame->hd.stream_id);
    session.add(stream);
    nghttp2_session_set_stream_user_data(ng, frame->hd.stream_id, &stream);
    session.section_ = &stream;
    session.request_.begin(session.limits_);
    return 0;
  }

  static int header(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t, void* self) {
    H2Session& session = session_of(self);
    if (session.section_ == nullptr) return 0;
    size_t decoded = 0;
    Exchange& exchange = session.section_->exchange();
    if (session.trailer_section_) {
      session.trailers_.add(text(name, name_size), text(value, value_size), exchange.arena,
                            session.section_->trailers());
      decoded = session.trailers_.decoded();
    } else {
      session.request_.add(text(name, name_size), text(value, value_size), exchange);
      decoded = session.request_.decoded();
    }
    if (decoded <= kDecodedFactor * session.limits_.head_max) return 0;
    (void)session.refuse(NGHTTP2_ENHANCE_YOUR_CALM, Reason::kH2HeaderFlood);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int frame_received(nghttp2_session* ng, const nghttp2_frame* frame, void* self) {
    H2Session& session = session_of(self);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        return section_received(session, *frame, end);
      case NGHTTP2_DATA: {
        auto* stream =
            static_cast<H2Stream*>(nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id));
        if (stream == nullptr || !end) return 0;
        if (!stream->end_arrived()) return malformed(session, *stream, Reason::kBadLength);
        return 0;
      }
      case NGHTTP2_SETTINGS:
        for (size_t i = 0; i < frame->settings.niv; ++i) {
          if (frame->settings.iv[i].settings_id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) {
            session.window_settings_ = true;
          }
        }
        return 0;
      default:
        return 0;
    }
  }

  static int section_received(H2Session& session, const nghttp2_frame& frame, bool end) {
    H2Stream* const stream = session.section_;
    session.section_ = nullptr;
    session.head_timer_.cancel();
    if (stream == nullptr) return 0;
    Exchange& exchange = stream->exchange();
    exchange.request.wire_bytes += frame.hd.length + H2FrameScanner::kHeadSize;
    // A stream cannot depend on itself (RFC 7540 §5.3.1), though nobody looks at this any more.
    const bool depends_on_itself = (frame.hd.flags & NGHTTP2_FLAG_PRIORITY) != 0 &&
                                   frame.headers.pri_spec.stream_id == frame.hd.stream_id;
    if (session.trailer_section_) {
      // Trailers end the stream (§8.1).
      Reason why = session.trailers_.reason();
      if (why == Reason::kNone && !end) why = Reason::kBadTrailer;
      if (why == Reason::kNone && !stream->end_arrived()) why = Reason::kBadLength;
      if (why != Reason::kNone) return malformed(session, *stream, why);
      return 0;
    }
    H2Fault fault = session.request_.finish(end, exchange);
    if (depends_on_itself) fault = {Reason::kH2Protocol, true};
    if (fault.malformed) session.submit_reset(stream->id(), NGHTTP2_PROTOCOL_ERROR);
    stream->head_arrived(fault, session.request_, end);
    return fault.malformed && !session.note(H2Event::kReset) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
  }

  static int malformed(H2Session& session, H2Stream& stream, Reason why) {
    stream.fail(why);
    session.submit_reset(stream.id(), NGHTTP2_PROTOCOL_ERROR);
    return session.note(H2Event::kReset) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int data_received(nghttp2_session* ng, uint8_t, int32_t id, const uint8_t* bytes,
                           size_t size, void* self) {
    H2Session& session = session_of(self);
    auto* stream = static_cast<H2Stream*>(nghttp2_session_get_stream_user_data(ng, id));
    if (stream == nullptr) {
      session.consume_connection(size);
      return 0;
    }
    if (!stream->body_arrived(text(bytes, size))) {
      session.consume_connection(size);
      return malformed(session, *stream, Reason::kBadLength);
    }
    return 0;
  }

  static int stream_closed(nghttp2_session* ng, int32_t id, uint32_t, void* self) {
    H2Session& session = session_of(self);
    auto* stream = static_cast<H2Stream*>(nghttp2_session_get_stream_user_data(ng, id));
    if (stream == nullptr) return 0;
    if (session.section_ == stream) session.section_ = nullptr;
    nghttp2_session_set_stream_user_data(ng, id, nullptr);
    session.remember_closed(id);
    stream->closed();
    return 0;
  }

  // libnghttp2 has found something wrong, and says so to the client by itself.
  static int invalid_frame(nghttp2_session*, const nghttp2_frame* frame, int error, void* self) {
    H2Session& session = session_of(self);
    if (frame->hd.stream_id == 0) return 0;
    if (error == NGHTTP2_ERR_REFUSED_STREAM) session.remember_reset(frame->hd.stream_id);
    H2Stream* const stream = session.find(frame->hd.stream_id);
    if (stream != nullptr) stream->fail(Reason::kH2Protocol);
    return session.note(H2Event::kReset) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    H2Session& session = session_of(self);
    switch (frame->hd.type) {
      case NGHTTP2_DATA:
        if (frame->hd.length != 0) session.guard_.moved();
        [[fallthrough]];
      case NGHTTP2_HEADERS: {
        H2Stream* const stream = session.find(frame->hd.stream_id);
        if (stream == nullptr) return 0;
        const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        stream->frame_sent(frame->hd.length + H2FrameScanner::kHeadSize, end);
        return 0;
      }
      case NGHTTP2_RST_STREAM:
        session.remember_reset(frame->hd.stream_id);
        if (session.window_settings_ && !session.ending_ &&
            frame->rst_stream.error_code == NGHTTP2_FLOW_CONTROL_ERROR) {
          // An overflow by SETTINGS, not by what was sent on the stream, is an error of the
          // connection (§6.9.2).
          const H2Stream* const stream = session.find(frame->hd.stream_id);
          if (stream == nullptr || stream->failed()) return 0;
          (void)session.refuse(NGHTTP2_FLOW_CONTROL_ERROR, Reason::kH2Protocol);
          session.begin_ending();
        }
        return 0;
      case NGHTTP2_GOAWAY:
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !session.ending_) {
          // An error that libnghttp2 has found.
          (void)session.refuse(frame->goaway.error_code, Reason::kH2Protocol);
          session.begin_ending();
        }
        return 0;
      default:
        return 0;
    }
  }

  static int send_data(nghttp2_session*, nghttp2_frame* frame, const uint8_t* head, size_t length,
                       nghttp2_data_source* source, void* self) {
    H2Session& session = session_of(self);
    auto* stream = static_cast<H2Stream*>(source->ptr);
    constexpr size_t kHead = H2FrameScanner::kHeadSize;
    if (stream->unsent() < length || frame->hd.stream_id != stream->id()) {
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    session.out_.append(text(head, kHead));
    session.out_.append(stream->take(length));
    return 0;
  }
};

const nghttp2_session_callbacks* h2_callbacks() {
  static thread_local nghttp2_session_callbacks* const callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    if (nghttp2_session_callbacks_new(&made) != 0) return made;
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, &H2Callbacks::begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, &H2Callbacks::header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, &H2Callbacks::frame_received);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, &H2Callbacks::data_received);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, &H2Callbacks::stream_closed);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(made, &H2Callbacks::invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, &H2Callbacks::frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(made, &H2Callbacks::send_data);
    return made;
  }();
  return callbacks;
}

const nghttp2_option* h2_options() {
  static thread_local nghttp2_option* const options = [] {
    nghttp2_option* made = nullptr;
    if (nghttp2_option_new(&made) != 0) return made;
    nghttp2_option_set_no_auto_window_update(made, 1);
    // http/h2_request checks messages, and says which rule was broken.
    nghttp2_option_set_no_http_messaging(made, 1);
    // What arrives for a closed stream is judged by the session.
    nghttp2_option_set_no_closed_streams(made, 1);
    nghttp2_option_set_builtin_recv_extension_type(made, NGHTTP2_PRIORITY_UPDATE);
    // http/h2_guard counts resets, and says ENHANCE_YOUR_CALM where this limit says INTERNAL_ERROR.
    if (h2_set_stream_reset_rate_limit != nullptr) {
      constexpr uint64_t kNoLimit = std::numeric_limits<uint32_t>::max();
      h2_set_stream_reset_rate_limit(made, kNoLimit, kNoLimit);
    }
    return made;
  }();
  return options;
}

}  // namespace gatehouse
