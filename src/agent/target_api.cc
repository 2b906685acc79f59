// See target_api.h.
#include "agent/target_api.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "agent/member_file.h"
#include "agent/traffic_duty.h"
#include "core/log.h"
#include "core/unique_fd.h"

namespace gatehouse {
namespace {

constexpr std::string_view kUpstreams = "/v1/upstreams";
constexpr std::string_view kTargets = "/targets";
constexpr size_t kTokenMin = 16;
constexpr size_t kTokenMax = 1024;

ApiAnswer refusal(int code, std::string problem) {
  return {code, {{"error", std::move(problem)}}};
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// None where a % is not followed by two digits, or stands for a control byte.
std::optional<std::string> decoded(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    if (i + 2 >= text.size() || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0) return std::nullopt;
    const auto byte = static_cast<unsigned char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
    if (byte < 0x20 || byte == 0x7f) return std::nullopt;
    plain += static_cast<char>(byte);
    i += 2;
  }
  return plain;
}

void answer_list(TrafficDuty& duty, const ApiPath& path, const ApiDone& done) {
  nlohmann::json list = nlohmann::json::array();
  for (const Registration& one : duty.registered(*path.upstream)) {
    list.push_back(registration_json(one));
  }
  done({200, {{"targets", std::move(list)}}});
}

void answer_target(TrafficDuty& duty, const ApiPath& path, const ApiRequest& request,
                   const ApiDone& done) {
  const Result<SocketAddress> address = member_address(*path.address);
  if (!address) return done(refusal(400, address.error().message));
  if (request.method == "PUT") {
    Result<Registration> wanted = parse_registration(*path.upstream, *path.address, request.body);
    if (!wanted) return done(refusal(400, wanted.error().message));
    return duty.put_registration(std::move(*wanted), done);
  }
  if (request.method == "DELETE") return duty.remove_registration(*path.upstream, *address, done);
  for (const Registration& one : duty.registered(*path.upstream)) {
    if (one.member.address == *address) return done({200, registration_json(one)});
  }
  done(refusal(404, *path.address + " is not registered"));
}

}  // namespace

std::optional<ApiPath> parse_api_path(std::string_view path) {
  if (!path.starts_with(kUpstreams)) return std::nullopt;
  path.remove_prefix(kUpstreams.size());
  ApiPath parts;
  if (path.empty() || path == "/") return parts;
  if (path.front() != '/') return std::nullopt;
  path.remove_prefix(1);
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos || slash == 0) return std::nullopt;
  parts.upstream = decoded(path.substr(0, slash));
  path.remove_prefix(slash);
  if (!parts.upstream || !path.starts_with(kTargets)) return std::nullopt;
  path.remove_prefix(kTargets.size());
  parts.targets = true;
  if (path.empty() || path == "/") return parts;
  // The path of a unix socket has slashes of its own.
  if (path.front() != '/') return std::nullopt;
  parts.address = decoded(path.substr(1));
  if (!parts.address) return std::nullopt;
  return parts;
}

void answer_api(TrafficDuty& duty, const ApiRequest& request, const ApiDone& done) {
  const std::optional<ApiPath> path = parse_api_path(request.path);
  if (!path) return done(refusal(404, "there is no such resource"));
  const bool reads = request.method == "GET" || request.method == "HEAD";
  const bool changes = request.method == "PUT" || request.method == "DELETE";
  if (!reads && !(changes && path->address)) {
    return done(refusal(405, request.method + " is not for this resource"));
  }
  if (!duty.on_duty()) return done(refusal(503, "the agent is not on duty yet; try again"));
  if (!path->upstream) return done({200, {{"upstreams", duty.registering_upstreams()}}});
  if (const std::string why = duty.why_no_registrations(*path->upstream); !why.empty()) {
    return done(refusal(404, why));
  }
  if (!path->address) return answer_list(duty, *path, done);
  answer_target(duty, *path, request, done);
}

bool is_token(std::string_view field, std::string_view token) {
  constexpr std::string_view kScheme = "Bearer ";
  if (token.empty() || !field.starts_with(kScheme)) return false;
  field.remove_prefix(kScheme.size());
  unsigned difference = field.size() == token.size() ? 0 : 1;
  for (size_t i = 0; i < field.size(); ++i) {
    difference |= static_cast<unsigned>(static_cast<unsigned char>(field[i]) ^
                                        static_cast<unsigned char>(token[i % token.size()]));
  }
  return difference == 0;
}

Result<std::string> read_token(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errno_error("api_token " + path, errno);
  struct stat info {};
  if (fstat(fd.get(), &info) == 0 && (info.st_mode & S_IROTH) != 0) {
    GH_LOG(kWarn, "api_token {}: everybody on this host may read it", path);
  }
  std::array<char, kTokenMax + 1> buffer;
  const ssize_t size = read(fd.get(), buffer.data(), buffer.size());
  if (size < 0) return errno_error("api_token " + path, errno);
  std::string token(buffer.data(), static_cast<size_t>(size));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  for (const char c : token) {
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f) {
      return Error{"api_token " + path + ": not one line without blanks"};
    }
  }
  if (token.size() < kTokenMin || token.size() > kTokenMax) {
    return Error{"api_token " + path + ": expected 16 to 1024 bytes"};
  }
  return token;
}

}  // namespace gatehouse
