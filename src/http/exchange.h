// Exchange: one request with its response, from the first byte of its head to its log line.
//
// Made by a session for each request and reused through the worker's free list. Views in it point
// into the session's head buffer or into the arena; all of them live until the exchange ends.
// Nothing here tells which protocol the client speaks: what a handler needs of the client's side
// (reading the body, sending the response) goes through ClientSide.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/arena.h"
#include "core/sockets.h"
#include "core/task.h"
#include "core/units.h"
#include "http/body_framing.h"
#include "http/field.h"
#include "http/h1_parser.h"
#include "http/host.h"
#include "http/reason.h"
#include "http/target.h"
#include "http/target_set.h"

namespace gatehouse {

class ClientConnection;
class ClientSide;
struct ExchangeRun;
class Generation;
class TargetLease;
class Worker;
struct ClientTunnel;
struct Listener;
struct SeriesCells;
struct Route;
struct UpstreamTarget;

struct Request {
  RequestHead head;         // method, raw target, version: as received
  RequestTarget target;     // normalised: path, query, wire form
  Authority authority;      // the effective host and port (absolute form wins over Host)
  RequestFacts facts;       // what the fields mean together: body length, keep-alive, upgrade
  FieldList fields;         // as received; a hook drops one by setting Field::dropped
  FieldList added;          // what hooks add towards the upstream
  uint64_t body_bytes = 0;  // body bytes received from the client so far, without framing
  uint64_t wire_bytes = 0;  // bytes of head and body
};

struct Response {
  uint16_t status = 0;      // 0: nothing to send yet
  std::string_view phrase;  // the upstream's words for a status that has no standard phrase
  FieldList fields;         // as the upstream or the handler gave them
  FieldList added;          // what hooks add towards the client
  // How the body is delimited at its source (upstream), or kLength for `content`.
  BodyLength body;
  // The whole body of a response made here; empty for one that streams.
  std::string_view content;
  uint64_t body_bytes = 0;  // body bytes sent to the client so far, without framing
  uint64_t wire_bytes = 0;  // bytes written to the client: head, body and framing
};

// One part of the path that a `{name}` segment of the route's pattern matched.
struct PathCapture {
  std::string_view name;
  std::string_view value;
};

// Times of the parts of an exchange; zero where a part did not happen.
struct ExchangeTimes {
  Moment started;           // the head's first byte
  Moment upstream_started;  // the last try's start
  Moment upstream_connected;
  Moment upstream_head;  // the last try's response head arrived
  Moment finished;
};

class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() {
    if (end_tasks_ != nullptr) run_end_tasks();
  }

  ExchangeRun* runner = nullptr;           // who runs it; null in explain and in unit tests
  Worker* worker = nullptr;                // null in explain and in unit tests
  const Generation* generation = nullptr;  // held alive by the session, while the exchange lasts
  const Listener* listener = nullptr;
  const Route* route = nullptr;  // never null once the head is parsed
  ClientSide* client = nullptr;
  bool early_data = false;  // it came before the TLS handshake was over: it may be a replay
  const ClientConnection* connection = nullptr;  // null where worker is

  Arena arena;
  Request request;
  Response response;
  Reason reason = Reason::kNone;
  ExchangeTimes times;

  IpAddress peer;  // the connection's other end; none over a unix socket
  uint16_t peer_port = 0;
  IpAddress client_address;      // the client, by the trusted-proxy rule; else the peer
  std::string_view client_text;  // client_address without a port, as text
  bool peer_trusted = false;     // the peer is a trusted proxy of the listener
  bool client_https = false;     // by TLS here, or as a trusted proxy says
  std::string_view request_id;

  static constexpr size_t kMaxCaptures = 16;
  PathCapture captures[kMaxCaptures];
  uint8_t capture_count = 0;

