// H2Codec: the client's side of one HTTP/2 connection (RFC 9113), without socket, timer or
// coroutine: bytes in, bytes out, and between them any number of requests with their answers.
//
//   H2Codec codec(limits);
//   H2Transfer transfer(arena);
//   codec.open(transfer, fields, true);            // HEADERS; a body follows
//   codec.offer(transfer, "bytes", true, nullptr); // DATA, and the end
//   codec.fill(out);                               // what is to be sent
//   codec.feed(bytes, now);                        // what has come
//   while (H2Transfer* changed = codec.next_changed()) …
//
// Frames and field compression are libnghttp2's, which also checks what RFC 9113 §8 asks of an
// answer: no connection fields, the length that was announced, trailers at the end. On top of that
// each field line goes through the parser that reads HTTP/1 heads, so that a name or value has one
// meaning whatever brought it. Bounded: a head by `head_max` and `fields_max`, interim heads by
// their number and together by `head_max`, the bytes of an answer that nobody has taken yet by
// `window` (a stream's window grows only as they are taken, the connection's at once, so that one
// slow reader stops nobody else), frames that serve nothing by http/h2_noise.
//
// An answer is whole only where its END_STREAM came and every check held. A request that the peer
// has certainly not looked at (REFUSED_STREAM, a GOAWAY below its number, RFC 9113 §8.7, or not
// sent yet) ends as kUnprocessed. Leaves out: server push (it is switched off) and priorities.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/arena.h"
#include "core/buffer.h"
#include "core/units.h"
#include "http/field.h"
#include "http/h2_noise.h"

namespace gatehouse {

struct H2Limits {
  size_t head_max = 32768;    // bytes of field lines in a head or trailer section
  uint32_t fields_max = 100;  // of them
  uint32_t window = 262144;   // bytes of an answer that wait to be taken
};

class H2Codec;

// One request with its answer, as the codec sees it. Belongs to whoever asks; detached from the
// codec by H2Codec::close() or the codec's end, before it goes.
class H2Transfer {
 public:
  enum class End : uint8_t {
    kOpen,         // more may come
    kWhole,        // the answer has ended, and is complete
    kUnprocessed,  // the peer did nothing with the request
    kReset,        // by the peer, or with the connection
    kMalformed,
    kHeadTooLarge,
  };
  // Lines "name: value" CRLF, and an empty one; in the arena.
  struct Head {
    uint16_t status = 0;
    std::string_view lines;
  };

  // `arena` gets the heads. It outlives the transfer.
  explicit H2Transfer(Arena& arena) : arena_(arena) {}
  H2Transfer(const H2Transfer&) = delete;
  H2Transfer& operator=(const H2Transfer&) = delete;
  ~H2Transfer();

  // ---- The answer so far ----
  bool has_interim() const { return next_interim_ < interims_.size(); }
  // REQUIRES: has_interim().
  const Head& take_interim() { return interims_[next_interim_++]; }
  bool has_head() const { return head_.status != 0; }
  const Head& head() const { return head_; }
  // Bytes of the body that wait to be taken.
  size_t body_size() const { return body_size_; }
  // Moves out the first piece of them. REQUIRES: body_size() > 0.
  Buffer take_body();
  // What the end has brought; empty: no trailers. REQUIRES: end() is kWhole.
  std::string_view trailers() const { return trailers_; }
  End end() const { return end_; }

  // ---- The request so far ----
  // Its head has left, as far as the codec is concerned.
  bool sent() const { return sent_; }
  // What was offered is framed: the bytes are not needed any more.
  bool taken() const { return offered_.empty() && (!last_ || finished_); }
  // The whole request is framed.
  bool request_finished() const { return finished_; }
  // Bytes of body framed so far: whoever waits sees that it goes on.
  uint64_t body_sent() const { return body_sent_; }

 protected:
  // There is no way to send it. REQUIRES: it is not open.
  void give_up() { end_ = End::kUnprocessed; }

 private:
  friend class H2Codec;
  Arena& arena_;
  H2Codec* codec_ = nullptr;  // null before open(), and after close() or the codec's end
  int32_t stream_ = 0;
  bool stream_open_ = false;
  H2Transfer* next_ = nullptr;  // in the codec's list
  H2Transfer* previous_ = nullptr;
  H2Transfer* next_changed_ = nullptr;  // in the list of those that have changed
  H2Transfer* previous_changed_ = nullptr;
  bool changed_ = false;

