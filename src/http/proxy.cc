// Proxying one exchange to an upstream; see proxy.h.
#include "http/proxy.h"

#include <cstring>
#include <optional>

#include "core/log.h"
#include "http/body_framing.h"
#include "http/chunked.h"
#include "http/h1_parser.h"
#include "http/h1_writer.h"
#include "http/route.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// Interim responses before a final one; more are a fault of the upstream.
constexpr unsigned kInterimMax = 16;
// How long an answer may take once the upstream has refused the rest of the body.
constexpr Duration kAfterRefusedBody = std::chrono::seconds(2);

bool is_idempotent(Method method) {
  switch (method) {
    case Method::kGet:
    case Method::kHead:
    case Method::kPut:
    case Method::kDelete:
    case Method::kOptions:
    case Method::kTrace:
      return true;
    default:
      return false;
  }
}

// How an upload ended.
enum class UploadEnd : uint8_t { kComplete, kClientFailed, kUpstreamFailed };

class Proxy {
 public:
  Proxy(Exchange& exchange, const Upstream& upstream)
      : exchange_(exchange),
        upstream_(upstream),
        conf_(*upstream.conf),
        loop_(exchange.worker->loop()) {}
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  // The action: its frame holds the Proxy.
  static Task<void> run(Exchange& exchange, const Upstream& upstream);

 private:
  // Each returns kNone where all went well, else what failed at the upstream's side. Failures at
  // the client's side end in client_lost_.
  Task<Reason> connect(UpstreamTarget& target);
  Task<Reason> attempt();
  Task<Reason> attempt_with_body();
  // `started`: since when the timeout has been running.
  Task<Reason> read_head(Duration timeout, Moment started);
  Task<void> relay();
  Task<void> relay_pieces();
  Task<void> relay_tunnel();
  Task<UploadEnd> upload();

  void begin_try(UpstreamTarget& target, bool retried);
  Reason send_failed(const IoResult& result);
  Reason note_read(const IoResult& got);
  bool take_whole_head();
  Reason interpret_head();
  Reason accept_head();
  bool whole_response() const;
  Task<bool> send_whole();
  H1Limits head_limits() const { return {conf_.head_max.count, conf_.fields_max, 0}; }
  Reason bad_response(Reason why);
  const FieldList* decoder_trailers();
  // What the Host field says towards the upstream: the client's, or the target's where an
  // HTTP/1.0 client named none.
  std::string_view request_host() const {
    return exchange_.request.authority.text.empty() ? std::string_view(exchange_.target->host)
                                                    : exchange_.request.authority.text;
  }
  bool may_retry() const;
  void count_failure(Reason why);
  // After a try: gives the connection back or closes it. No coroutine may be using it.
  void settle_connection();
  void stop_upload_failed();
  void lose_client(Reason why);
  void fail(Reason why);
  // Decodes what the buffer holds in place, so that the data stands in one piece.
  std::string_view gather_chunks();

  Stream& stream() { return connection_->stream(); }

  Exchange& exchange_;
  const Upstream& upstream_;
  const UpstreamConf& conf_;
  EventLoop& loop_;
  std::unique_ptr<UpstreamConnection> connection_;

  // The request's side of the present try.
  BodyPiece piece_;              // the last piece read from the client
  unsigned pieces_ = 0;          // read from the client so far
  uint64_t body_read_ = 0;       // their bytes
  bool piece_lost_ = false;      // a piece was read, and its memory is no longer ours
  bool accepted_bytes_ = false;  // the kernel took bytes of this try for sending
  bool request_sent_ = true;     // the whole request has been sent
  bool client_lost_ = false;

  // The response's side of the present try.
  bool reusable_ = false;  // the connection may serve another exchange
  Buffer in_;
  H1ResponseParser parser_;
  ResponseHead head_;
  ResponseFacts facts_;
  bool unparsed_ = false;      // in_ holds bytes behind an interim head
  bool answer_begun_ = false;  // a byte of an answer has come
  unsigned interims_ = 0;
  std::optional<ChunkedDecoder> decoder_;  // set for a chunked response
  bool decoded_all_ = false;
  Reason decode_failure_ = Reason::kNone;
};

