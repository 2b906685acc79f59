// See h2_codec.h.
#include "http/h2_codec.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <utility>

#include "http/chars.h"
#include "http/h2_field_lines.h"

namespace gatehouse {

namespace {

// Interim heads before a final one; more are a fault of the peer.
constexpr size_t kInterimMax = 16;
// fill() stops where less room is left: a frame cut shorter would be mostly header.
constexpr size_t kRoomMin = 1024;
constexpr size_t kFrameHeader = 9;
// A field block beyond this is given back rather than kept for the next one.
constexpr size_t kBlockKept = 4096;
// Requests at once that are opened whatever the peer allows.
constexpr uint32_t kActiveMax = 1000;

std::string_view text_of(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

// What libnghttp2 calls. None of these wakes anybody: who has changed stands in a list.
struct H2Codec::Callbacks {
  static H2Codec& codec(void* user) { return *static_cast<H2Codec*>(user); }
  static H2Transfer* transfer(nghttp2_session* session, int32_t stream) {
    return static_cast<H2Transfer*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static int on_begin_headers(nghttp2_session*, const nghttp2_frame*, void* user) {
    H2Codec& self = codec(user);
    self.block_.clear();
    self.block_fields_ = 0;
    self.block_status_ = 0;
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                       size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                       void* user) {
    H2Codec& self = codec(user);
    H2Transfer* const transfer = Callbacks::transfer(session, frame->hd.stream_id);
    if (transfer == nullptr) return 0;
    const std::string_view name_text = text_of(name, name_size);
    const std::string_view value_text = text_of(value, value_size);
    if (name_text == ":status") {
      unsigned status = 0;
      for (const char c : value_text) status = status * 10 + static_cast<unsigned>(c - '0');
      self.block_status_ = static_cast<uint16_t>(status);
      return value_size == 3 && status >= 100 && status <= 599
                 ? 0
                 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    // What would make another line of it is refused here, whatever was checked before.
    if (!chars::is_token(name_text) || !chars::all_of(value_text, chars::kValue)) {
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (++self.block_fields_ > self.limits_.fields_max ||
        self.block_.size() + name_size + value_size + 4 > self.limits_.head_max) {
      transfer->too_large_ = true;
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    self.block_.append(name_text).append(": ").append(value_text).append("\r\n");
    return 0;
  }

  static int on_invalid_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t,
                               const uint8_t*, size_t, uint8_t, void*) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    H2Codec& self = codec(user);
    const bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (H2Transfer* transfer = Callbacks::transfer(session, frame->hd.stream_id)) {
          self.finish_block(*transfer, last);
        }
        break;
      case NGHTTP2_DATA:
        if (H2Transfer* transfer = Callbacks::transfer(session, frame->hd.stream_id)) {
          if (last) self.end(*transfer, H2Transfer::End::kWhole);
        }
        break;
      case NGHTTP2_RST_STREAM:
        if (H2Transfer* transfer = Callbacks::transfer(session, frame->hd.stream_id)) {
          transfer->reset_by_peer_ = true;
        }
        break;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
          self.settings_seen_ = true;
          self.refused_limit_ = UINT32_MAX;
        }
        break;
      case NGHTTP2_GOAWAY:
        self.going_away_ = true;
        break;
      default:
        break;
    }
    return 0;
  }

  static int on_data(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* bytes,
                     size_t size, void* user) {
    H2Codec& self = codec(user);
    (void)nghttp2_session_consume_connection(session, size);
    H2Transfer* const transfer = Callbacks::transfer(session, stream);
    if (transfer == nullptr || transfer->end_ != H2Transfer::End::kOpen) {
      (void)nghttp2_session_consume_stream(session, stream, size);
      return 0;
    }
    self.append_body(*transfer, text_of(bytes, size));
    self.note_change(*transfer);
    return 0;
  }

  static int on_stream_close(nghttp2_session* session, int32_t stream, uint32_t code, void* user) {
    H2Codec& self = codec(user);
    H2Transfer* const transfer = Callbacks::transfer(session, stream);
    if (transfer == nullptr) return 0;
    using End = H2Transfer::End;
    End how = End::kMalformed;
    if (transfer->too_large_) {
      how = End::kHeadTooLarge;
    } else if (code == NGHTTP2_REFUSED_STREAM && !transfer->has_head()) {
      // RFC 9113 §8.7; a stream beyond the last one of a GOAWAY is closed with the same code.
      how = End::kUnprocessed;
      self.refused_limit_ = static_cast<uint32_t>(std::max<size_t>(self.active_, 1));
    } else if (transfer->reset_by_peer_ || self.going_away_) {
      how = End::kReset;
    }
    self.close_stream(*transfer);
    self.end(*transfer, how);
    return 0;
  }

  static int before_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void*) {
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    if (H2Transfer* transfer = Callbacks::transfer(session, frame->hd.stream_id)) {
      transfer->sent_ = true;
      if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) transfer->finished_ = true;
    }
    return 0;
  }

