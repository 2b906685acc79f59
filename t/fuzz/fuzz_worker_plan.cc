// A worker's plan from hostile bytes: refused, or taken, and then the same after a journey there
// and back.
#include "core/worker_plan.h"
#include "support.h"

using namespace gatehouse;  // NOLINT: a program of its own

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Result<WorkerPlan> plan = unpack_worker_plan(bytes);
  if (!plan) {
    fuzz::require(!plan.error().message.empty(), "a refusal says why");
    return 0;
  }
  for (const WorkerSocket& socket : plan->sockets) {
    fuzz::require(socket.fd == -1, "descriptors come with the order");
  }
  const std::string packed = pack_worker_plan(*plan);
  const Result<WorkerPlan> copy = unpack_worker_plan(packed);
  fuzz::require(copy.ok() && pack_worker_plan(*copy) == packed, "it comes back as it was");
  return 0;
}
