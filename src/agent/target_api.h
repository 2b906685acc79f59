// The requests that register targets: over HTTP, and from the master for the command line.
//
//   GET    /v1/upstreams                          the upstreams that take registrations
//   GET    /v1/upstreams/NAME/targets             what is registered there
//   GET    /v1/upstreams/NAME/targets/ADDRESS
//   PUT    /v1/upstreams/NAME/targets/ADDRESS     registers, or renews: {"weight": 1, "lease":
//                                                 "30s", "version": "1.2", "tags": ["a"]}
//   DELETE /v1/upstreams/NAME/targets/ADDRESS
//
// Answers are JSON; an error is {"error": "…"}. Whoever may reach the agent's unix socket may use
// it; over TCP a token is asked for.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

class TrafficDuty;

struct ApiAnswer {
  int code = 200;
  nlohmann::json body;
};
using ApiDone = std::function<void(ApiAnswer)>;

struct ApiRequest {
  std::string method;
  std::string path;  // as it came, percent-encoded
  std::string body;
};

// `done` is called once, at once or later.
void answer_api(TrafficDuty& duty, const ApiRequest& request, const ApiDone& done);

// The parts of /v1/upstreams/NAME/targets/ADDRESS that there are; none where it is no such path.
struct ApiPath {
  std::optional<std::string> upstream;
  bool targets = false;
  std::optional<std::string> address;
};
std::optional<ApiPath> parse_api_path(std::string_view path);

// The token of "Authorization: Bearer TOKEN" is this one; takes the same time wherever they differ.
bool is_token(std::string_view field, std::string_view token);
// The file's token: one line, at least 16 bytes, without blanks.
Result<std::string> read_token(const std::string& path);

}  // namespace gatehouse