  static int on_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    H2Codec& self = codec(user);
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR &&
        !self.peer_failed_) {
      self.peer_failed_ = true;
      self.problem_ = nghttp2_http2_strerror(frame->goaway.error_code);
    }
    return 0;
  }

  static int on_frame_not_sent(nghttp2_session*, const nghttp2_frame* frame, int, void* user) {
    H2Codec& self = codec(user);
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    H2Transfer* const transfer = self.find(frame->hd.stream_id);
    if (transfer == nullptr || transfer->finished_ || transfer->has_head()) return 0;
    self.close_stream(*transfer);
    self.end(*transfer, H2Transfer::End::kUnprocessed);
    return 0;
  }

  static ssize_t read_body(nghttp2_session* session, int32_t stream, uint8_t*, size_t length,
                           uint32_t* flags, nghttp2_data_source*, void* user) {
    H2Codec& self = codec(user);
    H2Transfer* const transfer = Callbacks::transfer(session, stream);
    if (transfer == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (transfer->offered_.empty() && !transfer->last_) {
      transfer->deferred_ = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    if (self.out_->room() < kRoomMin) return NGHTTP2_ERR_PAUSE;
    const size_t size =
        std::min({transfer->offered_.size(), length, self.out_->room() - kFrameHeader});
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (transfer->last_ && size == transfer->offered_.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (transfer->offered_trailers_ != nullptr && self.submit_trailers(*transfer)) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      }
    }
    return static_cast<ssize_t>(size);
  }

  static int send_body(nghttp2_session* session, nghttp2_frame* frame, const uint8_t* frame_header,
                       size_t length, nghttp2_data_source*, void* user) {
    H2Codec& self = codec(user);
    H2Transfer* const transfer = Callbacks::transfer(session, frame->hd.stream_id);
    if (transfer == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    assert(length <= transfer->offered_.size() && length + kFrameHeader <= self.out_->room());
    self.out_->append(text_of(frame_header, kFrameHeader));
    self.out_->append(transfer->offered_.substr(0, length));
    transfer->offered_.remove_prefix(length);
    transfer->body_sent_ += length;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) transfer->finished_ = true;
    if (transfer->offered_.empty()) {
      transfer->offered_ = {};
      // Where trailers follow, they are copied and on their way.
      if (transfer->last_) transfer->finished_ = true;
      self.note_change(*transfer);
    }
    return 0;
  }
};

H2Transfer::~H2Transfer() {
  if (codec_ != nullptr) codec_->close(*this);
  assert(!changed_);
}

H2Codec::H2Codec(const H2Limits& limits) : limits_(limits) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* options = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&options) != 0) {
    throw std::bad_alloc();
  }
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, &Callbacks::on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &Callbacks::on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks,
                                                           &Callbacks::on_invalid_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &Callbacks::on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &Callbacks::on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &Callbacks::on_stream_close);
  nghttp2_session_callbacks_set_before_frame_send_callback(callbacks,
                                                           &Callbacks::before_frame_sent);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, &Callbacks::on_frame_sent);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks,
                                                           &Callbacks::on_frame_not_sent);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, &Callbacks::send_body);
  nghttp2_option_set_no_auto_window_update(options, 1);
  nghttp2_option_set_no_closed_streams(options, 1);
  nghttp2_option_set_max_settings(options, 32);
  const int made = nghttp2_session_client_new2(&session_, callbacks, this, options);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(options);
  if (made != 0) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.window},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(limits.head_max)}};
  (void)nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  // Each stream is held back by its own window; that of the connection is in nobody's way.
  (void)nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                              NGHTTP2_MAX_WINDOW_SIZE);
}

H2Codec::~H2Codec() {
  lose();
  while (transfers_ != nullptr) detach(*transfers_);
  nghttp2_session_del(session_);
}

