// The `upstream` action: hands an exchange to a target and its answer back to the client.
//
// For each try: a target is chosen, a kept-alive connection taken or a new one made, the request's
// head is written, and the answer read. A request without a body is one straight line; one with a
// body uploads and listens at the same time, so that an early answer gets through while the body
// is still coming. Bodies stream piece by piece: the next piece is read when the last one is
// written, so a slow side slows the other down and nothing piles up.
//
// What is tried again: connecting, at another target (nothing was sent yet); and, once, a request
// that met a kept-alive connection which the target was just closing, where that is safe: not a
// byte of an answer has come, and either not a byte was accepted for sending or the method is
// idempotent (RFC 9110 §9.2.2, RFC 9112 §9.3.1) and what was sent of its body is still at hand.
//
// More is tried where the upstream has a policy (http/policy_conf): failures that `retry` names,
// within a budget and at another target where there is one; a second target beside one that takes
// long
// (`hedge`); another upstream, or a reply, where no target could be asked (`fallback`). Never after
// the response has begun. Bodies are kept for that up to retry_body_max, while they stream.
//
// An answer that is malformed or ends early never looks whole to the client; a connection with
// anything unexplained on it is closed, never reused.
#pragma once

#include "core/task.h"
#include "http/exchange.h"
#include "http/tunnel_end.h"
#include "http/upstream.h"

namespace gatehouse {

// An ActionFunction; `state` is the route's Upstream.
Task<void> proxy_action(Exchange& exchange, const void* state);

// Passes bytes both ways until both sides have ended, one fails, or nothing moves for
// `idle_timeout`. `client_unread` and `upstream_unread` were read already and go first. A side
// that ends its sending half is ended towards the other; the opposite direction goes on.
// Returns kNone, or kUpstreamReset, kUpstreamTimeout (idle), kClientGone.
Task<Reason> run_tunnel(const ClientTunnel& client, Stream& upstream,
                        std::string_view client_unread, std::string_view upstream_unread,
                        Duration idle_timeout);

}  // namespace gatehouse
