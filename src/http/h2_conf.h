// The keys of [listener] that belong to HTTP/2, beside those that all protocols share
// (http/route_conf.h).
#pragma once

#include <cstdint>

#include "core/directive.h"
#include "core/units.h"
#include "http/h2_guard.h"

namespace gatehouse {

struct H2Conf {
  uint32_t max_streams = 128;
  Bytes stream_window = 256_KiB;
  Bytes connection_window = 1_MiB;
  // In ten seconds, for each connection.
  uint32_t resets_max = 1000;
  uint32_t pings_max = 200;
  uint32_t settings_max = 50;
  uint32_t empty_frames_max = 200;
  uint32_t priorities_max = 1000;
  uint32_t window_updates_max = 5000;

  H2Budgets budgets() const;
};

extern const DirectiveTable kH2Table;

}  // namespace gatehouse
