// Request methods: the ones whose meaning changes framing or routing, by number.
//
// Methods are case-sensitive (RFC 9110 §9.1). Any other token is kOther and is handed on as it
// came, with one exception that the parser makes: a known method in another case ("head").
// Some upstreams read it as the known one, so that its response would be framed in two ways.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatehouse {

enum class Method : uint8_t {
  kOther,
  kGet,
  kHead,
  kPost,
  kPut,
  kDelete,
  kConnect,
  kOptions,
  kTrace,
  kPatch,
  kCount
};

// The name on the wire; empty for kOther.
constexpr std::string_view method_name(Method method) {
  constexpr std::string_view kNames[] = {"",       "GET",     "HEAD",    "POST",  "PUT",
                                         "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  static_assert(sizeof kNames / sizeof kNames[0] == static_cast<size_t>(Method::kCount));
  return kNames[static_cast<size_t>(method)];
}

// Exact, case-sensitive comparison; kOther for anything unknown.
constexpr Method method_id(std::string_view name) {
  switch (name.size()) {
    case 3:
      if (name == "GET") return Method::kGet;
      if (name == "PUT") return Method::kPut;
      break;
    case 4:
      if (name == "POST") return Method::kPost;
      if (name == "HEAD") return Method::kHead;
      break;
    case 5:
      if (name == "PATCH") return Method::kPatch;
      if (name == "TRACE") return Method::kTrace;
      break;
    case 6:
      if (name == "DELETE") return Method::kDelete;
      break;
    case 7:
      if (name == "OPTIONS") return Method::kOptions;
      if (name == "CONNECT") return Method::kConnect;
      break;
    default:
      break;
  }
  return Method::kOther;
}

}  // namespace gatehouse
