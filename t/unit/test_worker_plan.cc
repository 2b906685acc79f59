// A plan that was packed comes back the same; anything else is refused.
#include "core/worker_plan.h"

#include <criterion/criterion.h>

#include "core/sealed_bytes.h"

namespace {

using gatehouse::pack_worker_plan;
using gatehouse::Result;
using gatehouse::SocketAddress;
using gatehouse::unpack_worker_plan;
using gatehouse::WorkerPlan;

WorkerPlan some_plan() {
  WorkerPlan plan;
  plan.generation = 7;
  plan.parked = true;
  plan.connections_max = 12;
  plan.drain_timeout = gatehouse::Duration(3500);
  plan.names.emplace("users:80", *SocketAddress::parse("127.0.0.1:80"));
  plan.sockets.push_back(
      {.id = 3, .listener = "public", .address = *SocketAddress::parse("[::1]:8080")});
  plan.sockets.push_back({.id = 4,
                          .listener = "",
                          .address = *SocketAddress::parse("unix:/run/with space"),
                          .is_new = false});
  plan.logs.push_back({.id = 9, .path = "/var/log/a b.log", .is_new = false});
  return plan;
}

}  // namespace

TestSuite(worker_plan, .timeout = 20);

Test(worker_plan, comes_back_as_it_was) {
  const WorkerPlan plan = some_plan();
  const Result<WorkerPlan> copy = unpack_worker_plan(pack_worker_plan(plan));
  cr_assert(copy.ok());
  cr_assert_eq(copy->generation, 7);
  cr_assert(copy->parked);
  cr_assert_eq(copy->connections_max, 12);
  cr_assert_eq(copy->drain_timeout.count(), 3500);
  cr_assert(copy->names == plan.names);
  cr_assert_eq(copy->sockets.size(), 2);
  cr_assert_eq(copy->sockets[0].id, 3);
  cr_assert(copy->sockets[0].is_new);
  cr_assert_eq(copy->sockets[1].address, plan.sockets[1].address);
  cr_assert_not(copy->sockets[1].is_new);
  cr_assert_eq(copy->sockets[1].fd, -1);
  cr_assert_eq(copy->logs.size(), 1);
  cr_assert_eq(copy->logs[0].path, "/var/log/a b.log");
}

Test(worker_plan, is_refused_when_cut_anywhere_or_too_long) {
  const std::string whole = pack_worker_plan(some_plan());
  for (size_t size = 0; size < whole.size(); ++size) {
    cr_assert_not(unpack_worker_plan(whole.substr(0, size)).ok(), "%zu bytes", size);
  }
  cr_assert_not(unpack_worker_plan(whole + "x").ok());
}

Test(worker_plan, travels_sealed) {
  const std::string bytes = pack_worker_plan(some_plan());
  Result<gatehouse::UniqueFd> fd = gatehouse::seal_bytes("plan", bytes);
  cr_assert(fd.ok());
  cr_assert_eq(gatehouse::read_sealed(fd->get(), gatehouse::kWorkerPlanMax).value(), bytes);
  cr_assert_not(gatehouse::read_sealed(fd->get(), bytes.size() - 1).ok());
  cr_assert_not(gatehouse::read_sealed(0, 100).ok());
}
