// UpstreamSplit: a route's requests shared out among several upstreams.
//
// How it is written is in http/split_conf.h. Sides with a condition are asked in order; whoever is
// left is dealt to the sides with a share: each request by a draw of its own, or, with `sticky
// cookie`, by where the client stands.
//
// A sticky client has a point, 64 random bits in a cookie of the gateway, and a tag that only the
// gateway can make; any other value counts as none. Which side the point belongs to follows from
// the shares of the moment by weighted rendezvous hashing: each side scores -ln(h(point, side)) /
// share, and the lowest score has the client. So the cookie says nothing of upstreams, clients come
// out in proportion to the shares, and when shares change a client moves only to a side whose share
// has grown against that of the side it leaves: whoever is on the new side stays there while it
// grows.
//
// The chosen upstream does what it does for a route of its own: where it has no target, that is its
// matter and its `fallback`'s; the other side is not asked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/canary.h"
#include "core/config.h"
#include "core/keyed_hash.h"
#include "core/metrics.h"
#include "core/shared_memory.h"
#include "core/task.h"
#include "http/exchange.h"
#include "http/split_conf.h"
#include "http/upstream.h"

namespace gatehouse {

// What a side weighs: shares in hundredths of a percent.
struct SplitWeight {
  uint64_t identity = 0;  // of the upstream, from its name; the same in every process
  uint32_t share = 0;
};

uint64_t split_identity(std::string_view upstream);

// The side that a draw (of 64 random bits) falls to. REQUIRES: a share above 0.
size_t split_by_draw(std::span<const SplitWeight> sides, uint64_t draw);
// The side that a client's point belongs to. REQUIRES: a share above 0.
size_t split_by_point(std::span<const SplitWeight> sides, uint64_t point);

// What stands in the cookie of that name: 32 hexadecimal digits, the point and its tag.
inline constexpr size_t kSplitCookieSize = 32;
void write_split_cookie(HashKey key, std::string_view name, uint64_t point,
                        char (&into)[kSplitCookieSize]);
// The point; nothing where the value is not one that this key has made for this name.
std::optional<uint64_t> read_split_cookie(HashKey key, std::string_view name,
                                          std::string_view value);

// A canary of the route: its share is in shared memory (core/canary.h).
struct SplitCanary {
  const ConfigSection* section = nullptr;  // [canary]
  const Upstream* fresh = nullptr;
  const Upstream* stable = nullptr;
  std::string row_name;
};

class UpstreamSplit {
 public:
  // `upstreams` are those of the sides, in their order. `secret`: see bind(). `canary`: where its
  // `section` is set; there are two sides without a condition then, fresh and stable.
  UpstreamSplit(RouteUpstream conf, std::vector<const Upstream*> upstreams, std::string_view secret,
                SplitCanary canary = {});
  ~UpstreamSplit();
  UpstreamSplit(const UpstreamSplit&) = delete;
  UpstreamSplit& operator=(const UpstreamSplit&) = delete;

  // Makes it ready for a worker. Cookies get their key: from the secret of the configuration, where
  // there is one, else from that of the segment.
  void bind_key(const std::array<uint8_t, 16>& segment_secret);
  // Holds the canary's row, where there is a canary; the destructor lets go of it. `metrics` are
  // those of the calling thread.
  Result<void> bind(SharedMemory& shared, uint32_t worker_row, Metrics& metrics);

  // The side that takes the exchange; a sticky client that has no cookie yet gets one.
  const Upstream& choose(Exchange& exchange) const;

  // The side whose condition holds for these fields; null where none does.
  const SplitSide* side_by_condition(const FieldList& fields) const;

  const RouteUpstream& conf() const { return conf_; }
  // Null where there is none.
  const SplitCanary* canary() const { return canary_.section != nullptr ? &canary_ : nullptr; }
  // In the order of conf().sides.
  std::span<const Upstream* const> upstreams() const { return upstreams_; }

 private:
  uint64_t point_of(Exchange& exchange) const;
  size_t deal(Exchange& exchange, std::span<const SplitWeight> weights) const;
  const Upstream& chosen(Exchange& exchange, size_t side) const;

  const RouteUpstream conf_;
  std::vector<const Upstream*> upstreams_;
  std::vector<uint32_t> asked_;       // numbers of the sides with a condition
  std::vector<uint32_t> dealt_;       // of the others
  std::vector<SplitWeight> weights_;  // in the order of dealt_
  std::string secret_;
  HashKey key_;
  SplitCanary canary_;
  size_t fresh_ = 0;  // the canary's new side, in weights_
  // Of the worker.
  std::vector<SeriesCells*> cells_;  // of the upstreams, by side
  std::unique_ptr<TrafficTable> table_;
  uint32_t worker_row_ = 0;
  uint32_t row_index_ = 0;
  const TrafficRow* row_ = nullptr;  // the canary's; null: none is held
};

// An ActionFunction; `state` is the route's UpstreamSplit.
Task<void> split_action(Exchange& exchange, const void* state);

}  // namespace gatehouse
