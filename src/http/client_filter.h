// ClientFilter: a ClientSide in front of the session's own, for modules that change bodies.
//
// A hook of a route puts one in front (add_client_filter), and only exchanges of such routes pay
// for it. Handlers and sessions use exchange.client and cannot tell. What a filter does not
// override goes straight through, without a coroutine. Respond hooks run within the innermost
// send_head, after all filters have seen the head.
//
// A filter may change exchange.response in send_head before it hands on; it must then keep body,
// content and the fields that describe them in accord. After begin_tunnel it is not called for
// bytes any more, and must not look into the generation.
#pragma once

#include <new>
#include <string_view>
#include <utility>

#include "http/exchange.h"
#include "http/tunnel_end.h"

namespace gatehouse {

class ClientFilter : public ClientSide {
 public:
  explicit ClientFilter(Exchange& exchange) : exchange_(exchange), next_(*exchange.client) {}

  Task<BodyPiece> read_body() override { return next_.read_body(); }
  bool body_ready() const override { return next_.body_ready(); }
  FieldList* body_trailers() override { return next_.body_trailers(); }
  Task<bool> send_interim(uint16_t status, const FieldList& fields) override {
    return next_.send_interim(status, fields);
  }
  Task<bool> send_head(std::string_view first, bool last) override {
    return next_.send_head(first, last);
  }
  Task<bool> send_body(std::string_view bytes) override { return next_.send_body(bytes); }
  Task<bool> send_end(const FieldList* trailers) override { return next_.send_end(trailers); }
  bool head_sent() const override { return next_.head_sent(); }
  Task<bool> send_failure(Reason why) override { return next_.send_failure(why); }
  void abort() override { next_.abort(); }
  ClientTunnel begin_tunnel() override { return next_.begin_tunnel(); }
  std::string_view tunnel_unread() override { return next_.tunnel_unread(); }

 protected:
  Exchange& exchange_;
  ClientSide& next_;  // towards the client
};

// Puts a Filter(exchange, arguments...) in front of exchange.client. It lives in the arena until
// the exchange is over.
template <class Filter, class... Arguments>
Filter& add_client_filter(Exchange& exchange, Arguments&&... arguments) {
  void* place = exchange.arena.allocate(sizeof(Filter), alignof(Filter));
  auto* filter = new (place) Filter(exchange, std::forward<Arguments>(arguments)...);
  exchange.client = filter;
  exchange.at_end([](void* self) { static_cast<Filter*>(self)->~Filter(); }, filter);
  return *filter;
}

}  // namespace gatehouse
