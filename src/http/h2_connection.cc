// See h2_connection.h.
#include "http/h2_connection.h"

#include <cassert>
#include <utility>

#include "core/log.h"
#include "http/h2_pool.h"

namespace gatehouse {

namespace {

// How long a connection may say nothing once it was asked for a sign of life.
constexpr Duration kSilenceMax = std::chrono::seconds(5);

}  // namespace

// Waits until the codec has something to send.
class H2Connection::Writable {
 public:
  explicit Writable(H2Connection& connection) : connection_(connection) {}
  Writable(const Writable&) = delete;
  Writable& operator=(const Writable&) = delete;
  ~Writable() {
    if (connection_.writer_ == this) connection_.writer_ = nullptr;
  }
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> awaiting) {
    awaiting_ = awaiting;
    connection_.writer_ = this;
  }
  void await_resume() const {}
  void finish() {
    connection_.writer_ = nullptr;
    awaiting_.resume();
  }

 private:
  H2Connection& connection_;
  std::coroutine_handle<> awaiting_;
};

H2Connection::H2Connection(H2Pool& pool, std::unique_ptr<UpstreamConnection> transport,
                           std::shared_ptr<const TargetTransport> settings)
    : pool_(pool),
      transport_(std::move(transport)),
      settings_(std::move(settings)),
      loop_(transport_->stream().loop()),
      codec_(settings_->h2),
      opened_(loop_.now()) {}

H2Connection::~H2Connection() {
  while (calls_ != nullptr) remove(*calls_);
}

void H2Connection::start() {
  loop_.arm(setup_, settings_->connect_timeout);
  reading_ = read_loop();
  reading_.start();
  writing_ = write_loop();
  writing_.start();
}

bool H2Connection::is_worn() const {
  if (settings_->keepalive_requests != 0 && codec_.opened() >= settings_->keepalive_requests) {
    return true;
  }
  return settings_->keepalive_age != Duration::zero() &&
         loop_.now() >= opened_ + settings_->keepalive_age;
}

bool H2Connection::has_room() const {
  if (dead_ || closing_ || retiring_ || is_worn()) return false;
  return codec_.may_open(reserved_);
}

void H2Connection::retire() {
  retiring_ = true;
  look_around();
}

// ---- Bytes ----

Task<void> H2Connection::read_loop() {
  Stream& stream = transport_->stream();
  BufferClass size_class = BufferClass::kHead;
  for (;;) {
    if (!stream.may_read()) {
      in_.release();
      const IoResult ready = co_await stream.readable(Duration::zero());
      if (!ready.ok()) break;
    }
    if (!in_ || in_.size_class() != size_class) in_ = Buffer(size_class);
    const IoResult got = co_await stream.read({in_.tail(), in_.room()}, Duration::zero());
    if (!got.ok()) break;
    in_.commit(got.bytes);
    silence_.cancel();
    const bool goes_on = codec_.feed(in_.view(), loop_.now());
    // An answer that fills its buffer gets a larger one for the next piece.
    if (in_.room() == 0) size_class = BufferClass::kBulk;
    in_.clear();
    if (!goes_on) closing_ = true;
    if (!ready_ && codec_.settings_seen()) {
      ready_ = true;
      setup_.cancel();
      pool_.wake();
    }
    // What the codec has to say belongs to what it has read: it may reset a stream.
    if (writer_ != nullptr && codec_.wants_write()) frame();
    deliver();
    kick();
    if (!goes_on) co_return;
  }
  die("the target closed the connection");
}

Task<void> H2Connection::write_loop() {
  Stream& stream = transport_->stream();
  for (;;) {
    if (codec_.wants_write()) {
      frame();
      // What was framed here needs no longer be kept by those who sent it.
      deliver();
    }
    if (!out_.empty()) {
      const IoResult sent = co_await stream.write(out_.view(), settings_->write_timeout);
      if (!sent.ok()) {
        die("the target takes no bytes");
        co_return;
      }
      out_.clear();
      continue;
    }
    out_.release();
    if (dead_) co_return;
    if (closing_ || codec_.is_over()) {
      die(codec_.peer_failed() ? codec_.problem() : "");
      co_return;
    }
    Writable writable(*this);
    co_await writable;
  }
}

void H2Connection::frame() {
  if (!out_) out_ = Buffer(BufferClass::kBulk);
  codec_.fill(out_);
}

void H2Connection::kick() {
  if (writer_ != nullptr && !flush_.scheduled()) loop_.defer(flush_);
}

void H2Connection::on_flush(void* self) {
  auto* connection = static_cast<H2Connection*>(self);
  if (connection->writer_ != nullptr) connection->writer_->finish();
}

// Wakes those for whom something has changed. They may do anything but destroy the connection.
void H2Connection::deliver() {
  while (H2Transfer* changed = codec_.next_changed()) static_cast<H2Call*>(changed)->notify();
  look_around();
}

// After a call has begun or ended: is there room for others, or nothing to do any more?
void H2Connection::look_around() {
  if (dead_ || closing_) return;
  if (pool_.is_wanted() && has_room()) pool_.wake();
  if (calls_ != nullptr) return;
  if (retiring_ || is_worn() || codec_.going_away() ||
      (!settings_->keeps_idle && codec_.opened() != 0)) {
    close_now();
  } else if (!idle_.armed()) {
    loop_.arm(idle_, settings_->keepalive_timeout);
  }
}

