// The body of a reply that refuses a request: problem details (RFC 9457), or a small page for a
// browser.
//
// What is sent names the reason code and the request id, so that a user's report leads to the log
// line. Nothing of the request but the id is repeated in it.
#pragma once

#include "http/exchange.h"
#include "http/reason.h"

namespace gatehouse {

// Answers the exchange with the status and the text of `why`, in HTML where the Accept field
// prefers it, else as application/problem+json. A POST whose Content-Type is that of gRPC or
// gRPC-Web is answered with 200 and the fields grpc-status (http/grpc.h) and grpc-message. Sets
// exchange.reason. A reason without a reply of its own (status 0 or 499) is answered as kInternal,
// and one of an upstream's response as 502.
void write_error_reply(Exchange& exchange, Reason why);

}  // namespace gatehouse
