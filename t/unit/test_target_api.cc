// Registration requests: their paths, their bodies, and the token that they need.
#include "agent/target_api.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "agent/registrations.h"
#include "core/log.h"

namespace {

using gatehouse::ApiPath;
using gatehouse::is_token;
using gatehouse::parse_api_path;
using gatehouse::parse_registration;
using gatehouse::read_token;
using gatehouse::Registration;
using gatehouse::Result;

bool is_path(std::string_view text, std::optional<std::string> upstream, bool targets,
             std::optional<std::string> address) {
  const std::optional<ApiPath> path = parse_api_path(text);
  return path && path->upstream == upstream && path->targets == targets && path->address == address;
}

// A file with these bytes, and its path.
std::string file_of(const std::string& bytes) {
  char path[] = "/tmp/gatehouse-token-XXXXXX";
  const int fd = mkstemp(path);
  cr_assert(fd >= 0);
  cr_assert_eq(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  close(fd);
  return path;
}

bool takes(const std::string& bytes) {
  const std::string path = file_of(bytes);
  const Result<std::string> token = read_token(path);
  unlink(path.c_str());
  return token.ok() && *token == bytes.substr(0, token->size());
}

}  // namespace

TestSuite(target_api, .timeout = 20);

Test(target_api, paths_have_their_parts) {
  const auto none = std::nullopt;
  cr_assert(is_path("/v1/upstreams", none, false, none));
  cr_assert(is_path("/v1/upstreams/", none, false, none));
  cr_assert(is_path("/v1/upstreams/app/targets", "app", true, none));
  cr_assert(is_path("/v1/upstreams/a%2Fb/targets/", "a/b", true, none));
  cr_assert(is_path("/v1/upstreams/app/targets/10.0.0.1:80", "app", true, "10.0.0.1:80"));
  cr_assert(is_path("/v1/upstreams/app/targets/%5b::1%5D:80", "app", true, "[::1]:80"));
  cr_assert(is_path("/v1/upstreams/app/targets/unix:/run/a.sock", "app", true, "unix:/run/a.sock"));
  for (const char* other :
       {"", "/", "/v1", "/v1/upstreamsapp", "/v1/upstreams/app", "/v1/upstreams//targets",
        "/v1/upstreams/app/targetsx", "/v1/upstreams/a%/targets", "/v1/upstreams/a%2/targets",
        "/v1/upstreams/a%00/targets", "/v1/upstreams/a/targets/%0a", "/v2/upstreams"}) {
    cr_assert(!parse_api_path(other), "%s", other);
  }
}

Test(target_api, registrations_are_read_strictly) {
  Result<Registration> plain = parse_registration("app", "10.0.0.1", "");
  cr_assert(plain.ok() && plain->member.address.port() == 80 && plain->lease.count() == 0);
  Result<Registration> full =
      parse_registration("app", "10.0.0.1:81",
                         R"({"weight":7,"backup":true,"version":"1","tags":["a"],"lease":"90s"})");
  cr_assert(full.ok() && full->member.weight == 7 && full->member.backup);
  cr_assert(full->lease == std::chrono::seconds(90) && full->upstream == "app");
  full->expires_us = 5;
  const nlohmann::json shown = gatehouse::registration_json(*full);
  cr_assert(shown["lease"] == "1m30s" && shown["tags"].size() == 1 && shown["expires_us"] == 5);
  cr_assert(!gatehouse::registration_json(*plain).contains("lease"));
  for (const char* bad : {"{", "[]", "7", R"({"lease":"0s"})", R"({"lease":"400d"})",
                          R"({"lease":30})", R"({"address":"10.0.0.1:80"})", R"({"weight":-1})"}) {
    cr_assert(!parse_registration("app", "10.0.0.1:80", bad).ok(), "%s", bad);
  }
  cr_assert(!parse_registration("app", "app.test:80", "").ok());
}

Test(target_api, tokens_are_compared_whole) {
  const std::string token = "0123456789abcdef";
  cr_assert(is_token("Bearer 0123456789abcdef", token));
  for (const char* bad :
       {"", "Bearer", "Bearer ", "bearer 0123456789abcdef", "Basic 0123456789abcdef",
        "Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0",
        "Bearer 0123456789abcdef0123456789abcdef"}) {
    cr_assert(!is_token(bad, token), "%s", bad);
  }
  cr_assert(!is_token("Bearer ", ""), "no token is no password");
}

Test(target_api, token_files_are_one_line) {
  gatehouse::log_set_level(gatehouse::LogLevel::kAlert);
  cr_assert(takes("0123456789abcdef"));
  cr_assert(takes("0123456789abcdef\n"));
  for (const std::string& bad :
       {std::string(), std::string("short\n"), std::string("0123456789abcdef\nmore"),
        std::string("0123456789abcdef "), std::string(1025, 't')}) {
    cr_assert(!takes(bad), "%s", bad.c_str());
  }
  cr_assert(!read_token("/nowhere/token").ok());
}
