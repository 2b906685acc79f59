// The life of an HTTP/2 client connection; see h2_session.h.
#include "http/h2_session.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

#include "core/log.h"
#include "http/h2_callbacks.h"
#include "http/h2_conf.h"
#include "http/h2_memory.h"
#include "http/h2_stream.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

void start_h2_session(ClientConnection&& connection, Buffer already_read) {
  Worker& worker = connection.worker();
  auto* session = new H2Session(std::move(connection), std::move(already_read));
  worker.add_session(*session);
  session->start();
}

H2Session::H2Session(ClientConnection&& connection, Buffer already_read)
    : connection_(std::move(connection)),
      in_(std::move(already_read)),
      guard_(connection_.acceptor()->listener->h2->budgets()) {
  const Listener& listener = *connection_.acceptor()->listener;
  const ListenerConf& conf = *listener.conf;
  limits_ = {conf.head_max.count, conf.fields_max, conf.target_max.count};
  write_timeout_ = conf.write_timeout;
  linger_timeout_ = conf.linger_timeout;
  nghttp2_mem memory = h2_memory(buffer_lent_);
  const int failed = nghttp2_session_server_new3(&ng_, h2_callbacks(), this, h2_options(), &memory);
  if (failed != 0) throw std::bad_alloc();  // nothing else can fail in there
}

H2Session::~H2Session() {
  over_ = true;
  writing_.cancel();
  run_.cancel();
  cut_streams(Reason::kClientGone);
  nghttp2_session_del(ng_);
}

void H2Session::start() {
  submit_settings();
  loop().arm(idle_, connection_.acceptor()->listener->conf->header_timeout);
  const AcceptorState& acceptor = *connection_.acceptor();
  if (acceptor.closed || connection_.worker().draining()) begin_leaving();
  flush_later();
  run_ = run();
  run_.start();
}

