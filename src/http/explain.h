// explain: what would happen to a request, and which line of which file says so.
//
// The request goes through the same parser, normaliser and router as one from the network; only
// the hooks and the action are told and not run.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "http/generation.h"

namespace gatehouse {

struct ExplainRequest {
  std::string request;              // "GET https://host/path"; the method may be left out
  std::vector<std::string> fields;  // "Name: value"
  std::string client;               // address; empty: 127.0.0.1
  std::string listener;             // name; empty: by the URL's port, or the only one
  bool json = false;
};

// The text to print, ended with a newline. Fails where the question itself makes no sense (no
// URL, an unknown listener); a request that the gateway would refuse is an answer.
Result<std::string> explain(const Generation& generation, const ExplainRequest& request);

}  // namespace gatehouse
