// evhttp, with limits and answers that may come later. See http_status.h.
#include "agent/http_status.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/listener.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace gatehouse {
namespace {

constexpr Duration kLookForRoom{100};
constexpr int kBacklog = 64;
constexpr short kAllMethods = EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                              EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                              EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH;

const char* reason_of(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 507:
      return "Insufficient Storage";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

// Connections that this process has accepted at `address`. evhttp does not tell when it closes
// one, and there are few descriptors to ask.
size_t count_connections(const SocketAddress& address, int listener) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const int end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1024));
  size_t count = 0;
  for (int fd = 3; fd < end; ++fd) {
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    if (fd == listener || getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) != 0) {
      continue;
    }
    const auto found = SocketAddress::from_kernel(reinterpret_cast<sockaddr*>(&local), size);
    if (found.family() == address.family() && found.port() == address.port()) ++count;
  }
  return count;
}

}  // namespace

struct HttpStatus::State {
  // A request that waits for its answer. evhttp frees it when its connection ends.
  struct Waiting {
    State* state;
    evhttp_request* request;  // null once it is gone
  };

  EventLoop& loop;
  Pages pages;
  evhttp* http = nullptr;
  evconnlistener* listener = nullptr;  // owned by http
  SocketAddress address;
  uint64_t requests = 0;
  std::set<std::shared_ptr<Waiting>> waiting;
  Timer room_timer;

  State(EventLoop& on, Pages with) : loop(on), pages(std::move(with)) {
    room_timer.set([](void* self) { static_cast<State*>(self)->look_for_room(); }, this);
  }

  void stop() {
    for (const std::shared_ptr<Waiting>& one : waiting) one->request = nullptr;
    waiting.clear();
    room_timer.cancel();
    if (http != nullptr) evhttp_free(http);
    http = nullptr;
    listener = nullptr;
    address = SocketAddress();
  }

  // evhttp asks for a bufferevent with each connection that it accepts.
  static bufferevent* on_connection(event_base* base, void* self) {
    auto* state = static_cast<State*>(self);
    // The new one has its descriptor already.
    if (count_connections(state->address, state->listener_fd()) >= kHttpConnectionsMax) {
      evconnlistener_disable(state->listener);
      state->loop.arm(state->room_timer, kLookForRoom);
    }
    return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
  }

  int listener_fd() const { return evconnlistener_get_fd(listener); }

  void look_for_room() {
    if (listener == nullptr) return;
    if (count_connections(address, listener_fd()) >= kHttpConnectionsMax) {
      loop.arm(room_timer, kLookForRoom);
    } else {
      evconnlistener_enable(listener);
    }
  }

  static void on_request(evhttp_request* request, void* self) {
    static_cast<State*>(self)->take(request);
  }

