// See target_transport.h.
#include "http/target_transport.h"

#include <fmt/format.h>

#include <utility>

#include "http/upstream_tls.h"

namespace gatehouse {

std::shared_ptr<const TargetTransport> make_transport(const UpstreamConf& conf,
                                                      std::shared_ptr<const UpstreamTls> tls) {
  if (tls == nullptr && conf.protocol != UpstreamProtocol::kH2) return nullptr;
  auto transport = std::make_shared<TargetTransport>();
  transport->tls = std::move(tls);
  transport->protocol = conf.spoken();
  transport->h2.head_max = conf.head_max.count;
  transport->h2.fields_max = conf.fields_max;
  transport->h2.window = static_cast<uint32_t>(conf.h2_window.count);
  transport->connect_timeout = conf.connect_timeout;
  transport->write_timeout = conf.write_timeout;
  transport->keepalive_timeout = conf.keepalive_timeout;
  transport->keepalive_age = conf.keepalive_age;
  transport->keepalive_requests = conf.keepalive_requests;
  transport->keeps_idle = conf.keepalive != 0;
  transport->key = fmt::format(
      " {} {} {} {} {} {} {} {} {}{}", ValueType<UpstreamProtocol>::format(conf.spoken()),
      conf.head_max.count, conf.fields_max, conf.h2_window.count, conf.connect_timeout.count(),
      conf.write_timeout.count(), conf.keepalive_timeout.count(), conf.keepalive_age.count(),
      conf.keepalive_requests, transport->tls != nullptr ? transport->tls->key : "");
  return transport;
}

}  // namespace gatehouse
