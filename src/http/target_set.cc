// See target_set.h.
#include "http/target_set.h"

#include "http/target_states.h"

namespace gatehouse {

void TargetSet::release() {
  for (const UpstreamTarget& target : targets) {
    if (target.state != nullptr) states_->release(*target.state);
  }
  delete this;
}

}  // namespace gatehouse
