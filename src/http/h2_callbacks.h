// What libnghttp2 calls while it reads and writes frames for an H2Session; see h2_session.h.
#pragma once

#include <nghttp2/nghttp2.h>

namespace gatehouse {

// Made once a thread, kept for its life.
const nghttp2_session_callbacks* h2_callbacks();
const nghttp2_option* h2_options();

}  // namespace gatehouse