  End end_ = End::kOpen;
  bool too_large_ = false;
  bool reset_by_peer_ = false;
  Head head_;
  std::vector<Head> interims_;
  size_t next_interim_ = 0;
  size_t interim_bytes_ = 0;
  std::string_view trailers_;
  std::vector<Buffer> body_;
  size_t body_size_ = 0;

  bool sent_ = false;
  bool finished_ = false;
  bool last_ = false;
  bool deferred_ = false;  // libnghttp2 waits for more of the body
  std::string_view offered_;
  const FieldList* offered_trailers_ = nullptr;
  uint64_t body_sent_ = 0;
};

class H2Codec {
 public:
  explicit H2Codec(const H2Limits& limits);
  H2Codec(const H2Codec&) = delete;
  H2Codec& operator=(const H2Codec&) = delete;
  ~H2Codec();

  // ---- Bytes ----
  // What has come. False: the connection is of no use any more, once fill() has been sent.
  bool feed(std::string_view bytes, Moment now);
  // Appends what is to be sent, as far as there is room. May change transfers.
  void fill(Buffer& out);
  bool wants_write() const;
  // Nothing more will be read or written.
  bool is_over() const;
  // Ends every transfer that is open, as kUnprocessed where it was not sent, else as kMalformed
  // where the peer broke the protocol, as kReset otherwise.
  void lose();

  // ---- Transfers ----
  // True where another request may be sent now, besides those that are about to be.
  bool may_open(size_t about_to_be = 0) const;
  // Sends a head; `fields` are copied. Without a body the request is whole by that. False: the
  // connection has no number left for it. REQUIRES: the transfer is new.
  bool open(H2Transfer& transfer, std::span<const nghttp2_nv> fields, bool has_body);
  // The next bytes of the body, and whether they are its last; `trailers` may come with the last.
  // Both are read until taken(). REQUIRES: what was offered before is taken; not finished.
  void offer(H2Transfer& transfer, std::string_view bytes, bool last, const FieldList* trailers);
  // Takes the offer back: its bytes are not read any more, and the request cannot become whole.
  void retract(H2Transfer& transfer);
  // So many bytes of the body are out of the way: the peer may send as many again.
  void release(H2Transfer& transfer, size_t bytes);
  // Forgets the transfer. Where it has not ended on both sides the peer is told so (RST_STREAM,
  // CANCEL). Harmless where it is not open here.
  void close(H2Transfer& transfer);
  // The next of those whose answer, end, or taken() has changed since they were last returned.
  H2Transfer* next_changed();
  // Has it returned once more.
  void touch(H2Transfer& transfer) { note_change(transfer); }

  size_t active() const { return active_; }
  uint64_t opened() const { return opened_; }
  // The peer's settings have come: it speaks HTTP/2, and may_open() knows its limit.
  bool settings_seen() const { return settings_seen_; }
  // The peer takes no further request (GOAWAY).
  bool going_away() const { return going_away_; }
  // The peer broke the protocol, or said too much.
  bool peer_failed() const { return peer_failed_; }
  const char* problem() const { return problem_; }
  // Asks for a sign of life.
  void ping();
  // No further request; ends in good order once the transfers have.
  void go_away();

 private:
  struct Callbacks;
  friend struct Callbacks;
  void append_body(H2Transfer& transfer, std::string_view bytes);
  void end(H2Transfer& transfer, H2Transfer::End how);
  void close_stream(H2Transfer& transfer);
  void finish_block(H2Transfer& transfer, bool last);
  bool submit_trailers(H2Transfer& transfer);
  void note_change(H2Transfer& transfer);
  void forget_change(H2Transfer& transfer);
  void detach(H2Transfer& transfer);
  H2Transfer* find(int32_t stream);
  uint32_t limit() const;

  const H2Limits limits_;
  nghttp2_session* session_ = nullptr;
  H2Transfer* transfers_ = nullptr;
  H2Transfer* first_changed_ = nullptr;
  H2Transfer* last_changed_ = nullptr;
  size_t active_ = 0;
  uint64_t opened_ = 0;
  uint32_t refused_limit_ = UINT32_MAX;  // what a refusal has taught
  bool settings_seen_ = false;
  bool going_away_ = false;
  bool peer_failed_ = false;
  bool broken_ = false;  // libnghttp2 itself has failed: out of memory
  const char* problem_ = "";
  H2Noise noise_;

  // Of the field block that is just coming: blocks do not interleave.
  std::string block_;
  uint32_t block_fields_ = 0;
  uint16_t block_status_ = 0;

  Buffer* out_ = nullptr;  // while fill() runs
  std::string_view left_;  // of what libnghttp2 gave, and there was no room for
};

}  // namespace gatehouse