void H2Connection::close_now() {
  closing_ = true;
  codec_.go_away();
  kick();
}

void H2Connection::on_idle(void* self) {
  static_cast<H2Connection*>(self)->retire();
}

void H2Connection::on_setup_timeout(void* self) {
  static_cast<H2Connection*>(self)->die("no settings came from the target in time");
}

void H2Connection::on_silence(void* self) {
  static_cast<H2Connection*>(self)->die("no sign of life from the target");
}

void H2Connection::die(std::string_view why) {
  if (std::exchange(dead_, true)) return;
  if (codec_.active() != 0 || codec_.peer_failed()) {
    GH_LOG(kWarn, "target {}: connection lost with {} requests: {}", transport_->state().key(),
           codec_.active(), codec_.peer_failed() ? codec_.problem() : why);
  }
  idle_.cancel();
  setup_.cancel();
  silence_.cancel();
  // By our own decision, or the target's in good order.
  if (closing_ && codec_.active() == 0) transport_->say_goodbye();
  codec_.lose();
  deliver();
  pool_.bury(!ready_);
}

// ---- Calls ----

H2Call::H2Call(H2Connection& connection, Arena& arena)
    : H2Transfer(arena),
      connection_(&connection),
      loop_(connection.loop_),
      reused_(connection.codec_.opened() != 0) {
  next_ = connection.calls_;
  if (next_ != nullptr) next_->previous_ = this;
  connection.calls_ = this;
  ++connection.reserved_;
  connection.idle_.cancel();
}

H2Call::~H2Call() {
  assert(reader_ == nullptr && sender_ == nullptr);
  if (connection_ == nullptr) return;
  H2Connection& connection = *connection_;
  connection.remove(*this);
  connection.kick();
  connection.look_around();
}

void H2Connection::remove(H2Call& call) {
  (call.previous_ != nullptr ? call.previous_->next_ : calls_) = call.next_;
  if (call.next_ != nullptr) call.next_->previous_ = call.previous_;
  call.next_ = call.previous_ = nullptr;
  if (!call.opened_) --reserved_;
  codec_.close(call);
  call.connection_ = nullptr;
}

bool H2Call::open(std::span<const nghttp2_nv> fields, bool has_body) {
  const bool there = connection_ != nullptr && !connection_->dead_ && !connection_->closing_;
  if (there) {
    opened_ = true;
    --connection_->reserved_;
    if (connection_->codec_.open(*this, fields, has_body)) {
      connection_->kick();
      return true;
    }
  }
  give_up();
  return false;
}

H2Call::Sent H2Call::send(std::string_view bytes, bool last, const FieldList* trailers,
                          Duration timeout) {
  if (connection_ != nullptr) {
    connection_->codec_.offer(*this, bytes, last, trailers);
    connection_->kick();
  }
  return Sent(*this, timeout);
}

void H2Call::release(size_t bytes) {
  if (connection_ == nullptr) return;
  connection_->codec_.release(*this, bytes);
  connection_->kick();
}

void H2Call::suspect_connection() {
  if (connection_ == nullptr || connection_->dead_ || connection_->silence_.armed()) return;
  connection_->codec_.ping();
  loop_.arm(connection_->silence_, kSilenceMax);
  connection_->kick();
}

// Either wake may destroy the call: the second one comes with another turn of deliver().
void H2Call::notify() {
  news_ = true;
  if (sender_ != nullptr && sender_->over()) {
    if (reader_ != nullptr) connection_->codec_.touch(*this);
    sender_->finish();
  } else if (reader_ != nullptr) {
    reader_->finish();
  }
}

void H2Call::Changed::await_suspend(std::coroutine_handle<> awaiting) {
  assert(call_.reader_ == nullptr);
  awaiting_ = awaiting;
  call_.reader_ = this;
  if (timeout_ != Duration::zero()) call_.loop_.arm(timer_, timeout_);
}

void H2Call::Changed::finish() {
  call_.reader_ = nullptr;
  call_.news_ = false;
  timer_.cancel();
  awaiting_.resume();
}

void H2Call::Changed::on_timeout(void* self) {
  auto* waiting = static_cast<Changed*>(self);
  waiting->status_ = IoStatus::kTimeout;
  waiting->call_.reader_ = nullptr;
  waiting->awaiting_.resume();
}

void H2Call::Sent::await_suspend(std::coroutine_handle<> awaiting) {
  assert(call_.sender_ == nullptr);
  awaiting_ = awaiting;
  call_.sender_ = this;
  seen_ = call_.body_sent();
  if (timeout_ != Duration::zero()) call_.loop_.arm(timer_, timeout_);
}

// What was offered and is not framed may be gone after this.
H2Call::Sent::~Sent() {
  if (call_.sender_ == this) call_.sender_ = nullptr;
  if (!call_.taken() && call_.connection_ != nullptr) call_.connection_->codec_.retract(call_);
}

void H2Call::Sent::finish() {
  call_.sender_ = nullptr;
  timer_.cancel();
  awaiting_.resume();
}

void H2Call::Sent::on_timeout(void* self) {
  auto* waiting = static_cast<Sent*>(self);
  if (waiting->seen_ != waiting->call_.body_sent()) {
    waiting->seen_ = waiting->call_.body_sent();
    waiting->call_.loop_.arm(waiting->timer_, waiting->timeout_);
    return;
  }
  waiting->status_ = IoStatus::kTimeout;
  waiting->finish();
}

}  // namespace gatehouse