Task<void> Proxy::run(Exchange& exchange, const Upstream& upstream) {
  Proxy proxy(exchange, upstream);
  uint64_t tried = 0;
  bool retried = false;
  Reason failure = Reason::kNoTarget;
  const bool has_body = !exchange.request.facts.body.empty();
  for (;;) {
    UpstreamTarget* target = choose_target(upstream, tried);
    if (target == nullptr || exchange.tries >= proxy.conf_.connect_tries + (retried ? 1 : 0)) break;
    proxy.begin_try(*target, retried);
    if (proxy.connection_ == nullptr) {
      failure = co_await proxy.connect(*target);
      if (failure != Reason::kNone) {
        proxy.count_failure(failure);
        const auto index = static_cast<size_t>(target - upstream.targets.data());
        if (index < 64) tried |= uint64_t{1} << index;
        continue;
      }
    }
    exchange.times.upstream_connected = proxy.loop_.now();
    if (has_body) {
      failure = co_await proxy.attempt_with_body();
    } else {
      failure = co_await proxy.attempt();
    }
    if (failure == Reason::kNone || proxy.client_lost_) co_return;
    if (!retried && proxy.may_retry()) {
      retried = true;
      target->state->cells().retries.add();
      proxy.connection_.reset();
      continue;
    }
    proxy.count_failure(failure);
    proxy.connection_.reset();
    break;
  }
  proxy.fail(failure);
}

// A repeated try gets a new connection: the next kept-alive one may be just as dead.
void Proxy::begin_try(UpstreamTarget& target, bool retried) {
  ++exchange_.tries;
  exchange_.target = &target;
  exchange_.times.upstream_started = loop_.now();
  if (!retried) connection_ = target.state->take_idle();
  exchange_.target_reused = connection_ != nullptr;
  answer_begun_ = accepted_bytes_ = reusable_ = unparsed_ = false;
  in_.release();
  interims_ = 0;
}

// True where the try met a kept-alive connection that was just dying, and may safely be repeated.
bool Proxy::may_retry() const {
  if (!connection_ || !connection_->reused() || answer_begun_) return false;
  if (piece_lost_ || exchange_.client->head_sent()) return false;
  return !accepted_bytes_ || is_idempotent(exchange_.request.head.method_id);
}

void Proxy::count_failure(Reason why) {
  const UpstreamTarget& target = *exchange_.target;
  GH_LOG(kWarn, "upstream {}, target {}: {} (request {})", upstream_.name, target.address_text,
         reason_info(why).code, exchange_.request_id);
}

Task<Reason> Proxy::connect(UpstreamTarget& target) {
  ConnectStart start = start_connect(target.address);
  if (start.error != 0 && start.error != EINPROGRESS) co_return Reason::kUpstreamConnectFailed;
  connection_ = std::make_unique<UpstreamConnection>(loop_, std::move(start.fd), *target.state);
  const Result<void> opened = stream().open();
  if (!opened) {
    connection_.reset();
    co_return Reason::kUpstreamConnectFailed;
  }
  if (start.error == 0) co_return Reason::kNone;
  const IoResult result = co_await stream().connected(conf_.connect_timeout);
  if (result.ok()) co_return Reason::kNone;
  connection_.reset();
  co_return result.status == IoStatus::kTimeout ? Reason::kUpstreamConnectTimeout
                                                : Reason::kUpstreamConnectFailed;
}

Reason Proxy::send_failed(const IoResult& result) {
  return result.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout : Reason::kUpstreamReset;
}

