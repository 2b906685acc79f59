// One exchange on its way through an upstream: the state that proxy.cc (tries), proxy_retry.cc
// (what follows a failure), proxy_hedge.cc (two tries at once), proxy_upload.cc (a request with a
// body), proxy_response.cc (its answer) and proxy_h2.cc (both over HTTP/2) share. Nobody else
// includes this.
//
// Members of the present try are set anew by begin_try(). Coroutines here belong to the action's
// frame, which holds the Proxy; cancelling one leaves all it knew in members. `policy_` is null
// where the upstream has no policy, and then nothing of proxy_retry.cc and proxy_hedge.cc runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/buffer.h"
#include "core/event_loop.h"
#include "core/stream.h"
#include "core/task.h"
#include "http/body_framing.h"
#include "http/chunked.h"
#include "http/exchange.h"
#include "http/h1_parser.h"
#include "http/h2_connection.h"
#include "http/target_choice.h"
#include "http/target_transport.h"
#include "http/upstream.h"
#include "http/upstream_connection.h"
#include "http/upstream_policy.h"
#include "http/worker.h"

namespace gatehouse {

// RFC 9110 §9.2.2.
bool is_idempotent(Method method);

// How an upload ended.
enum class UploadEnd : uint8_t { kComplete, kClientFailed, kUpstreamFailed };

// A second try beside another one; see proxy_hedge.cc.
struct HedgedTry {
  TargetLease lease;
  std::unique_ptr<UpstreamConnection> connection;
  std::unique_ptr<H2Call> call;  // in the place of a connection
  Moment started;
  bool reused = false;
  // Ends where an answer begins, or with why none does. Behind what it uses: it goes first.
  Task<Reason> asking;
};

// What only an exchange needs whose upstream has a policy.
struct PolicyPart {
  UpstreamPass pass;
  TargetLease next;  // of the next try, where it is known already
  std::unique_ptr<HedgedTry> other;
  std::string kept;  // pieces of the request's body before the present one, for another try
  const Upstream* fallback = nullptr;
  uint32_t retries = 0;
  bool pause = false;  // the next try goes to a target that has just failed
  bool again = false;  // the answer was dropped: `next` or `other` is tried
  bool hedged = false;
};

class Proxy {
 public:
  Proxy(Exchange& exchange, const Upstream& upstream)
      : exchange_(exchange),
        upstream_(upstream),
        conf_(*upstream.conf),
        policy_(upstream.policy.get()),
        loop_(exchange.worker->loop()),
        choices_(exchange) {
    if (policy_ != nullptr) [[unlikely]]
      extra_.emplace();
  }
  ~Proxy() {
    if (!fields_kept_) exchange_.response.fields.clear();
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  // The action: its frame holds the Proxy.
  static Task<void> run(Exchange& exchange, const Upstream& upstream);

 private:
  // Each returns kNone where all went well, else what failed at the upstream's side. Failures at
  // the client's side end in client_lost_.
  // Makes a connection.
  Task<Reason> connect(UpstreamTarget& target, std::unique_ptr<UpstreamConnection>& connection);
  Duration connect_patience() const;
  Task<Reason> attempt();
  Task<Reason> attempt_with_body();
  // `started`: since when the timeout has been running.
  Task<Reason> read_head(Duration timeout, Moment started);
  Task<Reason> read_answer(Duration timeout);
  Task<void> relay();
  Task<void> relay_pieces();
  Task<void> relay_tunnel();
  Task<UploadEnd> upload();

  // proxy_h2.cc
  // Whether the request may go over a connection that others use at the same time. An offer to
  // switch protocols needs one of its own (RFC 9113 §8.6).
  bool may_share(const UpstreamTarget& target) const {
    const TargetTransport* const transport = target.transport.get();
    if (transport == nullptr || !transport->may_multiplex()) return false;
    return exchange_.request.facts.upgrade.empty() || !transport->may_speak_http1();
  }
  // Makes a call on a connection that others share, or a connection of its own.
  Task<Reason> reach(UpstreamTarget& target, std::unique_ptr<UpstreamConnection>& connection,
                     std::unique_ptr<H2Call>& call);
  bool open_call(const UpstreamTarget& target, H2Call& call, std::string_view authority);
  // True where the target has not looked at the request, and it may be sent again for that.
  bool call_was_refused() const;
  Task<Reason> attempt_call();
  Task<Reason> take_call_answer(Duration patience, Moment started);
  Task<Reason> wait_for_call(H2Call& call, Duration patience);
  Task<Reason> read_call_head(Duration timeout, Moment started);
  bool take_lines(uint16_t status, std::string_view lines);
  const FieldList* call_trailers();
  Task<void> relay_call();
  Task<UploadEnd> upload_call();

  void begin_try(TargetLease&& lease, bool retried);
  // After a connection could not be made. True: there may be another target to try.
  bool may_connect_elsewhere(Reason failure);
  TryOutcome outcome(Reason failure) const;
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
  bool met_dying_connection() const;
  void count_failure(Reason why);

  // proxy_retry.cc
  // May the exchange begin? kNone, or why not. REQUIRES: policy_.
  Reason enter();
  Duration answer_patience(Moment from) const;
  // True where the request may be sent again as far as its method and its body go.
  bool repeatable(bool nothing_sent) const;
  // Whether `ended` is to be followed by another try. True: there is one, extra_->next, and the
  // budget has paid for it.
  bool plan_retry(const TryOutcome& ended);
  // The answer's head has come: true where another try is to follow. REQUIRES then: drop_answer(),
  // once no coroutine uses the connection.
  bool is_to_be_dropped();
  void drop_answer();
  void keep_piece();
  // What the exchange gets that no target could be asked about. True where that is all; false where
  // extra_->fallback is to be asked, if it is set.
  bool use_fallback(Reason why);

  // proxy_hedge.cc
  bool may_hedge() const;
  // Waits for an answer; after a while at a second target, too. Afterwards lease_ and connection_
  // are those of the one that answers, or failed with what is returned.
  Task<Reason> race();
  Task<Reason> wait_for_answer(UpstreamConnection* connection, H2Call* call, Duration patience);
  Task<Reason> wait_for_bytes(Stream& stream, Duration patience);
  Task<Reason> ask(HedgedTry& other);
  void change_places();
  // The winner of the race was no good, for `failure` or because its answer is dropped: waits for
  // the other try, and goes on with that.
  Task<Reason> try_other(Reason failure);
  // After a try: gives the connection back or closes it. No coroutine may be using it.
  void settle_connection();
  void drop_connection();
  void stop_upload_failed();
  void lose_client(Reason why);
  void fail(Reason why);
  // The same where the response has begun, and its protocol may say why it ends.
  Task<void> give_up(Reason why);
  // Decodes what the buffer holds in place, so that the data stands in one piece.
  std::string_view gather_chunks();

  Stream& stream() { return connection_->stream(); }

  Exchange& exchange_;
  const Upstream& upstream_;
  const UpstreamConf& conf_;
  const UpstreamPolicy* policy_;
  EventLoop& loop_;
  ChoiceContext choices_;
  TargetLease lease_;  // of the present try
  // The try's way to the target: one of both, once it has been reached.
  std::unique_ptr<UpstreamConnection> connection_;
  std::unique_ptr<H2Call> call_;
  std::string proxy_header_;  // with which a connection begins; empty: with none
  uint32_t connects_failed_ = 0;
  uint8_t refusals_ = 0;             // tries that targets have not looked at
  bool tried_ = false;               // a try has begun
  std::optional<PolicyPart> extra_;  // there is one exactly where policy_ is

  // The request's side of the present try.
  BodyPiece piece_;              // the last piece read from the client
  bool piece_at_hand_ = false;   // piece_ is there, and was not put into extra_->kept
  unsigned pieces_ = 0;          // read from the client so far
  uint64_t body_read_ = 0;       // their bytes
  bool piece_lost_ = false;      // a piece was read, and its memory is no longer ours
  bool accepted_bytes_ = false;  // the kernel took bytes of this try for sending
  bool request_sent_ = true;     // the whole request has been sent
  bool client_lost_ = false;

  // The response's side of the present try.
  bool fields_kept_ = false;  // the response's fields do not stand in in_, and so outlive it
  bool reusable_ = false;     // the connection may serve another exchange
  Buffer in_;
  H1ResponseParser parser_;
  ResponseHead head_;
  ResponseFacts facts_;
  bool unparsed_ = false;      // in_ holds bytes behind an interim head
  bool answer_begun_ = false;  // a byte of an answer has come
  unsigned interims_ = 0;
  std::unique_ptr<FieldList> trailers_;    // of an answer over HTTP/2
  std::optional<ChunkedDecoder> decoder_;  // set for a chunked response
  bool decoded_all_ = false;
  Reason decode_failure_ = Reason::kNone;
};

}  // namespace gatehouse
