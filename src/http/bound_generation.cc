// Making a generation ready for a worker; see bound_generation.h.
#include "http/bound_generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/certificate_conf.h"
#include "core/log_conf.h"
#include "core/process_conf.h"
#include "http/module.h"
#include "http/route.h"
#include "http/target_binding.h"
#include "http/target_states.h"

namespace gatehouse {

LogWriter* BoundGeneration::log_writer(std::string_view log_name) const {
  for (const BoundLog& log : logs) {
    if (log.name == log_name) return log.writer.get();
  }
  return nullptr;
}

Result<std::unique_ptr<BoundGeneration>> GenerationBinder::bind(
    Order order, const std::atomic<bool>& discarded) {
  auto bound = std::make_unique<BoundGeneration>(worker_.shared, worker_.row);
  bound->plan = std::move(order.plan);
  if (Result<void> done = take_descriptors(order, *bound); !done) return done.error();
  if (discarded.load(std::memory_order_relaxed)) return Error{"discarded"};
  if (Result<void> done = compile(order, *bound); !done) return done.error();
  if (discarded.load(std::memory_order_relaxed)) return Error{"discarded"};
  if (Result<void> done = bind_certificates(order, *bound->generation); !done) return done.error();
  if (Result<void> done = bind_cells(*bound->generation); !done) return done.error();
  if (Result<void> done = bind_rows(*bound); !done) return done.error();
  if (Result<void> done = bind_tickets(*bound->generation); !done) return done.error();
  if (Result<void> done = bind_logs(order, *bound); !done) return done.error();
  for (const Module* module : bound->generation->modules()) {
    if (module->attach == nullptr) continue;
    if (Result<void> done = module->attach(*bound); !done) return done.error();
  }
  for (const auto& upstream : bound->generation->upstreams()) {
    for (const UpstreamTarget& target : upstream->configured.targets) {
      bound->target_keys.push_back(TargetStates::key_of(target));
    }
  }
  return bound;
}

Result<void> GenerationBinder::take_descriptors(Order& order, BoundGeneration& bound) {
  size_t next = 0;
  const auto take = [&] {
    return next < order.new_fds.size() ? std::move(order.new_fds[next++]) : UniqueFd();
  };
  for (WorkerSocket& socket : bound.plan.sockets) {
    if (!socket.is_new) continue;
    UniqueFd fd = take();
    if (!fd) return Error{"the socket of listener " + socket.listener + " was not passed"};
    socket.fd = fd.get();
    bound.new_sockets[socket.id] = std::move(fd);
  }
  for (WorkerLog& log : bound.plan.logs) {
    std::shared_ptr<LogFile> file;
    if (log.is_new) {
      file = std::make_shared<LogFile>(LogFile{log.id, log.path, take()});
      if (!file->fd) return Error{"the log file " + log.path + " was not passed"};
    } else {
      for (const auto& known : order.files) {
        if (known->id == log.id) file = known;
      }
      if (file == nullptr) return Error{"the worker does not have the log file " + log.path};
    }
    log.fd = file->fd.get();
    bound.files.push_back(std::move(file));
  }
  return {};
}

Result<void> GenerationBinder::compile(Order& order, BoundGeneration& bound) {
  Result<ConfigSource> source = ConfigSource::from_memfd(order.config.get());
  if (!source) return source.error();
  order.config.reset();
  ConfigErrors errors;
  bound.generation = Generation::build(std::make_shared<const ConfigSource>(std::move(*source)),
                                       worker_.schema, worker_.modules, bound.plan.names, errors);
  if (bound.generation == nullptr) return Error{errors.text()};
  for (const WorkerSocket& socket : bound.plan.sockets) {
    if (bound.generation->find_listener(socket.listener) != nullptr) continue;
    return Error{"no [listener " + socket.listener + "] for a socket of that name"};
  }
  return {};
}

Result<void> GenerationBinder::bind_certificates(Order& order, Generation& generation) {
  if (generation.config().sections("certificate").empty()) return {};
  if (!order.certificates) return Error{"the certificates were not passed"};
  Result<std::shared_ptr<const CertificateSet>> set =
      CertificateSet::from_bundle(order.certificates.get());
  if (!set) return set.error();
  if ((*set)->sections_hash() != sections_hash_of(generation.config())) {
    return Error{"the certificates are those of another configuration"};
  }
  generation.certificates().exchange(std::move(*set));
  return {};
}

Result<void> GenerationBinder::bind_cells(Generation& generation) {
  if (metrics_ == nullptr) {
    Result<std::unique_ptr<Metrics>> metrics = Metrics::open(worker_.shared, worker_.rows);
    if (!metrics) return Error{"metrics: " + metrics.error().message};
    metrics_ = std::move(*metrics);
  }
  const uint32_t row = worker_.row;
  for (const auto& upstream : generation.upstreams()) {
    // Registers the name; its figures are the sums of its targets.
    (void)metrics_->cells(row, SeriesKind::kUpstream, upstream->name);
    for (UpstreamTarget& target : upstream->configured.targets) {
      target.cells = &metrics_->cells(row, SeriesKind::kTarget, target.name);
    }
  }
  for (const auto& route : generation.routes()) {
    route->cells = &metrics_->cells(row, SeriesKind::kRoute, route->name);
    if (route->split == nullptr) continue;
    if (Result<void> done = route->split->bind(worker_.shared, row, *metrics_); !done) return done;
  }
  for (const auto& listener : generation.listeners()) {
    listener->cells = &metrics_->cells(row, SeriesKind::kListener, listener->name);
    listener->fallback->cells = &metrics_->cells(row, SeriesKind::kRoute, listener->fallback->name);
  }
  return {};
}

Result<void> GenerationBinder::bind_rows(BoundGeneration& bound) {
  if (traffic_ == nullptr) {
    Result<std::unique_ptr<TrafficTable>> traffic = TrafficTable::open(worker_.shared);
    if (!traffic) return traffic.error();
    if (Result<void> opened = (*traffic)->open_column(worker_.row); !opened) return opened;
    traffic_ = std::move(*traffic);
  }
  const auto upstreams = bound.generation->upstreams();
  if (std::any_of(upstreams.begin(), upstreams.end(),
                  [](const auto& upstream) { return upstream->has_members; })) {
    const auto& conf =
        bound.generation->config().sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
    Result<MemberLists> lists =
        MemberLists::open(worker_.shared, {conf.discovered_upstreams, conf.discovered_targets});
    if (!lists) return lists.error();
    bound.lists = std::move(*lists);
  }
  bound.rows = RowHolds(*traffic_, worker_.row);
  for (const auto& upstream : bound.generation->upstreams()) {
    const HashKey key = sticky_key(*upstream->conf, worker_.shared);
    if (Result<void> done = bind_upstream(*upstream, bound.rows, key); !done) return done;
  }
  return {};
}

Result<void> GenerationBinder::bind_tickets(Generation& generation) {
  for (const auto& listener : generation.listeners()) {
    if (listener->tls == nullptr) continue;
    if (ticket_keys_ == nullptr) {
      Result<std::unique_ptr<TlsTicketKeys>> keys = TlsTicketKeys::open(worker_.shared);
      if (!keys) return keys.error();
      ticket_keys_ = std::move(*keys);
    }
    listener->tls->use_ticket_keys(ticket_keys_);
  }
  return {};
}

Result<void> GenerationBinder::bind_logs(Order& order, BoundGeneration& bound) {
  for (const ConfigSection& section : bound.generation->config().sections("log")) {
    const LogConf& conf = section.get<LogConf>(kLogTable);
    BoundLog log;
    log.name = section.name();
    log.options.buffer = conf.buffer.count;
    log.options.flush = conf.flush;
    for (const auto& file : bound.files) {
      if (file->path == conf.file) log.file = file;
    }
    if (log.file == nullptr) return Error{"the master has not opened the log file " + conf.file};
    for (const BoundLog& known : order.logs) {
      if (known.name == log.name && known.file == log.file) log.writer = known.writer;
    }
    if (log.writer == nullptr) {
      Result<LogTail*> tail = shared_log_tail(worker_.shared, log.file->path);
      if (!tail) return tail.error();
      log.writer =
          std::make_shared<LogWriter>(worker_.loop, log.name, log.file->fd.get(), worker_.row + 1,
                                      &metrics_->worker_cells(worker_.row), *tail, log.options);
    }
    bound.logs.push_back(std::move(log));
  }
  return {};
}

}  // namespace gatehouse