  // The try that gave (or failed to give) the response.
  const UpstreamTarget* target = nullptr;
  TargetSetRef target_set;  // what `target` is of
  // Where an exchange counts that a split has given to an upstream, and no target was tried.
  SeriesCells* upstream_cells = nullptr;
  uint8_t tries = 0;
  bool target_reused = false;  // over a kept-alive connection
  int8_t grpc_status = -1;     // a GrpcStatus, or less than 0: see http/grpc.h
  uint64_t upstream_bytes_in = 0;
  uint64_t upstream_bytes_out = 0;

  // Sets a response made here (FieldList::added of the response is kept). `content` and the fields'
  // text must live in the arena or the generation. The session sends it when the handler (or hook)
  // returns.
  void answer(uint16_t status, std::string_view content_type, std::string_view content);
  // Sets an error response for `why`: status and text from the reason list, as problem details
  // (RFC 9457) or as a page where the client prefers HTML (src/http/error_reply.cc).
  void refuse(Reason why);
  // Adds a response field; copies nothing.
  void add_response_field(std::string_view name, std::string_view value);
  // Adds or replaces a field of the request towards the upstream: what the client sent under
  // that name is dropped. Copies nothing.
  void set_upstream_field(std::string_view name, std::string_view value);

  // The try that begins: what `lease` gives is used.
  void set_target(const TargetLease& lease);

  // Calls run(context) when the exchange is really over: after its response, or its tunnel, however
  // it ends; latest first. `context` outlives the generation, for a tunnel does.
  void at_end(void (*run)(void* context), void* context);

  // Makes it as new for the next request; gives all memory back.
  void reset();

 private:
  struct EndTask {
    void (*run)(void* context);
    void* context;
    EndTask* next;
  };
  void run_end_tasks();

  EndTask* end_tasks_ = nullptr;  // in the arena
};

// A piece of the request's body. `bytes` stay valid until the next read_body.
struct BodyPiece {
  enum class Status : uint8_t {
    kBytes,   // `bytes` is not empty; more may follow
    kEnd,     // the body is complete
    kFailed,  // it will not be: `why` says so, the exchange cannot go on
  };
  Status status = Status::kEnd;
  Reason why = Reason::kNone;
  std::string_view bytes;
};

// The client's side of one exchange, as handlers see it; one implementation per protocol.
// Every send reports whether the client is still there: after `false` the handler returns.
class ClientSide {
 public:
  virtual ~ClientSide() = default;

  // The next piece of the request's body, decoded. Sends 100 (Continue) first where the client
  // waits for it.
  virtual Task<BodyPiece> read_body() = 0;
  // True where read_body would not wait.
  virtual bool body_ready() const = 0;
  // The trailer fields of a body that has ended; null where there were none.
  virtual FieldList* body_trailers() = 0;

  // Sends an interim response (1xx but 101) with exchange.response's fields.
  virtual Task<bool> send_interim(uint16_t status, const FieldList& fields) = 0;
  // Sends the head of exchange.response together with the first bytes of its body; `last` where
  // those are all of it. Decides the framing towards the client from response.body.
  virtual Task<bool> send_head(std::string_view first, bool last) = 0;
  virtual Task<bool> send_body(std::string_view bytes) = 0;
  // Ends the body, with the trailer fields (null: none) where the protocol can carry them.
  virtual Task<bool> send_end(const FieldList* trailers) = 0;
  // True once send_head has been called: the status can no longer change.
  virtual bool head_sent() const = 0;

  // The response cannot be completed, for `why`, after its head was sent: as abort(), unless the
  // body's own protocol can say what went wrong. Nothing of it is sent afterwards.
  virtual Task<bool> send_failure(Reason why);
  // The response cannot be completed: the client must not take it for whole. The connection (or
  // stream) is cut after the handler returns.
  virtual void abort() = 0;

  // After a 101 head: the client's end, and bytes of it that were read already. From then on the
  // exchange holds no generation: its route, listener and target are copies (http/tunnel_record),
  // and whoever calls this has no other reference into the generation either.
  virtual ClientTunnel begin_tunnel() = 0;
  virtual std::string_view tunnel_unread() = 0;
};

}  // namespace gatehouse
