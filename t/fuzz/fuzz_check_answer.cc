// A checker's answer from hostile bytes: refused, or taken, and then the same after a journey there
// and back; what is taken stays in the ranges that the master relies on.
#include "core/check_answer.h"
#include "support.h"

using namespace gatehouse;  // NOLINT: a program of its own

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Result<CheckAnswer> answer = check_answer_from_json(bytes);
  if (!answer) {
    fuzz::require(!answer.error().message.empty(), "a refusal says why");
    return 0;
  }
  if (answer->errors.empty() && answer->wanted.empty()) {
    fuzz::require(!answer->plan.pools.empty(), "there is a pool");
    for (const PoolPlan& pool : answer->plan.pools) {
      fuzz::require(pool.workers >= 1 && pool.workers <= 1 << 14, "a pool has workers");
    }
    for (const ListenerPlan& listener : answer->plan.listeners) {
      fuzz::require(listener.backlog >= 1, "a queue has room");
    }
    fuzz::require(answer->plan.reload_timeout >= Duration(0), "time goes on");
  }
  const std::string json = check_answer_to_json(*answer);
  const Result<CheckAnswer> copy = check_answer_from_json(json);
  fuzz::require(copy.ok() && check_answer_to_json(*copy) == json, "it comes back as it was");
  return 0;
}
