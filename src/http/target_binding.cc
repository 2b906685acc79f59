// See target_binding.h.
#include "http/target_binding.h"

#include <string>

#include "http/balancer.h"
#include "http/traffic_plan.h"

namespace gatehouse {

HashKey sticky_key(const UpstreamConf& conf, const SharedMemory& shared) {
  const std::string& secret = conf.sticky_secret;
  if (secret.empty()) return HashKey::from_bytes(shared.secret());
  // Any text makes a key: two hashes of it, under two keys that need not be secret.
  return {siphash<2, 4>(HashKey{1, 0}, secret.data(), secret.size()),
          siphash<2, 4>(HashKey{2, 0}, secret.data(), secret.size())};
}

uint64_t sticky_id(HashKey key, std::string_view target_name) {
  return siphash<2, 4>(key, target_name.data(), target_name.size());
}

Result<void> bind_upstream(Upstream& upstream, RowHolds& rows, HashKey key) {
  UpstreamPolicy* const policy = upstream.policy.get();
  const bool policy_needs_row = policy != nullptr && policy->conf->needs_upstream_row();
  if (upstream.plain && !policy_needs_row) return {};
  Result<uint32_t> index = rows.hold(TrafficKind::kUpstream, traffic_name(upstream));
  if (!index) return index.error();
  upstream.row_index = *index;
  upstream.row = &rows.table().row(*index);
  breaker_set_configured(*upstream.row,
                         policy != nullptr && policy->conf->upstream_breaker.rules.any());
  if (policy_needs_row) {
    policy->cells = {&rows.table(), *index, upstream.row,
                     &rows.table().cell(rows.worker_row(), *index)};
  }
  if (upstream.plain) return {};
  for (UpstreamTarget& target : upstream.configured.targets) {
    if (Result<void> bound = bind_target(upstream, target, rows, key); !bound) return bound;
  }
  return {};
}

Result<void> bind_target(const Upstream& upstream, UpstreamTarget& target, RowHolds& rows,
                         HashKey key) {
  target.seed = target_seed(target.name);
  if (upstream.conf->balance.method == BalanceMethod::kSticky) {
    target.sticky_id = sticky_id(key, target.name);
  }
  Result<uint32_t> index = rows.hold(TrafficKind::kTarget, target.name);
  if (!index) return index.error();
  target.row_index = *index;
  target.row = &rows.table().row(*index);
  breaker_set_configured(*target.row,
                         upstream.policy != nullptr && upstream.policy->conf->breaker.rules.any());
  target.row->settings.store(
      TargetSettings{target.weight, target.max_connections, target.backup, upstream.checked}.pack(),
      std::memory_order_relaxed);
  return {};
}

}  // namespace gatehouse