void H2Session::submit_settings() {
  const H2Conf& conf = *connection_.acceptor()->listener->h2;
  const auto window = static_cast<int32_t>(conf.connection_window.count);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, conf.max_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(conf.stream_window.count)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(limits_.head_max)},
      {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  nghttp2_submit_settings(ng_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(ng_, NGHTTP2_FLAG_NONE, 0, window);
}

// ---- Reading ------------------------------------------------------------------------------------

Task<void> H2Session::run() {
  Stream& stream = connection_.stream();
  if (!in_.empty()) {
    const bool good = feed(in_.view());
    in_.release();
    if (!good) {
      begin_ending();
      co_return;
    }
  }
  while (!ending_) {
    const IoResult ready = co_await stream.readable(Duration::zero());
    if (!ready.ok()) break;
    // Borrowed while there is something to read: a connection at rest holds no buffer.
    in_ = Buffer(BufferClass::kHead);
    for (bool more = true; more && !ending_;) {
      const IoResult got = stream.read_now({in_.data(), in_.capacity()});
      if (got.status == IoStatus::kTimeout) break;
      if (!got.ok()) {
        fail_connection(Reason::kClientGone);
        co_return;
      }
      if (!feed({in_.data(), got.bytes})) {
        begin_ending();
        co_return;
      }
      more = got.bytes == in_.capacity() || stream.may_read();
      flush_later();
    }
    in_.release();
    if (section_ != nullptr && !head_timer_.armed() && acceptor() != nullptr) {
      loop().arm(head_timer_, acceptor()->listener->conf->header_timeout);
    }
  }
}

// ---- Streams ------------------------------------------------------------------------------------

H2Stream* H2Session::find(int32_t id) const {
  return static_cast<H2Stream*>(nghttp2_session_get_stream_user_data(ng_, id));
}

void H2Session::add(H2Stream& stream) {
  stream.next_ = streams_;
  stream.previous_ = nullptr;
  if (streams_ != nullptr) streams_->previous_ = &stream;
  streams_ = &stream;
  ++stream_count_;
  idle_.cancel();
  const ListenerConf& conf = *acceptor()->listener->conf;
  write_timeout_ = conf.write_timeout;
  linger_timeout_ = conf.linger_timeout;
  if (++requests_ == conf.keepalive_requests) drain();
}

void H2Session::remove(H2Stream& stream) {
  if (stream.queued_) {
    for (H2Stream** at = &due_; *at != nullptr; at = &(*at)->next_due_) {
      if (*at != &stream) continue;
      *at = stream.next_due_;
      if (due_end_ == &stream.next_due_) due_end_ = at;
      break;
    }
    stream.queued_ = false;
  }
  if (stream.unsent_listed_) {
    H2Stream** at = &unsent_;
    while (*at != &stream) at = &(*at)->next_unsent_;
    *at = stream.next_unsent_;
    stream.unsent_listed_ = false;
  }
  (stream.previous_ != nullptr ? stream.previous_->next_ : streams_) = stream.next_;
  if (stream.next_ != nullptr) stream.next_->previous_ = stream.previous_;
  --stream_count_;
  if (stream.tunnel_) --tunnels_;
  if (over_) return;
  if (stream_count_ == 0) {
    arm_idle();
  } else {
    leave_to_tunnels();
  }
}

void H2Session::tunnel_began() {
  ++tunnels_;
  leave_to_tunnels();
}

// Tunnels belong to no listener: once no other stream is left, nor can come, neither does this.
void H2Session::leave_to_tunnels() {
  if (last_said_ && tunnels_ == stream_count_ && acceptor() != nullptr) {
    connection_.leave_acceptor();
  }
}

void H2Session::wake(H2Stream& stream) {
  if (stream.queued_) return;
  stream.queued_ = true;
  stream.next_due_ = nullptr;
  *due_end_ = &stream;
  due_end_ = &stream.next_due_;
  flush_later();
}

void H2Session::wake_due() {
  while (due_ != nullptr) {
    H2Stream& stream = *due_;
    due_ = stream.next_due_;
    if (due_ == nullptr) due_end_ = &due_;
    stream.queued_ = false;
    stream.wake();
  }
}

void H2Session::list_unsent(H2Stream& stream) {
  if (stream.unsent_listed_) return;
  stream.unsent_listed_ = true;
  stream.next_unsent_ = unsent_;
  unsent_ = &stream;
}

void H2Session::submit_response(H2Stream& stream, std::span<const nghttp2_nv> lines,
                                const nghttp2_data_provider* provider) {
  nghttp2_submit_response(ng_, stream.id(), lines.data(), lines.size(), provider);
  if (provider != nullptr) list_unsent(stream);
  flush_later();
}

void H2Session::submit_interim(int32_t id, std::span<const nghttp2_nv> lines) {
  nghttp2_submit_headers(ng_, NGHTTP2_FLAG_NONE, id, nullptr, lines.data(), lines.size(), nullptr);
  flush_later();
}

void H2Session::submit_reset(int32_t id, uint32_t code) {
  nghttp2_submit_rst_stream(ng_, NGHTTP2_FLAG_NONE, id, code);
  flush_later();
}

void H2Session::resume_data(int32_t id) {
  nghttp2_session_resume_data(ng_, id);
}

void H2Session::set_priority(int32_t id, const H2Priority& priority) {
  const nghttp2_extpri value = {priority.urgency, priority.incremental ? 1 : 0};
  nghttp2_session_change_extpri_stream_priority(ng_, id, &value, 0);
}

void H2Session::consume(int32_t id, size_t bytes) {
  nghttp2_session_consume(ng_, id, bytes);
  flush_later();
}

void H2Session::consume_connection(size_t bytes) {
  if (bytes == 0) return;
  nghttp2_session_consume_connection(ng_, bytes);
  flush_later();
}

// ---- Writing ------------------------------------------------------------------------------------

void H2Session::flush_later() {
  if (!flush_.scheduled() && !over_) loop().defer(flush_);
}

void H2Session::on_flush(void* self) {
  static_cast<H2Session*>(self)->flush();
}

void H2Session::flush() {
  if (over_ || lingering_) return;
  wake_due();
  if (writing_ && !writing_.done()) return;
  writing_ = write_out();
  writing_.start();
}

Task<void> H2Session::write_out() {
  for (;;) {
    collect();
    const bool wrote = !out_.empty();
    if (wrote) {
      const IoResult result = co_await connection_.stream().write(out_.view(), write_timeout_);
      out_.clear();
      if (!result.ok()) {
        fail_connection(result.status == IoStatus::kTimeout ? Reason::kWriteTimeout
                                                            : Reason::kClientGone);
        co_return;
      }
    }
    drop_sent();
    // Whose last bytes have left is finished now, and who waited for room goes on.
    const bool woke = due_ != nullptr;
    wake_due();
    if (!wrote && !woke) break;
  }
  out_.release();
  window_settings_ = false;
  while (unsent_ != nullptr) {
    H2Stream& stream = *unsent_;
    unsent_ = stream.next_unsent_;
    stream.unsent_listed_ = false;
    stream.watch_unsent();
  }
  end_if_over();
}

// Keeps on the list only those that still have something to send.
void H2Session::drop_sent() {
  H2Stream** at = &unsent_;
  while (*at != nullptr) {
    H2Stream& stream = **at;
    if (stream.unsent() != 0) {
      at = &stream.next_unsent_;
      continue;
    }
    *at = stream.next_unsent_;
    stream.unsent_listed_ = false;
  }
}

void H2Session::collect() {
  if (!out_) out_ = Buffer(BufferClass::kBulk);
  // Whatever the library hands over is taken at once: what it lies in is not its own.
  while (out_.room() >= kH2PieceMax) {
    const uint8_t* bytes = nullptr;
    const ssize_t size = nghttp2_session_mem_send(ng_, &bytes);
    if (size == 0) return;
    if (size < 0) {
      // Out of memory, or a broken session: nothing can be said any more.
      if (end_why_ == Reason::kNone) (void)refuse(NGHTTP2_INTERNAL_ERROR, Reason::kInternal);
      begin_ending();
      return;
    }
    out_.append({reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)});
  }
}