Task<Reason> Proxy::attempt() {
  {
    const Buffer head = write_request_head(exchange_, request_host());
    const IoResult sent = co_await stream().write(head.view(), conf_.write_timeout);
    accepted_bytes_ = sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return send_failed(sent);
  }
  request_sent_ = true;
  // Mostly one read brings the whole response: it takes no coroutine for the head nor for the body.
  const Moment started = loop_.now();
  in_ = Buffer(BufferClass::kHead);
  const IoResult got = co_await stream().read({in_.tail(), in_.room()}, conf_.response_timeout);
  Reason failure = note_read(got);
  if (failure != Reason::kNone) co_return failure;
  if (take_whole_head()) {
    failure = accept_head();
  } else {
    failure = co_await read_head(conf_.response_timeout, started);
  }
  if (failure != Reason::kNone) co_return failure;
  if (whole_response()) {
    const bool there = co_await send_whole();
    (void)there;  // the session knows; the connection to the target is as good as before
  } else {
    co_await relay();
  }
  settle_connection();
  co_return Reason::kNone;
}

Task<Reason> Proxy::attempt_with_body() {
  request_sent_ = false;
  Task<UploadEnd> uploading = upload();
  uploading.start();
  // While the body is on its way the answer has all the time that the upload has.
  Task<Reason> answer = read_head(Duration::zero(), loop_.now());
  answer.start();
  if (!uploading.done()) co_await any_done(uploading, answer);
  bool upload_taken = false;
  if (!answer.done()) {
    upload_taken = true;
    const UploadEnd end = uploading.take();
    if (end == UploadEnd::kClientFailed) {
      answer.cancel();
      connection_.reset();
      stop_upload_failed();
      co_return piece_.why;
    }
    // Begun anew with a timeout; what has been read of the head is kept.
    answer.cancel();
    answer = read_head(end == UploadEnd::kComplete ? conf_.response_timeout : kAfterRefusedBody,
                       loop_.now());
    answer.start();
    co_await done(answer);
  }
  const Reason failure = answer.take();
  if (failure != Reason::kNone) co_return failure;

  Task<void> relaying = relay();
  relaying.start();
  if (!upload_taken && !relaying.done()) {
    co_await any_done(uploading, relaying);
    if (!relaying.done()) {
      const UploadEnd end = uploading.take();
      if (end == UploadEnd::kClientFailed) {
        relaying.cancel();
        connection_.reset();
        stop_upload_failed();
        co_return piece_.why;
      }
    }
  }
  if (!relaying.done()) co_await done(relaying);
  // An upload that the answer has overtaken ends here, and the connection with it.
  uploading.cancel();
  reusable_ = reusable_ && request_sent_;
  settle_connection();
  co_return Reason::kNone;
}

