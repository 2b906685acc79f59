// See h2_guard.h.
#include "http/h2_guard.h"

#include <algorithm>

namespace gatehouse {
namespace {

// What each DATA frame adds to the budgets: a sound client sends at most a WINDOW_UPDATE for the
// stream and one for the connection, and pings at most once for what it receives.
constexpr uint32_t kPerDataFrame[kH2Events] = {0, 1, 0, 0, 0, 4};

constexpr Reason kReasons[kH2Events] = {
    Reason::kH2ResetFlood, Reason::kH2PingFlood,     Reason::kH2SettingsFlood,
    Reason::kH2EmptyFlood, Reason::kH2PriorityFlood, Reason::kH2WindowFlood,
};

}  // namespace

Reason H2Guard::note(H2Event event, Moment now) {
  if (now >= began_ + kWindow) {
    began_ = now;
    moved_ = 0;
    std::fill(std::begin(counts_), std::end(counts_), 0U);
  }
  const auto i = static_cast<unsigned>(event);
  const uint64_t most = budgets_.most[i] + uint64_t{kPerDataFrame[i]} * moved_;
  return ++counts_[i] > most ? kReasons[i] : Reason::kNone;
}

}  // namespace gatehouse