// ---- Ends ---------------------------------------------------------------------------------------

void H2Session::end_if_over() {
  if (over_ || lingering_) return;
  if (!ending_ && (nghttp2_session_want_read(ng_) != 0 || nghttp2_session_want_write(ng_) != 0)) {
    return;
  }
  lingering_ = true;
  cut_streams(end_why_ != Reason::kNone ? end_why_ : Reason::kClientGone);
  idle_.cancel();
  head_timer_.cancel();
  run_.cancel();
  in_.release();
  run_ = linger();
  run_.start();
}

Task<void> H2Session::linger() {
  Stream& stream = connection_.stream();
  stream.shutdown_write();
  const Moment deadline = loop().now() + linger_timeout_;
  Buffer sink(BufferClass::kHead);
  for (;;) {
    const Duration left = std::chrono::duration_cast<Duration>(deadline - loop().now());
    if (left <= Duration::zero()) break;
    const IoResult got = co_await stream.read({sink.data(), sink.capacity()}, left);
    if (!got.ok()) break;
  }
  over_ = true;
  connection_.worker().retire_session(*this);
}

void H2Session::fail_connection(Reason why) {
  if (over_) return;
  over_ = true;
  idle_.cancel();
  head_timer_.cancel();
  cut_streams(why);
  connection_.worker().retire_session(*this);
}

void H2Session::cut_streams(Reason why) {
  while (streams_ != nullptr) streams_->cut(why);
}

void H2Session::cut() {
  fail_connection(Reason::kDraining);
}

void H2Session::begin_leaving() {
  if (leaving_ || ending_ || over_) return;
  leaving_ = true;
  nghttp2_submit_shutdown_notice(ng_);
  flush_later();
}

void H2Session::drain() {
  if (last_said_ || ending_ || over_) return;
  leaving_ = last_said_ = true;
  nghttp2_submit_goaway(ng_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(ng_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
  flush_later();
  leave_to_tunnels();
}

void H2Session::arm_idle() {
  if (ending_ || acceptor() == nullptr) return;
  loop().arm(idle_, acceptor()->listener->conf->keepalive_timeout);
}

void H2Session::on_idle(void* self) {
  static_cast<H2Session*>(self)->drain();
}

void H2Session::on_head_timeout(void* self) {
  auto* session = static_cast<H2Session*>(self);
  (void)session->refuse(NGHTTP2_ENHANCE_YOUR_CALM, Reason::kHeadTimeout);
  session->begin_ending();
}

}  // namespace gatehouse