  void take(evhttp_request* request) {
    ++requests;
    const evhttp_cmd_type method = evhttp_request_get_command(request);
    const evhttp_uri* uri = evhttp_request_get_evhttp_uri(request);
    const char* text = uri != nullptr ? evhttp_uri_get_path(uri) : nullptr;
    const std::string_view path = text != nullptr ? text : "";
    if (path.starts_with("/v1/")) return take_api(request, path);
    const bool is_page =
        path == "/metrics" || path == "/health" || path == "/ready" || path == "/status";
    if (!is_page) return send(request, {404, HttpAnswer().type, "not found\n"});
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
      evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET, HEAD");
      return send(request, {405, HttpAnswer().type, "only GET and HEAD\n"});
    }
    if (path == "/health") return send(request, {200, HttpAnswer().type, "ok\n"});
    const auto& page = path == "/metrics" ? pages.metrics
                       : path == "/ready" ? pages.ready
                                          : pages.status;
    page(later(request));
  }

  static std::string method_of(evhttp_cmd_type method) {
    switch (method) {
      case EVHTTP_REQ_GET:
        return "GET";
      case EVHTTP_REQ_HEAD:
        return "HEAD";
      case EVHTTP_REQ_PUT:
        return "PUT";
      case EVHTTP_REQ_DELETE:
        return "DELETE";
      case EVHTTP_REQ_POST:
        return "POST";
      default:
        return "this method";
    }
  }

  void take_api(evhttp_request* request, std::string_view path) {
    HttpRequest asked;
    asked.method = method_of(evhttp_request_get_command(request));
    asked.path = path;
    asked.local = address.is_unix();
    const char* field =
        evhttp_find_header(evhttp_request_get_input_headers(request), "Authorization");
    if (field != nullptr) asked.authorization = field;
    evbuffer* body = evhttp_request_get_input_buffer(request);
    const size_t size = evbuffer_get_length(body);
    asked.body.resize(size);
    evbuffer_copyout(body, asked.body.data(), size);
    pages.api(asked, later(request));
  }

  // An answer for when it comes; the request may be gone by then, and all of this too.
  Answer later(evhttp_request* request) {
    auto one = std::make_shared<Waiting>(Waiting{this, request});
    waiting.insert(one);
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), &State::on_close, this);
    return [weak = std::weak_ptr<Waiting>(one)](const HttpAnswer& answer) {
      const std::shared_ptr<Waiting> found = weak.lock();
      if (!found || found->request == nullptr) return;
      State* state = found->state;
      state->waiting.erase(found);
      state->send(found->request, answer);
    };
  }

  static void on_close(evhttp_connection* connection, void* self) {
    auto* state = static_cast<State*>(self);
    std::erase_if(state->waiting, [connection](const std::shared_ptr<Waiting>& one) {
      if (evhttp_request_get_connection(one->request) != connection) return false;
      one->request = nullptr;
      return true;
    });
  }

  void send(evhttp_request* request, const HttpAnswer& answer) {
    evkeyvalq* fields = evhttp_request_get_output_headers(request);
    evhttp_add_header(fields, "Content-Type", answer.type.c_str());
    evhttp_add_header(fields, "Cache-Control", "no-store");
    evhttp_add_header(fields, "X-Content-Type-Options", "nosniff");
    if (answer.code == 401) evhttp_add_header(fields, "WWW-Authenticate", "Bearer");
    evhttp_add_header(fields, "Content-Length", std::to_string(answer.body.size()).c_str());
    evbuffer* body = nullptr;
    if (evhttp_request_get_command(request) != EVHTTP_REQ_HEAD) {
      body = evbuffer_new();
      if (body != nullptr) evbuffer_add(body, answer.body.data(), answer.body.size());
    }
    evhttp_send_reply(request, answer.code, reason_of(answer.code), body);
    if (body != nullptr) evbuffer_free(body);
  }
};

HttpStatus::HttpStatus(EventLoop& loop, Pages pages)
    : state_(std::make_unique<State>(loop, std::move(pages))) {}

HttpStatus::~HttpStatus() {
  state_->stop();
}

Result<void> HttpStatus::listen(const SocketAddress& address) {
  state_->stop();
  if (address.is_none()) return {};
  ListenOptions options;
  options.backlog = kBacklog;
  options.reuse_port = false;
  options.unix_mode = 0660;
  Result<UniqueFd> fd = listen_at(address, options);
  if (!fd) return fd.error();
  Result<SocketAddress> local = local_address(fd->get());
  if (!local) return local.error();
  state_->http = evhttp_new(state_->loop.base());
  if (state_->http == nullptr) return Error{"out of memory"};
  evhttp* http = state_->http;
  evhttp_set_allowed_methods(http, kAllMethods);
  evhttp_set_max_headers_size(http, kHttpHeadMax);
  evhttp_set_max_body_size(http, kHttpBodyMax);
  evhttp_set_timeout(http, kHttpIdle);
  evhttp_set_gencb(http, &State::on_request, state_.get());
  evhttp_set_bevcb(http, &State::on_connection, state_.get());
  evhttp_bound_socket* bound = evhttp_accept_socket_with_handle(http, fd->get());
  if (bound == nullptr) {
    state_->stop();
    return Error{"cannot listen at " + address.format()};
  }
  (void)fd->release();  // evhttp closes it
  state_->listener = evhttp_bound_socket_get_listener(bound);
  state_->address = *local;
  return {};
}

const SocketAddress& HttpStatus::address() const {
  return state_->address;
}

uint64_t HttpStatus::requests() const {
  return state_->requests;
}

}  // namespace gatehouse