// Sends the head and the body. A client that fails is told of in piece_.why.
Task<UploadEnd> Proxy::upload() {
  Buffer head = write_request_head(exchange_, request_host());
  ClientSide& client = *exchange_.client;
  const bool chunked = exchange_.request.facts.body.kind == BodyLength::Kind::kChunked;
  // Where the body's first bytes have arrived with the head they go out with it. A piece that a
  // failed try could not send is still at hand.
  if (pieces_ == 0 && !client.body_ready()) {
    const IoResult sent = co_await stream().write(head.view(), conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return UploadEnd::kUpstreamFailed;
    head.clear();
  }
  for (bool again = pieces_ != 0;; again = false) {
    if (!again) {
      // A body that one piece held stays at hand for another try: its end is not asked for.
      const BodyLength& body = exchange_.request.facts.body;
      if (pieces_ != 0 && !chunked && body_read_ == body.length) break;
      piece_lost_ = pieces_ != 0;
      piece_ = co_await client.read_body();
      if (piece_.status == BodyPiece::Status::kFailed) co_return UploadEnd::kClientFailed;
      ++pieces_;
      body_read_ += piece_.bytes.size();
    }
    const bool end = piece_.status == BodyPiece::Status::kEnd;
    if (end && !chunked && head.empty()) break;
    char chunk_header[kChunkHeaderMax];
    iovec parts[4] = {{head.data(), head.size()}, {nullptr, 0}, {nullptr, 0}, {nullptr, 0}};
    Buffer last;
    if (chunked && end) {
      FieldList* trailers = client.body_trailers();
      if (trailers != nullptr) {
        last = write_last_chunk(*trailers);
        parts[1] = {last.data(), last.size()};
      } else {
        parts[1] = {const_cast<char*>(kLastChunk.data()), kLastChunk.size()};
      }
    } else if (!end) {
      if (chunked) {
        parts[1] = {chunk_header, write_chunk_header(chunk_header, piece_.bytes.size())};
        parts[3] = {const_cast<char*>(kChunkEnd.data()), kChunkEnd.size()};
      }
      parts[2] = {const_cast<char*>(piece_.bytes.data()), piece_.bytes.size()};
    }
    const IoResult sent = co_await stream().write(std::span(parts), conf_.write_timeout);
    accepted_bytes_ = accepted_bytes_ || sent.bytes != 0;
    exchange_.upstream_bytes_out += sent.bytes;
    if (!sent.ok()) co_return UploadEnd::kUpstreamFailed;
    head.release();
    if (end) break;
  }
  request_sent_ = true;
  co_return UploadEnd::kComplete;
}

// kNone where bytes have come into in_.
Reason Proxy::note_read(const IoResult& got) {
  if (got.status == IoStatus::kTimeout) return Reason::kUpstreamTimeout;
  if (!got.ok()) return Reason::kUpstreamReset;
  in_.commit(got.bytes);
  exchange_.upstream_bytes_in += got.bytes;
  answer_begun_ = true;
  return Reason::kNone;
}

// True where in_ begins with the head of a final response, which is parsed then. Anything else is
// left for read_head to read from its first byte.
bool Proxy::take_whole_head() {
  parser_.reset();
  exchange_.response.fields.clear();
  const ParseStatus status =
      parser_.parse(in_.view(), head_limits(), head_, exchange_.response.fields);
  if (status == ParseStatus::kComplete && head_.status >= 200) return true;
  parser_.reset();
  exchange_.response.fields.clear();
  unparsed_ = true;
  return false;
}

// Reads the head of the final response into in_; hands interim ones on. May be cancelled and begun
// anew: all it knows is in members.
Task<Reason> Proxy::read_head(Duration timeout, Moment started) {
  const H1Limits limits = head_limits();
  const Moment deadline = started + timeout;
  if (!answer_begun_) {
    parser_.reset();
    exchange_.response.fields.clear();
  }
  for (;;) {
    if (!in_) in_ = Buffer(BufferClass::kHead);
    if (in_.room() == 0) in_.grow(BufferClass::kBulk);
    Duration left = timeout;
    if (answer_begun_ && timeout != Duration::zero()) {
      left = std::chrono::duration_cast<Duration>(deadline - loop_.now());
      if (left <= Duration::zero()) co_return Reason::kUpstreamTimeout;
    }
    if (in_.empty() || !unparsed_) {
      const IoResult got = co_await stream().read({in_.tail(), in_.room()}, left);
      const Reason lost = note_read(got);
      if (lost != Reason::kNone) co_return lost;
    }
    unparsed_ = false;
    const ParseStatus status = parser_.parse(in_.view(), limits, head_, exchange_.response.fields);
    if (status == ParseStatus::kIncomplete) continue;
    if (status == ParseStatus::kRefused) {
      const Reason why = parser_.reason();
      co_return why == Reason::kHeadTooLarge || why == Reason::kTooManyFields
          ? Reason::kUpstreamHeadTooLarge
          : bad_response(why);
    }
    if (head_.status >= 200 || head_.status == 101) co_return accept_head();
    const Reason why = interpret_head();
    if (why != Reason::kNone) co_return bad_response(why);
    in_.consume(head_.length);
    if (++interims_ > kInterimMax) co_return bad_response(Reason::kUpstreamBadResponse);
    // 100 is between the gateway and the upstream; the others are for the client.
    if (head_.status != 100 && !exchange_.client->head_sent()) {
      const bool there =
          co_await exchange_.client->send_interim(head_.status, exchange_.response.fields);
      if (!there) {
        client_lost_ = true;
        co_return Reason::kClientGone;
      }
    }
    exchange_.response.fields.clear();
    in_.compact();
    parser_.reset();
    unparsed_ = !in_.empty();
  }
}

// The final response's head has been parsed.
Reason Proxy::accept_head() {
  const Reason why = interpret_head();
  if (why != Reason::kNone) return bad_response(why);
  in_.consume(head_.length);
  exchange_.times.upstream_head = loop_.now();
  exchange_.response.status = head_.status;
  exchange_.response.phrase = head_.phrase;
  exchange_.response.body = facts_.body;
  return Reason::kNone;
}

Reason Proxy::bad_response(Reason why) {
  GH_LOG(kWarn, "upstream {}, target {}: response refused: {} (request {})", upstream_.name,
         exchange_.target->address_text, reason_info(why).code, exchange_.request_id);
  return Reason::kUpstreamBadResponse;
}

Reason Proxy::interpret_head() {
  const Reason why =
      check_response(head_, exchange_.response.fields, exchange_.request.head.method_id, facts_);
  if (why != Reason::kNone) return why;
  if (head_.status == 101) {
    // Nobody switches protocols unasked, or to another one than was offered (RFC 9110 §15.2.2).
    const std::string_view offered = exchange_.request.facts.upgrade;
    if (offered.empty() || !equal_ignoring_case(offered, facts_.upgrade)) {
      return Reason::kUpstreamBadResponse;
    }
  }
  return Reason::kNone;
}

// Sends the response on. The head has been read; in_ holds what came behind it.
Task<void> Proxy::relay() {
  if (facts_.body.kind == BodyLength::Kind::kTunnel) {
    co_await relay_tunnel();
  } else if (whole_response()) {
    const bool there = co_await send_whole();
    (void)there;
  } else {
    co_await relay_pieces();
  }
}

// The common case: nothing more has to be read of the response.
bool Proxy::whole_response() const {
  return facts_.body.empty() ||
         (facts_.body.kind == BodyLength::Kind::kLength && in_.size() >= facts_.body.length);
}

// REQUIRES: whole_response().
Task<bool> Proxy::send_whole() {
  const size_t length = static_cast<size_t>(facts_.body.length);
  const std::string_view body = in_.view().substr(0, length);
  const bool excess = in_.size() > length;
  if (excess) exchange_.reason = Reason::kUpstreamExcess;
  reusable_ = facts_.keep_alive && !excess;
  return exchange_.client->send_head(body, true);
}

Task<void> Proxy::relay_pieces() {
  ClientSide& client = *exchange_.client;
  const BodyLength::Kind kind = facts_.body.kind;
  uint64_t left = facts_.body.length;
  bool head_sent = false;
  BufferClass size_class = BufferClass::kHead;
  if (kind == BodyLength::Kind::kChunked) decoder_.emplace();
  decoded_all_ = false;
  decode_failure_ = Reason::kNone;
  for (;;) {
    std::string_view data = in_.view();
    bool last = false;
    bool excess = false;
    if (kind == BodyLength::Kind::kLength) {
      excess = data.size() > left;
      if (excess) data = data.substr(0, static_cast<size_t>(left));
      left -= data.size();
      last = left == 0;
    } else if (kind == BodyLength::Kind::kChunked) {
      data = gather_chunks();
      if (decode_failure_ != Reason::kNone) {
        (void)bad_response(decode_failure_);
        break;
      }
      last = decoded_all_;
      excess = last && !in_.empty();
    }
    const FieldList* trailers = last ? decoder_trailers() : nullptr;
    if (!head_sent) {
      head_sent = true;
      const bool there = co_await client.send_head(data, last && trailers == nullptr);
      if (!there) co_return;
      if (last && trailers != nullptr) {
        const bool still_there = co_await client.send_end(trailers);
        if (!still_there) co_return;
      }
    } else {
      const bool there = co_await client.send_body(data);
      if (!there) co_return;
      if (last) {
        const bool still_there = co_await client.send_end(trailers);
        if (!still_there) co_return;
      }
    }
    if (last) {
      if (excess) exchange_.reason = Reason::kUpstreamExcess;
      reusable_ = facts_.keep_alive && !excess;
      co_return;
    }
    in_.clear();
    if (!stream().may_read()) {
      in_.release();  // a body at rest holds no buffer
      const IoResult ready = co_await stream().readable(conf_.read_timeout);
      if (!ready.ok()) {
        fail(Reason::kUpstreamTimeout);
        co_return;
      }
    }
    if (!in_ || in_.size_class() != size_class) in_ = Buffer(size_class);
    const IoResult got = co_await stream().read({in_.tail(), in_.room()}, conf_.read_timeout);
    if (got.status == IoStatus::kEof && kind == BodyLength::Kind::kUntilClose) {
      (void)co_await client.send_end(nullptr);
      co_return;
    }
    if (!got.ok()) {
      fail(got.status == IoStatus::kTimeout ? Reason::kUpstreamTimeout
                                            : Reason::kUpstreamTruncated);
      co_return;
    }
    in_.commit(got.bytes);
    exchange_.upstream_bytes_in += got.bytes;
    if (in_.room() == 0 && size_class != BufferClass::kHuge) {
      size_class = static_cast<BufferClass>(static_cast<unsigned>(size_class) + 1);
    }
  }
  fail(Reason::kUpstreamBadResponse);
}

const FieldList* Proxy::decoder_trailers() {
  if (facts_.body.kind != BodyLength::Kind::kChunked) return nullptr;
  const FieldList* trailers = decoder_->trailers();
  return trailers != nullptr && !trailers->empty() ? trailers : nullptr;
}

std::string_view Proxy::gather_chunks() {
  char* const start = in_.data() + in_.begin();
  size_t size = 0;
  while (!in_.empty() && !decoded_all_) {
    const ChunkedDecoder::Step step = decoder_->next(in_.view());
    if (step.status == ChunkedDecoder::Status::kRefused) {
      decode_failure_ = decoder_->reason();
      return {};
    }
    if (!step.data.empty()) {
      std::memmove(start + size, step.data.data(), step.data.size());
      size += step.data.size();
    }
    in_.consume(step.consumed);
    if (step.status == ChunkedDecoder::Status::kDone) decoded_all_ = true;
  }
  return {start, size};
}

Task<void> Proxy::relay_tunnel() {
  ClientSide& client = *exchange_.client;
  const bool there = co_await client.send_head({}, true);
  if (!there) co_return;
  const uint64_t in_before = stream().bytes_in();
  const uint64_t out_before = stream().bytes_out();
  Stream& client_stream = client.tunnel_stream();
  // The unread bytes of both sides stay where they are until they have been passed on.
  Buffer early = std::move(in_);
  exchange_.reason = co_await run_tunnel(client_stream, stream(), client.tunnel_unread(),
                                         early ? early.view() : std::string_view(),
                                         exchange_.route->conf->idle_timeout);
  exchange_.upstream_bytes_in += stream().bytes_in() - in_before;
  exchange_.upstream_bytes_out += stream().bytes_out() - out_before;
}

void Proxy::settle_connection() {
  if (!connection_) return;
  if (reusable_) {
    TargetState& state = connection_->state();
    state.give_back(std::move(connection_), conf_);
  } else {
    connection_.reset();
  }
}

// The request's body cannot be completed, for the reason in piece_.why: a client that is there is
// told, unless the response has begun.
void Proxy::stop_upload_failed() {
  if (piece_.why == Reason::kClientGone || exchange_.client->head_sent()) {
    lose_client(piece_.why);
  } else {
    client_lost_ = true;
    exchange_.refuse(piece_.why);
  }
}

// The client has failed: nothing can be said to it any more.
void Proxy::lose_client(Reason why) {
  exchange_.reason = why;
  exchange_.client->abort();
  client_lost_ = true;
}

// The upstream has failed: the client gets an error reply, or, where the response has begun, must
// see that it is not whole.
void Proxy::fail(Reason why) {
  reusable_ = false;
  if (exchange_.client->head_sent()) {
    exchange_.reason = why;
    exchange_.client->abort();
  } else {
    exchange_.refuse(why);
  }
}

}  // namespace

Task<void> proxy_action(Exchange& exchange, const void* state) {
  return Proxy::run(exchange, *static_cast<const Upstream*>(state));
}

}  // namespace gatehouse