bool H2Codec::feed(std::string_view bytes, Moment now) {
  if (!noise_.note(bytes, now)) {
    peer_failed_ = true;
    problem_ = "too many frames that serve nothing";
    (void)nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
  }
  const ssize_t read = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (read < 0) {
    broken_ = peer_failed_ = true;
    problem_ = nghttp2_strerror(static_cast<int>(read));
    return false;
  }
  return nghttp2_session_want_read(session_) != 0;
}

void H2Codec::fill(Buffer& out) {
  out_ = &out;
  while (out.room() >= kRoomMin) {
    if (left_.empty()) {
      const uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
      if (size < 0) {
        broken_ = true;
        problem_ = nghttp2_strerror(static_cast<int>(size));
      }
      if (size <= 0) break;
      left_ = text_of(bytes, static_cast<size_t>(size));
    }
    const size_t size = std::min(left_.size(), out.room());
    out.append(left_.substr(0, size));
    left_.remove_prefix(size);
  }
  out_ = nullptr;
}

bool H2Codec::wants_write() const {
  return !broken_ && (!left_.empty() || nghttp2_session_want_write(session_) != 0);
}

bool H2Codec::is_over() const {
  return broken_ || (left_.empty() && nghttp2_session_want_read(session_) == 0 &&
                     nghttp2_session_want_write(session_) == 0);
}

void H2Codec::lose() {
  using End = H2Transfer::End;
  for (H2Transfer* each = transfers_; each != nullptr; each = each->next_) {
    if (!each->stream_open_) continue;
    (void)nghttp2_session_set_stream_user_data(session_, each->stream_, nullptr);
    close_stream(*each);
    if (!each->sent_) {
      end(*each, End::kUnprocessed);
    } else {
      end(*each, peer_failed_ ? End::kMalformed : End::kReset);
    }
  }
}

uint32_t H2Codec::limit() const {
  if (!settings_seen_) return 1;
  return std::min(
      {nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS),
       refused_limit_, kActiveMax});
}

bool H2Codec::may_open(size_t about_to_be) const {
  return !going_away_ && !peer_failed_ && !broken_ && active_ + about_to_be < limit() &&
         nghttp2_session_check_request_allowed(session_) != 0;
}

bool H2Codec::open(H2Transfer& transfer, std::span<const nghttp2_nv> fields, bool has_body) {
  assert(transfer.codec_ == nullptr && transfer.stream_ == 0);
  nghttp2_data_provider body{};
  body.read_callback = &Callbacks::read_body;
  const int32_t stream = nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(),
                                                has_body ? &body : nullptr, &transfer);
  if (stream < 0) {
    going_away_ = true;
    return false;
  }
  transfer.codec_ = this;
  transfer.stream_ = stream;
  transfer.stream_open_ = true;
  transfer.next_ = transfers_;
  if (transfers_ != nullptr) transfers_->previous_ = &transfer;
  transfers_ = &transfer;
  ++active_;
  ++opened_;
  return true;
}

void H2Codec::offer(H2Transfer& transfer, std::string_view bytes, bool last,
                    const FieldList* trailers) {
  assert(transfer.offered_.empty() && !transfer.last_);
  transfer.offered_ = bytes;
  transfer.last_ = last;
  transfer.offered_trailers_ = last ? trailers : nullptr;
  if (std::exchange(transfer.deferred_, false) && transfer.stream_open_) {
    (void)nghttp2_session_resume_data(session_, transfer.stream_);
  }
}

// True where there are any to send. Called from within fill(), as the end of the body is framed.
bool H2Codec::submit_trailers(H2Transfer& transfer) {
  H2FieldLines lines;
  lines.reserve(*transfer.offered_trailers_);
  lines.add(*transfer.offered_trailers_);
  const std::span<const nghttp2_nv> all = lines.all();
  return !all.empty() &&
         nghttp2_submit_trailer(session_, transfer.stream_, all.data(), all.size()) == 0;
}

