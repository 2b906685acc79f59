// What an HTTP/2 client may do without moving anything: a budget for each known abuse.
//
// Frames that cost the gateway work and the client nothing are counted in windows of ten seconds:
// streams that are reset (by the client, or by the gateway because of what the client sent), PING,
// SETTINGS, frames without content, changes of priority, WINDOW_UPDATE. Over a budget the
// connection is ended with ENHANCE_YOUR_CALM. Bytes that do move add to the budgets of what a sound
// client sends along with them (window updates, and the pings by which some measure the path), so
// that these do not limit the speed of a download. Pure functions of the counts and the time; 56
// bytes.
#pragma once

#include <cstdint>

#include "core/units.h"
#include "http/reason.h"

namespace gatehouse {

enum class H2Event : uint8_t {
  kReset,
  kPing,
  kSettings,
  kEmpty,     // DATA without bytes or end, HEADERS without a field, frames of unknown types
  kPriority,  // PRIORITY, PRIORITY_UPDATE
  kWindow,
};
inline constexpr unsigned kH2Events = 6;

// How many of each in ten seconds.
struct H2Budgets {
  uint32_t most[kH2Events] = {};
};

class H2Guard {
 public:
  static constexpr Duration kWindow = std::chrono::seconds(10);

  explicit H2Guard(const H2Budgets& budgets) : budgets_(budgets) {}

  // Counts one event. kNone, or why the connection is to be ended.
  [[nodiscard]] Reason note(H2Event event, Moment now);
  // A DATA frame with content was sent or received.
  void moved() { ++moved_; }

 private:
  H2Budgets budgets_;
  Moment began_;
  uint32_t moved_ = 0;
  uint32_t counts_[kH2Events] = {};
};

}  // namespace gatehouse
