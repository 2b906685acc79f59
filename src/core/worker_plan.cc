// Packing a WorkerPlan. See worker_plan.h.
#include "core/worker_plan.h"

#include <utility>

#include "core/packer.h"

namespace gatehouse {
namespace {

constexpr std::string_view kMagic = "gatehouse worker plan 1\n";

SocketAddress unpack_address(Unpacker& unpacker, bool& ok) {
  Result<SocketAddress> address = SocketAddress::parse(unpacker.text());
  ok = ok && address.ok();
  return address ? *address : SocketAddress();
}

}  // namespace

std::string pack_worker_plan(const WorkerPlan& plan) {
  Packer packer(kMagic);
  packer.put(plan.generation);
  packer.put(uint64_t{plan.parked});
  packer.put(plan.connections_max);
  packer.put(static_cast<uint64_t>(plan.drain_timeout.count()));
  packer.put(plan.names.size());
  for (const auto& [name, address] : plan.names) {
    packer.put(name);
    packer.put(address.format());
  }
  packer.put(plan.sockets.size());
  for (const WorkerSocket& socket : plan.sockets) {
    packer.put(socket.id);
    packer.put(socket.listener);
    packer.put(socket.address.format());
    packer.put(uint64_t{socket.is_new});
  }
  packer.put(plan.logs.size());
  for (const WorkerLog& log : plan.logs) {
    packer.put(log.id);
    packer.put(log.path);
    packer.put(uint64_t{log.is_new});
  }
  return packer.take();
}

Result<WorkerPlan> unpack_worker_plan(std::string_view bytes) {
  Unpacker unpacker(bytes, kMagic);
  bool ok = true;
  WorkerPlan plan;
  plan.generation = static_cast<uint32_t>(unpacker.number(UINT32_MAX));
  plan.parked = unpacker.number(1) == 1;
  plan.connections_max = static_cast<uint32_t>(unpacker.number(UINT32_MAX));
  plan.drain_timeout = Duration(static_cast<int64_t>(unpacker.number(INT64_MAX)));
  for (uint64_t left = unpacker.number(bytes.size()); left > 0 && unpacker.ok(); --left) {
    std::string name = unpacker.text();
    plan.names.emplace(std::move(name), unpack_address(unpacker, ok));
  }
  for (uint64_t left = unpacker.number(bytes.size()); left > 0 && unpacker.ok(); --left) {
    WorkerSocket socket;
    socket.id = unpacker.number(UINT64_MAX);
    socket.listener = unpacker.text();
    socket.address = unpack_address(unpacker, ok);
    socket.is_new = unpacker.number(1) == 1;
    plan.sockets.push_back(std::move(socket));
  }
  for (uint64_t left = unpacker.number(bytes.size()); left > 0 && unpacker.ok(); --left) {
    WorkerLog log;
    log.id = unpacker.number(UINT64_MAX);
    log.path = unpacker.text();
    log.is_new = unpacker.number(1) == 1;
    plan.logs.push_back(std::move(log));
  }
  if (!ok || !unpacker.at_end()) return Error{"a worker's plan is malformed"};
  return plan;
}

}  // namespace gatehouse