void H2Codec::append_body(H2Transfer& transfer, std::string_view bytes) {
  transfer.body_size_ += bytes.size();
  while (!bytes.empty()) {
    if (transfer.body_.empty() || transfer.body_.back().room() == 0) {
      transfer.body_.emplace_back(transfer.body_.empty() ? BufferClass::kHead : BufferClass::kBulk);
    }
    Buffer& last = transfer.body_.back();
    const size_t size = std::min(bytes.size(), last.room());
    last.append(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
}

void H2Codec::retract(H2Transfer& transfer) {
  transfer.offered_ = {};
  transfer.offered_trailers_ = nullptr;
  transfer.last_ = false;
}

Buffer H2Transfer::take_body() {
  Buffer piece = std::move(body_.front());
  body_.erase(body_.begin());
  body_size_ -= piece.size();
  return piece;
}

void H2Codec::release(H2Transfer& transfer, size_t bytes) {
  if (!transfer.stream_open_) return;
  (void)nghttp2_session_consume_stream(session_, transfer.stream_, bytes);
}

void H2Codec::close(H2Transfer& transfer) {
  if (transfer.codec_ == nullptr) return;
  if (transfer.stream_open_) {
    (void)nghttp2_session_set_stream_user_data(session_, transfer.stream_, nullptr);
    (void)nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, transfer.stream_, NGHTTP2_CANCEL);
    close_stream(transfer);
  }
  detach(transfer);
}

void H2Codec::close_stream(H2Transfer& transfer) {
  if (!std::exchange(transfer.stream_open_, false)) return;
  --active_;
}

void H2Codec::end(H2Transfer& transfer, H2Transfer::End how) {
  if (transfer.end_ == H2Transfer::End::kOpen) {
    transfer.end_ = how;
    if (how == H2Transfer::End::kWhole && refused_limit_ < kActiveMax) ++refused_limit_;
  }
  note_change(transfer);
}

void H2Codec::finish_block(H2Transfer& transfer, bool last) {
  block_ += "\r\n";
  const std::string_view lines = transfer.arena_.copy(block_);
  if (block_.capacity() > kBlockKept) {
    std::string().swap(block_);
  }
  if (transfer.has_head()) {
    transfer.trailers_ = lines;
  } else if (block_status_ >= 200) {
    transfer.head_ = {block_status_, lines};
  } else {
    transfer.interim_bytes_ += lines.size();
    const bool many = transfer.interims_.size() >= kInterimMax;
    if (many || transfer.interim_bytes_ > limits_.head_max) {
      (void)nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, transfer.stream_,
                                      NGHTTP2_ENHANCE_YOUR_CALM);
      end(transfer, many ? H2Transfer::End::kMalformed : H2Transfer::End::kHeadTooLarge);
      return;
    }
    transfer.interims_.push_back({block_status_, lines});
  }
  if (last) {
    end(transfer, H2Transfer::End::kWhole);
  } else {
    note_change(transfer);
  }
}

void H2Codec::note_change(H2Transfer& transfer) {
  if (std::exchange(transfer.changed_, true)) return;
  transfer.next_changed_ = nullptr;
  transfer.previous_changed_ = last_changed_;
  (last_changed_ != nullptr ? last_changed_->next_changed_ : first_changed_) = &transfer;
  last_changed_ = &transfer;
}

void H2Codec::forget_change(H2Transfer& transfer) {
  H2Transfer* const next = transfer.next_changed_;
  H2Transfer* const previous = transfer.previous_changed_;
  (previous != nullptr ? previous->next_changed_ : first_changed_) = next;
  (next != nullptr ? next->previous_changed_ : last_changed_) = previous;
  transfer.next_changed_ = transfer.previous_changed_ = nullptr;
  transfer.changed_ = false;
}

H2Transfer* H2Codec::next_changed() {
  H2Transfer* const first = first_changed_;
  if (first != nullptr) forget_change(*first);
  return first;
}

void H2Codec::detach(H2Transfer& transfer) {
  if (transfer.changed_) forget_change(transfer);
  (transfer.previous_ != nullptr ? transfer.previous_->next_ : transfers_) = transfer.next_;
  if (transfer.next_ != nullptr) transfer.next_->previous_ = transfer.previous_;
  transfer.next_ = transfer.previous_ = nullptr;
  transfer.codec_ = nullptr;
}

H2Transfer* H2Codec::find(int32_t stream) {
  for (H2Transfer* each = transfers_; each != nullptr; each = each->next_) {
    if (each->stream_open_ && each->stream_ == stream) return each;
  }
  return nullptr;
}

void H2Codec::ping() {
  (void)nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}

void H2Codec::go_away() {
  going_away_ = true;
  (void)nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                              nullptr, 0);
}

}  // namespace gatehouse
